//! Dirty marks: the log that is told of what the device writes, and the switch that turns it on and
//! off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

use vm_memory::bitmap::Bitmap;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Is told of every byte range that the device wrote to guest memory.
pub trait DirtyLog: Send + Sync {
    /// Marks `len` bytes from guest-physical address `gpa`; the range lies in guest memory.
    fn mark(&self, gpa: u64, len: u64);
}

/// Switch for telling guest memory's [`DirtyLog`] of writes. Clones share one state; it begins
/// on.
///
/// Memory whose regions carry bitmaps has a log all the time, while somebody reads it only during a
/// migration or between two snapshots of memory. A mark is an atomic operation on a shared cache
/// line and costs as much as the rest of a short frame's ring work; while the switch is off, what
/// is left of it is a load and a branch.
///
/// On is the default because its opposite would lose data: a VMM that knows nothing of the switch
/// may read its bitmaps at any time, and marks too many cost time, marks too few a guest.
///
/// An engine looks at the switch each time it has written something, so a thread that runs one may
/// have written and not marked when another thread turns it on. Before memory is copied, that
/// thread has to be outside of the engines once, as after a pause (`NetDevice::set_dirty_logging`
/// of `net-device`), or has to have passed a memory barrier, as by `membarrier`
/// (`DeviceHandle::set_dirty_logging`): what it wrote until then is in the copy, and what it writes
/// later is marked.
#[derive(Clone, Debug)]
pub struct DirtySwitch(Arc<AtomicBool>);

impl Default for DirtySwitch {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl DirtySwitch {
    /// Turns marks on or off.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    /// Returns whether marks are made.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        // What was written comes before the look in the program, so at a barrier in between it is
        // visible, and at one before it the switch is. That the CPU may do it the other way round
        // is what the setter's barrier or pause is for.
        compiler_fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed)
    }
}

/// The bitmaps that vm-memory's regions carry.
pub(super) struct Bitmaps<M>(pub(super) Arc<M>);

impl<M> DirtyLog for Bitmaps<M>
where
    M: GuestMemoryBackend + Send + Sync,
{
    fn mark(&self, gpa: u64, len: u64) {
        if let Some((region, offset)) = self.0.to_region_addr(GuestAddress(gpa)) {
            region
                .bitmap()
                .mark_dirty(offset.raw_value() as usize, len as usize);
        }
    }
}
