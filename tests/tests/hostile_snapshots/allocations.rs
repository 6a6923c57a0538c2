//! An allocator that knows what each thread holds.

// A global allocator is `unsafe` by its trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Heap of a thread while something was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heap {
    /// Bytes that are held beyond those at the beginning; what another thread took is not given
    /// back here.
    held: i64,
    /// Most bytes that were held at once.
    pub(crate) peak: i64,
    /// Number of allocations.
    pub(crate) count: u64,
}

thread_local! {
    static HEAP: Cell<Heap> = const { Cell::new(Heap { held: 0, peak: 0, count: 0 }) };
}

struct Counting;

fn count(bytes: i64) {
    // At a thread's end the counter may be gone; then nobody counts.
    let _ = HEAP.try_with(|heap| {
        let Heap { held, peak, count } = heap.get();
        let held = held + bytes;
        heap.set(Heap {
            held,
            peak: peak.max(held),
            count: count + u64::from(bytes > 0),
        });
    });
}

// SAFETY: every call is passed on to `System` unchanged; counting touches a thread-local value
// only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `at` came from `System` with this layout, as the caller vouches.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be held while the bytes are copied.
        count(size as i64);
        count(-(layout.size() as i64));
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Does `work`; the result, and what this thread needed for it.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, Heap) {
    HEAP.with(|heap| heap.set(Heap::default()));
    let done = work();
    (done, HEAP.with(Cell::get))
}
