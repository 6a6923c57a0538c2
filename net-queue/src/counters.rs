//! Counters of one queue: written by its worker alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::drop_cause::DropCause;

/// Frames, bytes and drops by cause, since the device was made.
#[derive(Debug, Default)]
pub struct QueueCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
    interrupts: AtomicU64,
    limited: AtomicU64,
    drops: [AtomicU64; DropCause::COUNT],
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl QueueCounters {
    /// Frames that passed.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Their bytes, headers not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Batches after which the driver asked for an interrupt.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Relaxed)
    }

    /// How often the rate limiter stopped the queue.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.limited.load(Relaxed)
    }

    /// Frames or chains dropped for `cause`.
    #[must_use]
    pub fn drops(&self, cause: DropCause) -> u64 {
        self.drops[cause.index()].load(Relaxed)
    }

    /// Frames or chains dropped for any cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(|counter| counter.load(Relaxed)).sum()
    }

    #[inline]
    pub(crate) fn add_batch(&self, frames: u64, bytes: u64) {
        if frames > 0 {
            add(&self.frames, frames);
            add(&self.bytes, bytes);
        }
    }

    pub(crate) fn add_interrupt(&self) {
        add(&self.interrupts, 1);
    }

    pub(crate) fn add_limited(&self) {
        add(&self.limited, 1);
    }

    pub(crate) fn add_drop(&self, cause: DropCause) {
        add(&self.drops[cause.index()], 1);
    }
}
