//! What a backend can do, and what it is told.

use crate::offload::Offloads;

/// What a backend can do, as found when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Work that frames sent to it may leave undone. Checksums are completed for a backend without `CSUM`.
    pub tx: Offloads,
    /// Work that it may leave undone in frames received from it.
    pub rx: Offloads,
    /// Its MTU in bytes, if it has one.
    pub mtu: Option<u16>,
    /// Several backends of this kind can be queues of one link.
    pub multi_queue: bool,
}

/// What was negotiated, for the backend to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Bytes of the virtio-net header in front of every frame, both ways.
    pub hdr_len: usize,
    /// Work that received frames may carry undone.
    pub rx: Offloads,
}
