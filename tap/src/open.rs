//! Getting hold of taps: by name, by template, or by descriptors that another process opened.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::c_int;

use crate::error::{Differences, Error};
use crate::ifconfig::{ipv4_mask, ipv6_prefix};
use crate::name::IfName;
use crate::sys::{self, IfReq, Ipv4Socket, MAX_QUEUES, Refused};
use crate::tap::{Driver, Identity, Tap};

/// Interface flags of every tap of this crate; `IFF_MULTI_QUEUE` comes on top.
const KIND: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Options for opening a tap interface.
///
/// MTU, MAC and addresses are applied only when opening creates the interface. One that existed
/// before keeps its own.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct TapOptions {
    name: String,
    queues: usize,
    multi_queue: bool,
    mac: Option<[u8; 6]>,
    mtu: Option<u16>,
    ipv4: Option<(Ipv4Addr, u8)>,
    ipv6: Option<(Ipv6Addr, u8)>,
    up: bool,
}

impl TapOptions {
    /// One queue of the interface of this name, or of a new one named from a template such as
    /// `vmtap%d`, where the kernel puts the first free number.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            queues: 1,
            multi_queue: false,
            mac: None,
            mtu: None,
            ipv4: None,
            ipv6: None,
            up: false,
        }
    }

    /// Opens this many queues, 1 to [`MAX_QUEUES`].
    pub fn queues(mut self, queues: usize) -> Self {
        self.queues = queues;
        self
    }

    /// Requests a multi-queue interface even for one queue, as an existing one needs it. Several
    /// queues imply it.
    pub fn multi_queue(mut self, multi_queue: bool) -> Self {
        self.multi_queue = multi_queue;
        self
    }

    /// MAC address of the host's end, if the interface is created.
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = Some(mac);
        self
    }

    /// MTU in bytes, if the interface is created.
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// IPv4 address of the host's end and its prefix length, if the interface is created.
    pub fn ipv4(mut self, address: Ipv4Addr, prefix: u8) -> Self {
        self.ipv4 = Some((address, prefix));
        self
    }

    /// IPv6 address of the host's end and its prefix length, if the interface is created.
    pub fn ipv6(mut self, address: Ipv6Addr, prefix: u8) -> Self {
        self.ipv6 = Some((address, prefix));
        self
    }

    /// Brings the interface up, whether created or not.
    pub fn up(mut self) -> Self {
        self.up = true;
        self
    }

    /// Opens the queues, all of one interface; a failure leaves nothing behind.
    ///
    /// Whether the interface is created is decided by the kernel in one step, so two processes
    /// cannot both believe that they created it. Only when an existing one is deleted between
    /// being found and being attached to, it is created anew and then counts as existing: it is
    /// left unconfigured rather than overwritten.
    ///
    /// # Errors
    ///
    /// Names what is wrong: the request ([`Error::Name`], [`Error::QueueCount`],
    /// [`Error::Prefix`]), the host ([`Error::NoDriver`], [`Error::DriverPermission`],
    /// [`Error::Permission`]) or the interface ([`Error::Busy`], [`Error::Full`],
    /// [`Error::Different`], [`Error::Down`]).
    pub fn open(&self) -> Result<Vec<Tap>, Error> {
        let name = IfName::parse(&self.name).map_err(|fault| Error::Name {
            name: self.name.clone(),
            fault,
        })?;
        check_queue_count(self.queues)?;
        self.check_prefixes()?;

        let multi_queue = self.multi_queue || self.queues > 1;
        let flags = if multi_queue {
            KIND | libc::IFF_MULTI_QUEUE
        } else {
            KIND
        };
        let first = open_first(name, flags)?;
        let (attached, _) = query_truly(&first)?;
        // When other queues are attached the kernel keeps their header flags and says nothing.
        fits(&attached, multi_queue)?;

        let created = first.was_created();
        let mut taps = vec![first];
        while taps.len() < self.queues {
            let fd = open_driver()?;
            let name = attached.name();
            attach(&fd, name, flags).map_err(|refused| explain(refused, name, flags))?;
            taps.push(Tap::from_parts(fd, created));
        }
        self.configure(&taps[0])?;
        Ok(taps)
    }

    fn configure(&self, tap: &Tap) -> Result<(), Error> {
        tap.prepare()?;
        if tap.was_created() {
            self.configure_created(tap)?;
        }
        match if self.up { tap.up() } else { Ok(()) } {
            Err(Error::NeedsNetAdmin { source, .. }) => Err(Error::Down {
                name: tap.name()?,
                source,
            }),
            result => result,
        }
    }

    fn configure_created(&self, tap: &Tap) -> Result<(), Error> {
        if let Some(mac) = self.mac {
            tap.set_mac(mac)?;
        }
        if let Some(mtu) = self.mtu {
            tap.set_mtu(mtu)?;
        }
        if let Some((address, prefix)) = self.ipv4 {
            tap.set_ipv4(address, prefix)?;
        }
        if let Some((address, prefix)) = self.ipv6 {
            tap.add_ipv6(address, prefix)?;
        }
        Ok(())
    }

    /// Checked before anything is opened, even when not applied in the end.
    fn check_prefixes(&self) -> Result<(), Error> {
        if let Some((_, prefix)) = self.ipv4 {
            ipv4_mask(prefix)?;
        }
        if let Some((_, prefix)) = self.ipv6 {
            ipv6_prefix(prefix)?;
        }
        Ok(())
    }
}

impl Tap {
    /// Takes over a tap that another process opened; see [`Tap::from_fds`].
    ///
    /// # Errors
    ///
    /// As for [`Tap::from_fds`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let (tap, _) = accept(fd, 0, false)?;
        take_over(std::slice::from_ref(&tap))?;
        Ok(tap)
    }

    /// Takes over the queues of one interface that another process opened, perhaps in another
    /// network namespace.
    ///
    /// Each is made non-blocking (for all who share the open file) and close-on-exec, and the
    /// interface is set to [`VNET_HEADER_LEN`](crate::VNET_HEADER_LEN), little-endian and no
    /// offloads. MAC, MTU and addresses stay.
    ///
    /// # Errors
    ///
    /// [`Error::QueueCount`], [`Error::NotTap`], [`Error::OtherInterface`], or
    /// [`Error::Different`] with everything that differs from a tap with a virtio-net header and
    /// no packet information, multi-queue when there are several.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Vec<Self>, Error> {
        check_queue_count(fds.len())?;
        let several = fds.len() > 1;
        let mut first: Option<Identity> = None;
        let mut taps = Vec::with_capacity(fds.len());
        for (index, fd) in fds.into_iter().enumerate() {
            let (tap, found) = accept(fd, index, several)?;
            let expected = *first.get_or_insert(found);
            if found != expected {
                return Err(Error::OtherInterface {
                    index,
                    found: found.to_string(),
                    expected: expected.to_string(),
                });
            }
            taps.push(tap);
        }
        take_over(&taps)?;
        Ok(taps)
    }
}

/// Changes what was handed in, only once all of it is known to fit.
fn take_over(taps: &[Tap]) -> Result<(), Error> {
    for tap in taps {
        sys::set_nonblocking_cloexec(tap.as_fd())?;
    }
    // Once for all queues: the framing is of the interface.
    taps.first().map_or(Ok(()), Tap::prepare)
}

/// Accepts one descriptor that was handed in, if it is a fitting queue.
fn accept(fd: OwnedFd, index: usize, several: bool) -> Result<(Tap, Identity), Error> {
    let tap = Tap::from_parts(fd, false);
    let (queue, driver) = query_truly(&tap).map_err(|refused| Error::NotTap {
        index,
        source: refused.source,
    })?;
    let multi_queue = queue.flags() & libc::IFF_MULTI_QUEUE != 0;
    // One queue of a multi-queue interface is as good as a plain one. To macvtap the flag means
    // nothing: each open file of its device is a queue.
    let needs_multi_queue = several && driver == Driver::Tun;
    fits(&queue, needs_multi_queue || multi_queue)?;
    let identity = tap.identity()?;
    Ok((tap.of(driver), identity))
}

fn check_queue_count(queues: usize) -> Result<(), Error> {
    match queues {
        1..=MAX_QUEUES => Ok(()),
        _ => Err(Error::QueueCount(queues)),
    }
}

/// Asks what a queue is, in such a way that `IFF_NO_PI` is true, and whose it is.
///
/// The kernel reports "no packet filter" in the very bit of "no packet information". So when
/// the bit is set, a filter that passes everything is there while the question is asked again. A
/// detached queue gets no filter and is taken at its word; an attached one of the same interface
/// tells. Macvtap (and ipvtap, which shares its code) has no filters, and its word is true.
fn query_truly(tap: &Tap) -> Result<(IfReq, Driver), Refused> {
    const AMBIGUOUS: c_int = libc::IFF_TAP | libc::IFF_NO_PI;
    let queue = tap.query()?;
    if queue.flags() & AMBIGUOUS != AMBIGUOUS {
        return Ok((queue, Driver::Tun));
    }
    match sys::attach_filter(tap.as_fd()) {
        Ok(()) => {}
        // A tap of the tun driver takes this one.
        Err(refused) if refused.errno() == Some(libc::EINVAL) => {
            return Ok((queue, Driver::Macvtap));
        }
        Err(refused) => return Err(refused),
    }
    let queue = tap.query();
    sys::detach_filter(tap.as_fd())?;
    queue.map(|queue| (queue, Driver::Tun))
}

/// Checks what a queue is against what every queue has to be.
fn fits(queue: &IfReq, multi_queue: bool) -> Result<(), Error> {
    let has = |flag: c_int| queue.flags() & flag != 0;
    let mut differences = Differences::empty();
    differences.set(Differences::TUN, !has(libc::IFF_TAP));
    differences.set(Differences::PACKET_INFO, !has(libc::IFF_NO_PI));
    differences.set(Differences::NO_VNET_HEADER, !has(libc::IFF_VNET_HDR));
    let multi_queue_is = has(libc::IFF_MULTI_QUEUE);
    differences.set(Differences::SINGLE_QUEUE, multi_queue && !multi_queue_is);
    differences.set(Differences::MULTI_QUEUE, !multi_queue && multi_queue_is);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(Error::Different {
            name: queue.name().to_string(),
            differences,
        })
    }
}

pub(crate) fn open_driver() -> Result<OwnedFd, Error> {
    // The standard library adds O_CLOEXEC.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Error::NoDriver(error),
            Some(libc::EACCES | libc::EPERM) => Error::DriverPermission(error),
            _ => Error::Driver(error),
        })?;
    Ok(file.into())
}

/// Creates the interface, or else attaches to the existing one.
fn open_first(name: IfName, flags: c_int) -> Result<Tap, Error> {
    let fd = open_driver()?;
    let created = match attach(&fd, name, flags | libc::IFF_TUN_EXCL) {
        Ok(()) => true,
        // Exclusively means: only if there is none of this name.
        Err(refused) if refused.errno() == Some(libc::EBUSY) => {
            attach(&fd, name, flags).map_err(|refused| explain(refused, name, flags))?;
            false
        }
        Err(refused) => return Err(explain(refused, name, flags)),
    };
    Ok(Tap::from_parts(fd, created))
}

pub(crate) fn attach(fd: &OwnedFd, name: IfName, flags: c_int) -> Result<(), Refused> {
    sys::TUNSETIFF.call(fd.as_fd(), &mut IfReq::new(name).with_flags(flags))
}

/// Says what a refusal of `TUNSETIFF` means.
fn explain(refused: Refused, interface: IfName, flags: c_int) -> Error {
    let name = interface.to_string();
    match refused.errno() {
        Some(libc::EPERM | libc::EACCES) => Error::Permission {
            name,
            source: refused.source,
        },
        Some(libc::EBUSY) => Error::Busy {
            name,
            source: refused.source,
        },
        Some(libc::E2BIG) => Error::Full {
            name,
            source: refused.source,
        },
        Some(libc::EINVAL) => match find_difference(interface, flags) {
            Some(differences) => Error::Different { name, differences },
            None => refused.into(),
        },
        _ => refused.into(),
    }
}

/// Finds why an existing interface answers `EINVAL`, without attaching to it. The kernel compares
/// driver, kind and multi-queue, in this order, so what is neither of the first two is the third.
fn find_difference(name: IfName, flags: c_int) -> Option<Differences> {
    let driver = match Ipv4Socket::open().and_then(|socket| socket.driver(name)) {
        Ok(driver) => driver,
        Err(refused) if refused.errno() == Some(libc::ENODEV) => return None,
        // Tuns and taps do answer.
        Err(_) => return Some(Differences::OTHER_DRIVER),
    };
    Some(if !driver.is_tun_driver() {
        Differences::OTHER_DRIVER
    } else if !driver.is_tap() {
        Differences::TUN
    } else if flags & libc::IFF_MULTI_QUEUE != 0 {
        Differences::SINGLE_QUEUE
    } else {
        Differences::MULTI_QUEUE
    })
}
