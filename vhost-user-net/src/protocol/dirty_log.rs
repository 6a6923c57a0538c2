//! The dirty log: one bit for each 4 KiB page that the device wrote, in memory that the front-end
//! reads while a migration runs.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use net_device::net_queue::SharedBytes;
use net_device::{DirtyLog, Interrupt, InterruptSource};
use vhost::vhost_user::message::VhostUserLog;

use crate::protocol::memory_table::{MapError, map_shared};

#[cfg(test)]
mod tests;

/// Bytes that one bit stands for.
const PAGE: u64 = 0x1000;

/// The bitmap, mapped. Clones share it.
///
/// The front-end that gave it can take its memory away again. A mark is lost then, and so is the
/// migration: the bitmap remembers it, and tells whom it was told to.
#[derive(Clone)]
pub struct DirtyBitmap {
    bytes: SharedBytes,
    lost: Arc<AtomicBool>,
}

impl fmt::Debug for DirtyBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirtyBitmap")
            .field("bytes", &self.bytes)
            .field("lost", &self.is_lost())
            .finish()
    }
}

impl DirtyBitmap {
    /// Maps what SET_LOG_BASE announces.
    ///
    /// # Errors
    /// The bitmap is not wholly inside a regular file, or the kernel refuses.
    pub fn new(asked: &VhostUserLog, fd: OwnedFd) -> Result<Self, MapError> {
        let map = map_shared(fd, asked.mmap_offset, asked.mmap_size)?;
        Ok(Self {
            bytes: SharedBytes::new(Arc::new(map)),
            lost: Arc::default(),
        })
    }

    /// Returns whether a mark was lost, since the memory of the bitmap is not there any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Returns whether each page before `end` has a bit.
    #[must_use]
    pub fn covers(&self, end: u64) -> bool {
        end.div_ceil(8 * PAGE) <= self.bytes.len() as u64
    }

    /// Sets the bit of each page that `len` bytes at `addr` touch. Pages beyond the bitmap have no
    /// bit.
    ///
    /// Byte-wise atomic OR: the front-end fetches and clears bits at the same time, and whatever
    /// was written before is visible to whoever fetches the bit. Returns whether this call was the
    /// first to find no memory.
    pub fn mark(&self, addr: u64, len: u64) -> bool {
        let pages = self.bytes.len() as u64 * 8;
        let Some(last) = len
            .checked_sub(1)
            .map(|rest| addr.saturating_add(rest) / PAGE)
        else {
            return false;
        };
        for page in addr / PAGE..=last.min(pages.saturating_sub(1)) {
            let marked = self.bytes.fetch_or((page / 8) as usize, 1 << (page % 8));
            if marked.is_err() {
                return !self.lost.swap(true, Ordering::AcqRel);
            }
        }
        false
    }
}

/// A used ring whose writes are to be marked at another address than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedRing {
    /// Guest-physical address of the ring.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
    /// Address whose mark is for its first byte; need not be guest memory.
    pub log_addr: u64,
}

/// The bitmap as the device uses it.
pub struct DirtyPages {
    bitmap: DirtyBitmap,
    used_rings: Vec<UsedRing>,
    /// Told once when the bitmap is lost.
    session: Arc<dyn Interrupt>,
}

impl DirtyPages {
    /// Marks at guest-physical addresses, and `used_rings` also where they say. When the bitmap is
    /// lost, `session` gets a configuration interrupt, so that whoever serves it looks at
    /// [`DirtyBitmap::is_lost`].
    #[must_use]
    pub fn new(
        bitmap: DirtyBitmap,
        used_rings: Vec<UsedRing>,
        session: Arc<dyn Interrupt>,
    ) -> Self {
        Self {
            bitmap,
            used_rings,
            session,
        }
    }

    fn mark_at(&self, addr: u64, len: u64) {
        if self.bitmap.mark(addr, len) {
            // It cannot fail in a way that could be told to anybody.
            let _ = self.session.trigger(InterruptSource::Config);
        }
    }
}

impl DirtyLog for DirtyPages {
    fn mark(&self, gpa: u64, len: u64) {
        self.mark_at(gpa, len);
        for ring in &self.used_rings {
            let begin = gpa.max(ring.gpa);
            let end = gpa
                .saturating_add(len)
                .min(ring.gpa.saturating_add(ring.len));
            if begin < end {
                self.mark_at(ring.log_addr.saturating_add(begin - ring.gpa), end - begin);
            }
        }
    }
}
