//! The dirty log: one bit for each 4 KiB page that the device wrote, in memory that the front-end reads while a
//! migration runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use net_device::DirtyLog;
use vhost::vhost_user::message::VhostUserLog;
use vm_memory::{MmapRegion, VolatileMemory};

use crate::memory::{MapError, map_shared};

#[cfg(test)]
mod tests;

/// Bytes that one bit stands for.
const PAGE: u64 = 0x1000;

/// The bitmap, mapped. Clones share it.
#[derive(Clone, Debug)]
pub struct DirtyBitmap {
    map: Arc<MmapRegion>,
}

impl DirtyBitmap {
    /// Maps what SET_LOG_BASE announces.
    ///
    /// # Errors
    /// The bitmap is not wholly inside a regular file, or the kernel refuses.
    pub fn new(asked: &VhostUserLog, fd: OwnedFd) -> Result<Self, MapError> {
        Ok(Self {
            map: Arc::new(map_shared(fd, asked.mmap_offset, asked.mmap_size)?),
        })
    }

    /// Sets the bit of each page that `len` bytes at `addr` touch. Pages beyond the bitmap have no bit.
    ///
    /// Byte-wise atomic OR: the front-end fetches and clears bits at the same time, and whatever was written
    /// before is visible to whoever fetches the bit.
    pub fn mark(&self, addr: u64, len: u64) {
        let pages = self.map.size() as u64 * 8;
        let Some(last) = len
            .checked_sub(1)
            .map(|rest| addr.saturating_add(rest) / PAGE)
        else {
            return;
        };
        for page in addr / PAGE..=last.min(pages.saturating_sub(1)) {
            if let Ok(byte) = self.map.get_atomic_ref::<AtomicU8>((page / 8) as usize) {
                byte.fetch_or(1 << (page % 8), Ordering::Release);
            }
        }
    }
}

/// A used ring whose writes are to be marked at another address than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedRing {
    /// Guest-physical address of the ring.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where its first byte is marked; need not be guest memory.
    pub log_addr: u64,
}

/// The bitmap as the device uses it.
#[derive(Debug)]
pub struct DirtyPages {
    bitmap: DirtyBitmap,
    used_rings: Vec<UsedRing>,
}

impl DirtyPages {
    /// Marks at guest-physical addresses, and `used_rings` also where they say.
    #[must_use]
    pub fn new(bitmap: DirtyBitmap, used_rings: Vec<UsedRing>) -> Self {
        Self { bitmap, used_rings }
    }
}

impl DirtyLog for DirtyPages {
    fn mark(&self, gpa: u64, len: u64) {
        self.bitmap.mark(gpa, len);
        for ring in &self.used_rings {
            let begin = gpa.max(ring.gpa);
            let end = gpa
                .saturating_add(len)
                .min(ring.gpa.saturating_add(ring.len));
            if begin < end {
                self.bitmap
                    .mark(ring.log_addr.saturating_add(begin - ring.gpa), end - begin);
            }
        }
    }
}
