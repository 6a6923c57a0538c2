//! An owned buffer in guest memory.

use std::ops::{Deref, DerefMut};
use std::slice;

use virtio_drivers::PAGE_SIZE;

use crate::guest::arena::{Arena, PageRun};

/// Whole pages of guest memory with one owner; they return to the arena on drop.
///
/// While a device may write to it, its owner is [`Driver`](super::Driver), which does not look
/// inside: the bytes are reached only through a reference to the `DmaBuf`.
#[derive(Debug)]
pub struct DmaBuf {
    run: PageRun,
}

// SAFETY: the pages have one owner and the arena that they belong to is shared by all threads.
unsafe impl Send for DmaBuf {}

impl DmaBuf {
    /// A zeroed buffer of at least `len` bytes, or `None` when guest memory is used up.
    pub fn new(len: usize) -> Option<Self> {
        let run = Arena::global().ok()?.take(len.div_ceil(PAGE_SIZE))?;
        Some(Self { run })
    }
}

impl Deref for DmaBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the run is mapped for ever, initialised, and lent by the arena to this value
        // alone; `&self` keeps every writer out.
        unsafe { slice::from_raw_parts(self.run.host.as_ptr(), self.run.pages * PAGE_SIZE) }
    }
}

impl DerefMut for DmaBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only reference.
        unsafe { slice::from_raw_parts_mut(self.run.host.as_ptr(), self.run.pages * PAGE_SIZE) }
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        if let Ok(arena) = Arena::global() {
            arena.give(self.run.gpa, self.run.pages);
        }
    }
}
