//! The buffers of a chain: those that a queue takes, and those that a ring found.

use std::fmt;

/// Direction of the buffers of a queue's chains. VirtIO 1.4 §2.7.4.2 (VQ-SPL-12, NET-TX-08,
/// NET-RX-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The device reads all of them: transmit.
    ///
    /// Entries of a packed ring's table are read whatever they say: DPDK's virtio-user fills its
    /// tables with entries that are writable, and clears that neither for the header nor for the
    /// entry whose index is the chain's slot in the ring.
    Readable,
    /// The device writes all of them: receive.
    Writable,
    /// It reads those in front and writes those behind: control.
    ReadableThenWritable,
}

/// Buffers that a queue takes.
#[derive(Clone, Copy, Debug)]
pub struct BufferRules {
    /// Their direction.
    pub direction: Direction,
    /// Length that the list of segments may grow to.
    pub most_segments: usize,
}

/// Buffers of a chain as segments of host memory. Empty buffers have none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Buffers {
    /// From the lowest bit on: `readable_len`, `readable`, `writable`. One word, as in
    /// [`Chain`](super::Chain).
    word: u64,
}

impl Buffers {
    #[inline(always)]
    pub(super) fn new(readable: usize, writable: usize, readable_len: u64) -> Self {
        let count = |segments: usize| segments.min(usize::from(u16::MAX)) as u64;
        let len = readable_len.min(u64::from(u32::MAX));
        Self {
            word: len | count(readable) << 32 | count(writable) << 48,
        }
    }

    /// Number of segments that the device reads. They come first.
    #[inline]
    #[must_use]
    pub fn readable(self) -> usize {
        usize::from((self.word >> 32) as u16)
    }

    /// Number of segments that the device writes.
    #[inline]
    #[must_use]
    pub fn writable(self) -> usize {
        usize::from((self.word >> 48) as u16)
    }

    /// Bytes that the device reads, at most `u32::MAX`. The chain knows those that it writes.
    #[inline]
    #[must_use]
    pub fn readable_len(self) -> usize {
        self.word as u32 as usize
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("readable", &self.readable())
            .field("writable", &self.writable())
            .field("readable_len", &self.readable_len())
            .finish()
    }
}
