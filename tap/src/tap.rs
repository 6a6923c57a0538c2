//! One queue of a tap interface: its descriptor, its framing, its attachment.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::c_int;

use crate::error::{Differences, Error};
use crate::name::IfName;
use crate::offload::Offloads;
use crate::sys::{self, IfReq, Refused};

/// Bytes of the virtio-net header before each frame, with `num_buffers`
/// (`VirtIO 1.4 §5.1.6`).
pub const VNET_HEADER_LEN: u32 = 12;

/// One queue of a tap interface.
///
/// Every method takes `&self` and the kernel serialises them, so a worker thread may move frames
/// while a control thread attaches, detaches or configures through [`Tap::try_clone`]. The
/// interface goes away with its last queue unless it is persistent.
pub struct Tap {
    fd: OwnedFd,
    created: bool,
    driver: Driver,
}

/// The kernel's driver behind a queue. Both take the same requests, save some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// Behind `/dev/net/tun`.
    Tun,
    /// Behind the character device of a macvtap or ipvtap interface.
    Macvtap,
}

/// Name and kind of a queue's interface: the pair by which the same interface is
/// recognised, since its index cannot be asked for through a queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: IfName,
    pub(crate) mac: [u8; 6],
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(
            f,
            "{} ({a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x})",
            self.name
        )
    }
}

impl Tap {
    /// Wraps a descriptor; whether it is a tap shows at the first request.
    pub(crate) fn from_parts(fd: OwnedFd, created: bool) -> Self {
        Self {
            fd,
            created,
            driver: Driver::Tun,
        }
    }

    /// The same queue, of this driver.
    pub(crate) fn of(self, driver: Driver) -> Self {
        Self { driver, ..self }
    }

    /// Puts the interface into the state in which every `Tap` starts.
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        self.set_vnet_header_len(VNET_HEADER_LEN)?;
        self.set_little_endian(true)?;
        self.set_offloads(Offloads::empty())?;
        // A persistent interface keeps those of a process that was killed.
        if self.driver == Driver::Tun {
            without_programs(self.set_filter(None))?;
            without_programs(self.set_steering(None))?;
        }
        Ok(())
    }

    /// Sets the offloads of the **whole interface**, not of this queue alone.
    ///
    /// # Errors
    ///
    /// A set that the kernel does not take is `EINVAL` and changes nothing.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<(), Error> {
        Ok(self.try_offloads(offloads)?)
    }

    /// [`Tap::set_offloads`] with the kernel's own answer.
    pub(crate) fn try_offloads(&self, offloads: Offloads) -> Result<(), Refused> {
        sys::TUNSETOFFLOAD.call(self.as_fd(), offloads.bits().into())
    }

    /// A second handle on the same queue, e.g. for a control thread.
    ///
    /// # Errors
    ///
    /// The limit of open files.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let fd = self.fd.try_clone().map_err(|source| Error::Request {
            request: "fcntl(F_DUPFD_CLOEXEC)",
            source,
        })?;
        Ok(Self::from_parts(fd, self.created).of(self.driver))
    }

    /// Returns whether opening this tap created its interface; false for descriptors handed in.
    pub fn was_created(&self) -> bool {
        self.created
    }

    /// The name of the interface, asked anew since an interface can be renamed; works from any
    /// network namespace.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the interface is gone.
    pub fn name(&self) -> Result<String, Error> {
        Ok(self.query()?.name().to_string())
    }

    /// Name and `IFF_*` flags of the queue.
    pub(crate) fn query(&self) -> Result<IfReq, Refused> {
        let mut request = IfReq::empty();
        sys::TUNGETIFF.call(self.as_fd(), &mut request)?;
        Ok(request)
    }

    pub(crate) fn identity(&self) -> Result<Identity, Error> {
        Ok(Identity {
            name: self.query()?.name(),
            mac: self.mac()?,
        })
    }

    /// Bytes of the virtio-net header before each frame, for the whole interface.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the interface is gone.
    pub fn vnet_header_len(&self) -> Result<u32, Error> {
        let mut length: c_int = 0;
        sys::TUNGETVNETHDRSZ.call(self.as_fd(), &mut length)?;
        Ok(length as u32)
    }

    /// Sets the bytes of the virtio-net header before each frame, for the whole interface: 10
    /// without `num_buffers`, [`VNET_HEADER_LEN`] with it. More is padding.
    ///
    /// # Errors
    ///
    /// `EINVAL` below 10.
    pub fn set_vnet_header_len(&self, length: u32) -> Result<(), Error> {
        let mut length = c_int::try_from(length).unwrap_or(c_int::MAX);
        Ok(sys::TUNSETVNETHDRSZ.call(self.as_fd(), &mut length)?)
    }

    /// Sets whether the header is little-endian, as `VirtIO 1.4 §1.4` wants it, or of the host's
    /// byte order, for the whole interface.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the interface is gone.
    pub fn set_little_endian(&self, little: bool) -> Result<(), Error> {
        Ok(sys::TUNSETVNETLE.call(self.as_fd(), &mut c_int::from(little))?)
    }

    /// Limits the bytes that written frames may hold in the kernel before a write is
    /// `WouldBlock`; without a call there is no limit worth the name.
    ///
    /// # Errors
    ///
    /// `EINVAL` for 0.
    pub fn set_send_buffer(&self, bytes: u32) -> Result<(), Error> {
        let mut bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        Ok(sys::TUNSETSNDBUF.call(self.as_fd(), &mut bytes)?)
    }

    /// Sets whether the interface outlives its last queue.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the interface is gone.
    pub fn set_persist(&self, persist: bool) -> Result<(), Error> {
        Ok(sys::TUNSETPERSIST.call(self.as_fd(), persist.into())?)
    }

    /// Lets this queue receive flows again. Attaching an attached queue changes nothing.
    ///
    /// # Errors
    ///
    /// `E2BIG` when all queues of the interface are taken.
    pub fn attach_queue(&self) -> Result<(), Error> {
        self.set_queue(true)
    }

    /// Keeps flows from this queue; the kernel spreads them over the queues still attached.
    ///
    /// Frames not read yet are lost, writes still work. Detaching a detached queue changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Different`] for a single-queue interface, whose only queue cannot be detached.
    pub fn detach_queue(&self) -> Result<(), Error> {
        self.set_queue(false)
    }

    /// Returns whether this queue receives flows. Of a macvtap's queue this is not known, and taken
    /// to be.
    ///
    /// # Errors
    ///
    /// `EBADFD` when the interface is gone.
    pub fn is_queue_attached(&self) -> Result<bool, Error> {
        Ok(is_attached(&self.query()?))
    }

    fn set_queue(&self, attached: bool) -> Result<(), Error> {
        let flag = if attached {
            libc::IFF_ATTACH_QUEUE
        } else {
            libc::IFF_DETACH_QUEUE
        };
        let result = sys::TUNSETQUEUE.call(self.as_fd(), &mut IfReq::empty().with_flags(flag));
        let Err(refused) = result else { return Ok(()) };
        if refused.errno() != Some(libc::EINVAL) {
            return Err(refused.into());
        }
        // EINVAL says that the queue is so already, perhaps by another handle, or that it cannot
        // be. The kernel knows which, so no state is kept here that could disagree with it.
        let now = self.query()?;
        // Macvtap knows but does not say, and refuses for the first of the reasons only.
        if is_attached(&now) == attached || self.driver == Driver::Macvtap {
            Ok(())
        } else if now.flags() & libc::IFF_MULTI_QUEUE == 0 {
            Err(Error::Different {
                name: now.name().to_string(),
                differences: Differences::SINGLE_QUEUE,
            })
        } else {
            Err(refused.into())
        }
    }
}

/// The result of a request to take a program away, which kernels without such programs refuse.
fn without_programs(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Request { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        done => done,
    }
}

fn is_attached(queue: &IfReq) -> bool {
    queue.flags() & libc::IFF_DETACH_QUEUE == 0
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<Tap> for OwnedFd {
    fn from(tap: Tap) -> Self {
        tap.fd
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("fd", &self.fd)
            .field("name", &self.name().ok())
            .field("created", &self.created)
            .finish()
    }
}
