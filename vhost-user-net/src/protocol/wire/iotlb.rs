//! Messages about translations of the driver's addresses, both ways.

use std::mem::offset_of;

use vhost::vhost_user::message::{BackendReq, VhostUserHeaderFlag};

use super::Header;
use crate::protocol::iotlb::Permissions;

/// The payload: `struct vhost_iotlb_msg`, in the machine's byte order.
#[repr(C)]
struct Payload {
    iova: u64,
    size: u64,
    user_addr: u64,
    permissions: u8,
    kind: u8,
}

/// Length of the payload, and of one without the padding at its end.
const LEN: usize = size_of::<Payload>();
const PACKED_LEN: usize = offset_of!(Payload, kind) + 1;

const MISS: u8 = 1;
const UPDATE: u8 = 2;
const INVALIDATE: u8 = 3;

/// A front-end's message about a range of the driver's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IotlbMessage {
    /// They are translated.
    Update {
        /// First address.
        iova: u64,
        /// Number of bytes.
        size: u64,
        /// Address in the front-end.
        user_addr: u64,
        /// Access that the driver allows the device.
        permissions: Permissions,
    },
    /// They are not translated any more.
    Invalidate {
        /// First address.
        iova: u64,
        /// Number of bytes; 0 for all there are, which no number of bytes is.
        size: u64,
    },
}

impl IotlbMessage {
    /// The message in `payload`, or which field has no meaning; `None` when the length is wrong.
    pub(super) fn parse(payload: &[u8]) -> Option<Result<Self, &'static str>> {
        if payload.len() != LEN && payload.len() != PACKED_LEN {
            return None;
        }
        let word = |at: usize| {
            let bytes = payload.get(at..at + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let iova = word(offset_of!(Payload, iova))?;
        let size = word(offset_of!(Payload, size))?;
        let user_addr = word(offset_of!(Payload, user_addr))?;
        let permissions = Permissions::new(*payload.get(offset_of!(Payload, permissions))?);
        Some(match (*payload.get(PACKED_LEN - 1)?, permissions) {
            (UPDATE, Some(permissions)) => Ok(Self::Update {
                iova,
                size,
                user_addr,
                permissions,
            }),
            (UPDATE, None) => Err("unknown permissions"),
            (INVALIDATE, _) => Ok(Self::Invalidate { iova, size }),
            _ => Err("neither an update nor an invalidation"),
        })
    }

    pub(super) const WANT: usize = LEN;
}

/// A whole request of the back-end: where does `iova` lead, for such access?
#[must_use]
pub fn iotlb_miss(iova: u64, wanted: Permissions) -> [u8; Header::LEN + LEN] {
    let mut message = [0; Header::LEN + LEN];
    let code = BackendReq::IOTLB_MSG.into();
    let header = Header::encode(code, VhostUserHeaderFlag::empty(), LEN);
    message[..Header::LEN].copy_from_slice(&header);
    let payload = &mut message[Header::LEN..];
    payload[..8].copy_from_slice(&iova.to_ne_bytes());
    payload[offset_of!(Payload, permissions)] = wanted.bits();
    payload[offset_of!(Payload, kind)] = MISS;
    message
}
