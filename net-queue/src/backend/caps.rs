//! Capabilities of a backend, and the configuration that it is given.

use crate::offload::Offloads;

/// Capabilities of a backend, as found when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Work that frames sent to it may leave undone. Without `CSUM` checksums are completed before,
    /// and frames are cut before of a kind of segmentation that is missing, or of all without
    /// `CSUM`.
    pub tx: Offloads,
    /// Work that it may leave undone in frames received from it.
    pub rx: Offloads,
    /// Segmentation, of that in `tx`, which it does so well that the device may merge frames for
    /// it: the driver sent single ones, and would get no say.
    pub coalesce: Offloads,
    /// MTU of the backend in bytes, if it has one.
    pub mtu: Option<u16>,
    /// Several backends of this kind can be queues of one link.
    pub multi_queue: bool,
}

/// Negotiated configuration, for the backend to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Bytes of the virtio-net header in front of every frame, both ways.
    pub hdr_len: usize,
    /// Work that received frames may carry undone.
    pub rx: Offloads,
}
