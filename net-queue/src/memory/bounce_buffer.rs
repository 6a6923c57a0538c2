//! Memory of this process that frames pass through.

use std::ops::{Deref, DerefMut};

/// Frames up to this length, header included, pass through a bounce buffer; longer ones go straight
/// from and to the guest's. A system call on one buffer is cheaper than one on two by more than the
/// copy costs, up to here.
pub(crate) const COPYBREAK: usize = 4096;

/// The CPU tells addresses apart by their place in a page of this size when it looks whether a load
/// is of what was just stored.
const PAGE: usize = 4096;
/// Offset in such a page at which a bounce buffer begins.
///
/// A copy takes up to twice its time when its destination lies a few bytes behind its source, each
/// in its page: every load seems to be of what was just stored. The kernel's end of a frame begins
/// 0 to 320 bytes behind a multiple of a kibibyte, by its headroom, and what an allocator gives out
/// begins there too. This is far behind any of those, and no multiple of a buffer's usual length.
const START_OFFSET: usize = 1600;

/// Bytes that never move and begin at [`START_OFFSET`].
#[derive(Debug)]
pub(crate) struct BounceBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl BounceBuffer {
    /// `len` zeroes. They are mapped lazily: what is never used is never paid for.
    pub(crate) fn new(len: usize) -> Self {
        let mut bytes = vec![0; len + PAGE];
        let start = START_OFFSET.wrapping_sub(bytes.as_ptr().addr()) % PAGE;
        bytes.truncate(start + len);
        Self { bytes, start }
    }

    /// The `N` bytes from offset `at` on, if there are as many.
    #[inline(always)]
    pub(crate) fn chunk_at<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        let from = self.start + at;
        self.bytes.get(from..from + N)?.first_chunk()
    }
}

impl Deref for BounceBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for BounceBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests;
