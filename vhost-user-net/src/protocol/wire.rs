//! The vhost-user message format: raw bytes and descriptors in, one checked [`Request`] out.
//!
//! ```text
//! | request: u32 | flags: u32 | size: u32 | payload: size bytes |     all in the machine's byte order
//!                  bits 0-1 version (1), bit 2 reply, bit 3 need_reply
//! ```
//!
//! [`Request::parse`] is total: each field is checked here or is a plain number that the session
//! checks against its state. Descriptors arrive owned, so a refused message closes them.

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserHeaderFlag, VhostUserInflight, VhostUserLog,
    VhostUserMemory, VhostUserMemoryRegion, VhostUserMsgValidator, VhostUserSingleMemoryRegion,
    VhostUserTransferDeviceState, VhostUserU64, VhostUserVringAddr, VhostUserVringState,
};
use vm_memory::ByteValued;

use crate::sys::MAX_FDS;

mod answer;
mod iotlb;
mod ring;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use iotlb::{IotlbMessage, iotlb_miss};
pub use ring::{InflightArea, RingFd, RingValue};

/// Longest payload that is accepted, in bytes.
pub const MAX_PAYLOAD: usize = 0x1000;
/// Version of the message format.
const VERSION: u32 = 1;
/// Bit of a ring's descriptor message that says that no descriptor comes along.
const NO_FD: u64 = 1 << 8;
/// Bits of a ring's descriptor message that hold the ring's index.
const RING_MASK: u64 = 0xff;
/// Most rings of a device: each of them needs a message with its descriptors.
pub const MAX_RINGS: u16 = RING_MASK as u16 + 1;

/// Faults of a malformed message. It ends the connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Another version of the format.
    #[error("message version {0} instead of 1")]
    Version(u32),
    /// The reply bit or a reserved bit is set.
    #[error("message flags {0:#x} have no meaning in a request")]
    Flags(u32),
    /// Longer than any message has to be.
    #[error("payload of {0} bytes, at most {max} are accepted", max = MAX_PAYLOAD)]
    TooLong(u32),
    /// No such request, or one whose protocol feature was never offered.
    #[error("request {0} is not supported")]
    Unsupported(u32),
    /// The payload's length does not fit the request.
    #[error("{request:?}: payload of {got} bytes instead of {want}")]
    Length {
        /// The request.
        request: FrontendReq,
        /// The length that it has to have.
        want: usize,
        /// The length that it has.
        got: usize,
    },
    /// The number of descriptors does not fit the request.
    #[error("{request:?}: {got} file descriptors instead of {want}")]
    Descriptors {
        /// The request.
        request: FrontendReq,
        /// Number that it has to have.
        want: usize,
        /// Number that it has.
        got: usize,
    },
    /// A field has a value without a meaning.
    #[error("{request:?}: {what}")]
    Field {
        /// The request.
        request: FrontendReq,
        /// Which field, and what is wrong with it.
        what: &'static str,
    },
}

/// The twelve bytes before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the request.
    pub code: u32,
    /// The sender waits for an answer, whether the request has one of its own or not.
    pub need_reply: bool,
    /// Length of the payload in bytes; at most [`MAX_PAYLOAD`].
    pub size: usize,
}

impl Header {
    /// Length in bytes.
    pub const LEN: usize = 12;

    /// Checks everything but the number of the request.
    ///
    /// # Errors
    /// [`ParseError::Version`], [`ParseError::Flags`] or [`ParseError::TooLong`].
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, ParseError> {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (code, flags, size) = (word(0), word(4), word(8));
        let version = flags & VhostUserHeaderFlag::VERSION.bits();
        if version != VERSION {
            return Err(ParseError::Version(version));
        }
        let need_reply = VhostUserHeaderFlag::NEED_REPLY.bits();
        if flags & !(VhostUserHeaderFlag::VERSION.bits() | need_reply) != 0 {
            return Err(ParseError::Flags(flags));
        }
        if size as usize > MAX_PAYLOAD {
            return Err(ParseError::TooLong(size));
        }
        Ok(Self {
            code,
            need_reply: flags & need_reply != 0,
            size: size as usize,
        })
    }

    /// A header for `size` bytes of payload, with `flags` besides the version.
    fn encode(code: u32, flags: VhostUserHeaderFlag, size: usize) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&code.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(VERSION | flags.bits()).to_ne_bytes());
        bytes[8..].copy_from_slice(&(size as u32).to_ne_bytes());
        bytes
    }
}

/// A whole request of the back-end that has no payload and wants no answer.
#[must_use]
pub fn backend_request(code: vhost::vhost_user::message::BackendReq) -> [u8; Header::LEN] {
    Header::encode(code.into(), VhostUserHeaderFlag::empty(), 0)
}

/// A request of a front-end, with every field checked that can be checked without knowing the
/// session.
pub enum Request {
    /// Which features the device has.
    GetFeatures,
    /// Which of them the driver took.
    SetFeatures(u64),
    /// Which protocol features the daemon has.
    GetProtocolFeatures,
    /// Which of them the front-end takes.
    SetProtocolFeatures(u64),
    /// A front-end is there.
    SetOwner,
    /// Deprecated: disables every ring.
    ResetOwner,
    /// Back to the state before the first request, but for the memory table.
    ResetDevice,
    /// Number of queues.
    GetQueueNum,
    /// Replaces the memory table.
    SetMemTable(Vec<(VhostUserMemoryRegion, OwnedFd)>),
    /// Largest number of regions in the memory table.
    GetMaxMemSlots,
    /// Adds one region.
    AddMemReg(VhostUserMemoryRegion, OwnedFd),
    /// Takes one region away.
    RemMemReg(VhostUserMemoryRegion),
    /// Bitmap in which written pages are marked.
    SetLogBase(VhostUserLog, OwnedFd),
    /// A descriptor to announce marked pages by; accepted, and not used.
    SetLogFd,
    /// A ring's size.
    SetVringNum(RingValue),
    /// Addresses of a ring.
    SetVringAddr(VhostUserVringAddr),
    /// Position at which a ring starts.
    SetVringBase(RingValue),
    /// Stops a ring, and asks where it stands.
    GetVringBase(u32),
    /// Event by which the driver says that it made buffers available. `None` would mean polling.
    SetVringKick(RingFd),
    /// Event by which the driver is told of used buffers. `None`: it polls.
    SetVringCall(RingFd),
    /// Event by which the front-end is told of a broken ring.
    SetVringErr(RingFd),
    /// Lets a ring run, or holds it.
    SetVringEnable(u32, bool),
    /// The socket for requests of the back-end.
    SetBackendReqFd(OwnedFd),
    /// Reads the configuration space.
    GetConfig(VhostUserConfig),
    /// Writes the configuration space at an offset.
    SetConfig(u32, Vec<u8>),
    /// Which MTU the driver is told.
    NetSetMtu(u64),
    /// Announces a guest with this MAC address, which cannot do so itself.
    SendRarp([u8; 6]),
    /// Saves or loads the device's state through a descriptor.
    SetDeviceStateFd(VhostUserTransferDeviceState, OwnedFd),
    /// Asks whether that succeeded.
    CheckDeviceState,
    /// Asks for an in-flight region: its number of rings, and their size.
    GetInflightFd(u16, u16),
    /// The in-flight region of this back-end or of one before it.
    SetInflightFd(InflightArea, OwnedFd),
    /// Addresses of the driver, and where they lead.
    Iotlb(IotlbMessage),
}

impl Request {
    /// Makes a request of what came under `code`.
    ///
    /// # Errors
    /// Any [`ParseError`] but those of the header; `fds` are closed then.
    pub fn parse(code: u32, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Self, ParseError> {
        let request = FrontendReq::try_from(code).map_err(|()| ParseError::Unsupported(code))?;
        let body = Body {
            request,
            payload,
            fds,
        };
        Ok(match request {
            FrontendReq::GET_FEATURES => body.bare(Self::GetFeatures)?,
            FrontendReq::SET_FEATURES => Self::SetFeatures(body.number()?),
            FrontendReq::GET_PROTOCOL_FEATURES => body.bare(Self::GetProtocolFeatures)?,
            FrontendReq::SET_PROTOCOL_FEATURES => Self::SetProtocolFeatures(body.number()?),
            FrontendReq::SET_OWNER => body.bare(Self::SetOwner)?,
            FrontendReq::RESET_OWNER => body.bare(Self::ResetOwner)?,
            FrontendReq::RESET_DEVICE => body.bare(Self::ResetDevice)?,
            FrontendReq::GET_QUEUE_NUM => body.bare(Self::GetQueueNum)?,
            FrontendReq::SET_MEM_TABLE => Self::SetMemTable(body.memory_table()?),
            FrontendReq::GET_MAX_MEM_SLOTS => body.bare(Self::GetMaxMemSlots)?,
            FrontendReq::ADD_MEM_REG => {
                let region = body.region()?;
                Self::AddMemReg(region, body.one_fd()?)
            }
            // A front-end may send a descriptor by mistake: it is closed.
            FrontendReq::REM_MEM_REG => Self::RemMemReg(body.region()?),
            FrontendReq::SET_LOG_BASE => Self::SetLogBase(body.log()?, body.one_fd()?),
            FrontendReq::SET_LOG_FD => body.only_fd().map(|_| Self::SetLogFd)?,
            FrontendReq::SET_VRING_NUM => Self::SetVringNum(body.ring_value()?),
            FrontendReq::SET_VRING_ADDR => {
                let addr = body.without_fds::<VhostUserVringAddr>()?;
                body.valid(addr.is_valid(), "misaligned ring address or unknown flag")?;
                Self::SetVringAddr(addr)
            }
            FrontendReq::SET_VRING_BASE => Self::SetVringBase(body.ring_value()?),
            FrontendReq::GET_VRING_BASE => Self::GetVringBase(body.ring_value()?.ring),
            FrontendReq::SET_VRING_KICK => Self::SetVringKick(body.ring_fd()?),
            FrontendReq::SET_VRING_CALL => Self::SetVringCall(body.ring_fd()?),
            FrontendReq::SET_VRING_ERR => Self::SetVringErr(body.ring_fd()?),
            FrontendReq::SET_VRING_ENABLE => {
                let RingValue { ring, value } = body.ring_value()?;
                body.valid(value <= 1, "neither 0 nor 1")?;
                Self::SetVringEnable(ring, value == 1)
            }
            FrontendReq::SET_BACKEND_REQ_FD => Self::SetBackendReqFd(body.only_fd()?),
            FrontendReq::GET_CONFIG => Self::GetConfig(body.config()?.0),
            FrontendReq::SET_CONFIG => {
                let (config, data) = body.config()?;
                Self::SetConfig(config.offset, data.to_vec())
            }
            FrontendReq::NET_SET_MTU => Self::NetSetMtu(body.number()?),
            FrontendReq::SEND_RARP => Self::SendRarp(body.mac()?),
            FrontendReq::SET_DEVICE_STATE_FD => {
                let transfer = body.exactly()?;
                Self::SetDeviceStateFd(transfer, body.one_fd()?)
            }
            FrontendReq::GET_INFLIGHT_FD => body.get_inflight()?,
            FrontendReq::SET_INFLIGHT_FD => body.set_inflight()?,
            FrontendReq::CHECK_DEVICE_STATE => body.bare(Self::CheckDeviceState)?,
            FrontendReq::IOTLB_MSG => Self::Iotlb(body.iotlb()?),
            _ => return Err(ParseError::Unsupported(code)),
        })
    }
}

/// Payload and descriptors of a request, and the checks that the requests share.
struct Body<'a> {
    request: FrontendReq,
    payload: &'a [u8],
    fds: Vec<OwnedFd>,
}

/// The first bytes of `bytes` as a `T`; `None` when there are too few.
fn front<T: ByteValued + Default>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    let mut value = T::default();
    value.as_mut_slice().copy_from_slice(head);
    Some((value, rest))
}

impl<'a> Body<'a> {
    fn length_error(&self, want: usize) -> ParseError {
        ParseError::Length {
            request: self.request,
            want,
            got: self.payload.len(),
        }
    }

    fn fd_count(&self, want: usize) -> Result<(), ParseError> {
        let got = self.fds.len();
        if got == want {
            Ok(())
        } else {
            Err(ParseError::Descriptors {
                request: self.request,
                want,
                got,
            })
        }
    }

    fn valid(&self, is_valid: bool, what: &'static str) -> Result<(), ParseError> {
        if is_valid {
            Ok(())
        } else {
            Err(ParseError::Field {
                request: self.request,
                what,
            })
        }
    }

    /// No payload, no descriptor.
    fn bare(&self, request: Request) -> Result<Request, ParseError> {
        self.fd_count(0)?;
        if self.payload.is_empty() {
            Ok(request)
        } else {
            Err(self.length_error(0))
        }
    }

    /// The payload is one `T`.
    fn exactly<T: ByteValued + Default>(&self) -> Result<T, ParseError> {
        match front(self.payload) {
            Some((value, [])) => Ok(value),
            _ => Err(self.length_error(size_of::<T>())),
        }
    }

    fn without_fds<T: ByteValued + Default>(&self) -> Result<T, ParseError> {
        self.fd_count(0)?;
        self.exactly()
    }

    fn iotlb(&self) -> Result<IotlbMessage, ParseError> {
        self.fd_count(0)?;
        let message = IotlbMessage::parse(self.payload);
        let message = message.ok_or_else(|| self.length_error(IotlbMessage::WANT))?;
        message.map_err(|what| ParseError::Field {
            request: self.request,
            what,
        })
    }

    fn number(&self) -> Result<u64, ParseError> {
        Ok(self.without_fds::<VhostUserU64>()?.value)
    }

    /// A number whose first bytes in memory are a MAC address.
    fn mac(&self) -> Result<[u8; 6], ParseError> {
        let [mac @ .., _, _] = self.number()?.to_ne_bytes();
        let is_station = mac[0] & 1 == 0 && mac != [0; 6];
        self.valid(is_station, "not the address of a station")?;
        Ok(mac)
    }

    fn log(&self) -> Result<VhostUserLog, ParseError> {
        let log = self.exactly::<VhostUserLog>()?;
        self.valid(log.is_valid(), "empty or wrapping log")?;
        Ok(log)
    }

    fn ring_value(&self) -> Result<RingValue, ParseError> {
        let VhostUserVringState {
            index: ring,
            num: value,
        } = self.without_fds()?;
        Ok(RingValue { ring, value })
    }

    fn get_inflight(self) -> Result<Request, ParseError> {
        self.fd_count(0)?;
        let asked = self.inflight()?;
        Ok(Request::GetInflightFd(asked.queues, asked.queue_size))
    }

    fn set_inflight(self) -> Result<Request, ParseError> {
        let area = self.inflight()?;
        let end = area.offset.checked_add(area.size);
        let valid = area.queues > 0 && area.size > 0 && end.is_some();
        self.valid(valid, "empty or wrapping in-flight region")?;
        Ok(Request::SetInflightFd(area, self.one_fd()?))
    }

    fn inflight(&self) -> Result<InflightArea, ParseError> {
        let asked: VhostUserInflight = self.exactly()?;
        Ok(InflightArea {
            size: asked.mmap_size,
            offset: asked.mmap_offset,
            queues: asked.num_queues,
            queue_size: asked.queue_size,
        })
    }

    fn one_fd(mut self) -> Result<OwnedFd, ParseError> {
        self.fd_count(1)?;
        self.fds.pop().ok_or(ParseError::Descriptors {
            request: self.request,
            want: 1,
            got: 0,
        })
    }

    /// A descriptor and no payload.
    fn only_fd(self) -> Result<OwnedFd, ParseError> {
        if self.payload.is_empty() {
            self.one_fd()
        } else {
            Err(self.length_error(0))
        }
    }

    fn ring_fd(mut self) -> Result<RingFd, ParseError> {
        let value = self.exactly::<VhostUserU64>()?.value;
        self.valid(
            value & !(RING_MASK | NO_FD) == 0,
            "ring index beyond 255 or unknown flag",
        )?;
        self.fd_count(usize::from(value & NO_FD == 0))?;
        Ok(RingFd {
            ring: (value & RING_MASK) as u32,
            fd: self.fds.pop(),
        })
    }

    fn region(&self) -> Result<VhostUserMemoryRegion, ParseError> {
        let region = *self.exactly::<VhostUserSingleMemoryRegion>()?;
        self.valid(region.is_valid(), "empty or wrapping region")?;
        Ok(region)
    }

    /// Bytes behind the announced regions are ignored: user-mode Linux always sends room for two.
    fn memory_table(self) -> Result<Vec<(VhostUserMemoryRegion, OwnedFd)>, ParseError> {
        let (table, mut rest) = front::<VhostUserMemory>(self.payload)
            .ok_or_else(|| self.length_error(size_of::<VhostUserMemory>()))?;
        let count = table.num_regions as usize;
        self.valid(
            count <= MAX_FDS,
            "more regions than a message has descriptors for",
        )?;
        self.fd_count(count)?;
        let mut regions = Vec::with_capacity(count);
        for _ in 0..count {
            let want = size_of::<VhostUserMemory>() + count * size_of::<VhostUserMemoryRegion>();
            let (region, next) =
                front::<VhostUserMemoryRegion>(rest).ok_or_else(|| self.length_error(want))?;
            self.valid(region.is_valid(), "empty or wrapping region")?;
            regions.push(region);
            rest = next;
        }
        Ok(regions.into_iter().zip(self.fds).collect())
    }

    /// An access to the configuration space, and the bytes that came with it.
    fn config(&self) -> Result<(VhostUserConfig, &'a [u8]), ParseError> {
        self.fd_count(0)?;
        let (config, data) = front::<VhostUserConfig>(self.payload)
            .ok_or_else(|| self.length_error(size_of::<VhostUserConfig>()))?;
        self.valid(config.is_valid(), "configuration range or flags")?;
        if data.len() == config.size as usize {
            Ok((config, data))
        } else {
            Err(self.length_error(size_of::<VhostUserConfig>() + config.size as usize))
        }
    }
}
