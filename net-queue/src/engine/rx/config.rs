//! The negotiated terms of reception, and the lengths of frames that follow from them.

use crate::header::{HdrSize, MAX_FRAME};
use crate::offload::Offloads;

/// Bytes of a frame's start that a filter may look at: Ethernet header and VLAN tag.
pub(super) const HEAD: usize = 18;

/// Offloads by which a frame may be longer than the MTU.
const SEGMENTS: Offloads = Offloads::TSO4
    .union(Offloads::TSO6)
    .union(Offloads::UFO)
    .union(Offloads::USO4)
    .union(Offloads::USO6);

/// Negotiated terms of reception.
#[derive(Clone, Copy, Debug)]
pub struct RxConfig {
    /// Length of the header.
    pub size: HdrSize,
    /// Work that frames may carry undone.
    pub offloads: Offloads,
    /// `VIRTIO_NET_F_MRG_RXBUF`: a frame may take several chains.
    pub merge: bool,
    /// The MTU that was negotiated, in bytes: longer frames are not delivered (NET-CFG-08).
    pub mtu: Option<u16>,
    /// The backend's MTU when it was asked, in bytes: what frames are expected to keep to.
    pub link_mtu: Option<u16>,
}

impl RxConfig {
    /// The most bytes of a frame and its header.
    pub(super) fn most(&self) -> usize {
        self.size.bytes() + MAX_FRAME
    }

    /// The most bytes, header included, that the backend is expected to deliver at once.
    pub(super) fn expected(&self) -> usize {
        match self.link_mtu {
            Some(mtu) if !self.offloads.intersects(SEGMENTS) => {
                self.size.bytes() + usize::from(mtu) + HEAD
            }
            _ => self.most(),
        }
    }
}
