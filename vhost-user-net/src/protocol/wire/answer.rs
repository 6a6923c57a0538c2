//! Replies to a front-end's requests.

use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight,
    VhostUserLog, VhostUserU64, VhostUserVringState,
};
use vm_memory::ByteValued;

use super::{Header, InflightArea, RingValue};

/// Answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; sent only to a front-end that asked for it.
    Done,
    /// A number.
    Number(u64),
    /// A ring's index and where it stands.
    RingBase(RingValue),
    /// The log that was announced. Some front-ends wait for all of it, others for any reply.
    Log {
        /// Its length in bytes.
        size: u64,
        /// Offset in its file.
        offset: u64,
    },
    /// The in-flight region, whose descriptor comes along.
    Inflight(InflightArea),
    /// Bytes of the configuration space at an offset.
    Config(u32, Vec<u8>),
}

/// Bit of the answer to SET_DEVICE_STATE_FD that says that no descriptor comes along. The lower
/// eight are an error's.
const NO_STATE_FD: u64 = 1 << 8;

impl Answer {
    /// Answer to SET_DEVICE_STATE_FD: the state passes through the front-end's own descriptor.
    pub const TRANSFER_BEGINS: Self = Self::Number(NO_STATE_FD);

    /// Returns whether request `code` is answered with its refusal even where the front-end asked
    /// for none.
    #[must_use]
    pub fn is_always_sent(code: u32) -> bool {
        matches!(
            FrontendReq::try_from(code),
            Ok(FrontendReq::SET_DEVICE_STATE_FD | FrontendReq::CHECK_DEVICE_STATE)
        )
    }

    /// Answer that refuses request `code`; `None` when its answer has no room for a refusal, so
    /// that the connection has to end. Any number but 0 refuses, where a number says whether the
    /// request was done.
    #[must_use]
    pub fn refusal(code: u32) -> Option<Self> {
        match FrontendReq::try_from(code) {
            Ok(
                FrontendReq::GET_FEATURES
                | FrontendReq::GET_PROTOCOL_FEATURES
                | FrontendReq::GET_QUEUE_NUM
                | FrontendReq::GET_MAX_MEM_SLOTS
                | FrontendReq::GET_VRING_BASE
                | FrontendReq::GET_INFLIGHT_FD
                | FrontendReq::GET_CONFIG,
            ) => None,
            // The answer is a log: this one wraps, and its first number is not 0.
            Ok(FrontendReq::SET_LOG_BASE) => Some(Self::Log {
                size: 1,
                offset: u64::MAX,
            }),
            Ok(FrontendReq::SET_DEVICE_STATE_FD) => Some(Self::Number(NO_STATE_FD | 1)),
            _ => Some(Self::Number(1)),
        }
    }

    /// Appends the whole reply to request `code` to `out`.
    pub fn encode(&self, code: u32, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; Header::LEN]);
        match self {
            Self::Done => out.extend_from_slice(VhostUserU64::new(0).as_slice()),
            Self::Number(value) => out.extend_from_slice(VhostUserU64::new(*value).as_slice()),
            Self::RingBase(RingValue { ring, value }) => {
                out.extend_from_slice(VhostUserVringState::new(*ring, *value).as_slice());
            }
            Self::Log { size, offset } => {
                out.extend_from_slice(VhostUserLog::new(*size, *offset).as_slice());
            }
            Self::Inflight(area) => {
                let (size, offset) = (area.size, area.offset);
                let inflight = VhostUserInflight::new(size, offset, area.queues, area.queue_size);
                out.extend_from_slice(inflight.as_slice());
            }
            Self::Config(offset, data) => {
                let config =
                    VhostUserConfig::new(*offset, data.len() as u32, VhostUserConfigFlags::empty());
                out.extend_from_slice(config.as_slice());
                out.extend_from_slice(data);
            }
        }
        let size = out.len() - begin - Header::LEN;
        out[begin..begin + Header::LEN].copy_from_slice(&Header::encode(
            code,
            VhostUserHeaderFlag::REPLY,
            size,
        ));
    }
}
