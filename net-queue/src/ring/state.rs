//! The configuration of a ring and its position: the part that is saved and restored.

use crate::memory::guest_ram::BadAddress;

/// Layout of a virtqueue in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Descriptor table, available ring, used ring. VirtIO 1.4 §2.7.
    #[default]
    Split,
    /// One ring of descriptors that both sides write. VirtIO 1.4 §2.8.
    Packed,
}

/// Addresses at which the driver put the ring's three areas: guest-physical, or IOVA behind an
/// access platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingAddrs {
    /// Descriptor table (split), descriptor ring (packed).
    pub desc: u64,
    /// Available ring (split), driver event area (packed).
    pub driver: u64,
    /// Used ring (split), device event area (packed).
    pub device: u64,
}

/// Position of a ring. The default is that of a fresh ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the next chain to take: free-running for a split ring, a slot for a packed one.
    pub avail: u16,
    /// Index of the next used element, likewise. `None` (split only): as the used ring in memory
    /// says.
    pub used: Option<u16>,
    /// Driver wrap counter (packed).
    pub avail_wrap: bool,
    /// Device wrap counter (packed).
    pub used_wrap: bool,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            avail: 0,
            used: Some(0),
            avail_wrap: true,
            used_wrap: true,
        }
    }
}

/// Number of chains that a used element of a ring with `VIRTIO_F_IN_ORDER` may stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UsedElements {
    /// One. Every driver understands that, and only so does each learn the length of every chain:
    /// for queues whose chains the device writes. Drivers in the field read the length of each
    /// element on receive and would take the chains that a batch skips for empty.
    #[default]
    PerChain,
    /// All chains up to the one that it names, as long as those before it were used in full
    /// (VQ-SPL-20, VQ-PKD-15): for queues whose chains have nothing to write, so that there is no
    /// length to be missed.
    PerBatch,
}

/// Configuration that it takes to run a ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingConfig {
    /// Layout of the ring.
    pub layout: Layout,
    /// Number of descriptors.
    pub size: u16,
    /// Addresses of its areas.
    pub addrs: RingAddrs,
    /// `VIRTIO_F_EVENT_IDX` was negotiated.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC` was negotiated.
    pub indirect: bool,
    /// `VIRTIO_F_IN_ORDER` was negotiated.
    pub in_order: bool,
    /// Number of chains that one used element may stand for, if so. The role of the queue decides.
    pub used_elements: UsedElements,
    /// Position to go on from.
    pub cursor: Cursor,
}

impl RingConfig {
    /// The ring's areas: the driver's address and the length in bytes of each, in the order of
    /// [`RingAddrs`], and whether the device writes to it.
    #[must_use]
    pub fn areas(&self) -> [(u64, u64, bool); 3] {
        let RingAddrs {
            desc,
            driver,
            device,
        } = self.addrs;
        let size = u64::from(self.size);
        let tail = if self.event_idx { 2 } else { 0 };
        match self.layout {
            Layout::Split => [
                (desc, 16 * size, false),
                (driver, 4 + 2 * size + tail, false),
                (device, 4 + 8 * size + tail, true),
            ],
            Layout::Packed => [
                (desc, 16 * size, true),
                (driver, 4, false),
                (device, 4, true),
            ],
        }
    }

    /// Returns whether a part of the ring lies among `len` bytes at the driver's address `addr`.
    #[must_use]
    pub fn overlaps(&self, addr: u64, len: u64) -> bool {
        let end = u128::from(addr) + u128::from(len);
        let overlaps = |(at, len, _): (u64, u64, bool)| {
            u128::from(at) < end && u128::from(addr) < u128::from(at) + u128::from(len)
        };
        self.areas().into_iter().any(overlaps)
    }
}

/// Cause for which a ring cannot be run (VQ-SPL-02).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Size 0, beyond 32768, or no power of two where the layout needs one.
    #[error("{0} is not a queue size for this layout")]
    Size(u16),
    /// An area starts at an address that its layout does not allow.
    #[error("ring area at {addr:#x} is not aligned to {align}")]
    Alignment {
        /// Start of the area.
        addr: u64,
        /// Number that the start must be a multiple of.
        align: u64,
    },
    /// An area is not in guest memory, or not in one piece.
    #[error("ring area is out of place")]
    Address(#[from] BadAddress),
    /// An area is guest memory that cannot be accessed.
    #[error("ring area at {0:#x} cannot be accessed; is its memory plugged in?")]
    MemoryFault(u64),
    /// The cursor cannot be one of this ring.
    #[error("cursor avail {avail} used {used} does not fit a queue of {size}")]
    Cursor {
        /// Next available index.
        avail: u16,
        /// Next used index.
        used: u16,
        /// Queue size.
        size: u16,
    },
}
