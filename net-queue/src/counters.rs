//! Counters of one queue: written by its worker alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::drop_cause::DropCause;
use crate::refusal::Refusal;

/// Frames, bytes, drops and refusals by cause, since the device was made.
#[derive(Debug, Default)]
pub struct QueueCounters {
    frames: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    kicks: AtomicU64,
    interrupts: AtomicU64,
    interrupts_suppressed: AtomicU64,
    limited: AtomicU64,
    drops: [AtomicU64; DropCause::COUNT],
    refusals: [AtomicU64; Refusal::COUNT],
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl QueueCounters {
    /// Values of all counters. Each is exact; a batch that ends meanwhile may be in some of them
    /// and not in others.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            frames: self.frames(),
            bytes: self.bytes(),
            batches: self.batches(),
            kicks: self.kicks(),
            interrupts: self.interrupts(),
            interrupts_suppressed: self.interrupts_suppressed(),
            limited: self.limited(),
            drops: self.drops.each_ref().map(|drops| drops.load(Relaxed)),
            refusals: self.refusals.each_ref().map(|count| count.load(Relaxed)),
        }
    }

    /// Frames that passed, or commands that were answered.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Bytes of these frames, headers not counted, or of these commands.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Batches in which a frame passed or a command was answered.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches.load(Relaxed)
    }

    /// Notifications of the driver that were seen; several that come before the worker looks are
    /// one.
    #[must_use]
    pub fn kicks(&self) -> u64 {
        self.kicks.load(Relaxed)
    }

    /// Batches after which the driver asked for an interrupt.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Relaxed)
    }

    /// Batches in which something passed, and after which the driver asked for no interrupt.
    #[must_use]
    pub fn interrupts_suppressed(&self) -> u64 {
        self.interrupts_suppressed.load(Relaxed)
    }

    /// Number of times that the rate limiter stopped the queue.
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

    /// Commands refused for `cause`.
    #[must_use]
    pub fn refusals(&self, cause: Refusal) -> u64 {
        self.refusals[cause.index()].load(Relaxed)
    }

    #[inline]
    pub(crate) fn add_batch(&self, frames: u64, bytes: u64) {
        if frames > 0 {
            add(&self.frames, frames);
            add(&self.bytes, bytes);
        }
    }

    /// Counts that a batch of `frames` was shown to the driver. `interrupt` says whether it asks
    /// for one, as it may for chains that were given back unused as well.
    #[inline]
    pub(crate) fn add_published(&self, frames: u64, interrupt: bool) {
        let passed = u64::from(frames > 0);
        add(&self.batches, passed);
        if interrupt {
            add(&self.interrupts, 1);
        } else {
            add(&self.interrupts_suppressed, passed);
        }
    }

    pub(crate) fn add_kick(&self) {
        add(&self.kicks, 1);
    }

    pub(crate) fn add_limited(&self) {
        add(&self.limited, 1);
    }

    pub(crate) fn add_drop(&self, cause: DropCause) {
        add(&self.drops[cause.index()], 1);
    }

    pub(crate) fn add_refusal(&self, cause: Refusal) {
        add(&self.refusals[cause.index()], 1);
    }
}

/// Values of a queue's counters at one time, or their sums over several queues.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Frames that passed, or commands that were answered.
    pub frames: u64,
    /// Bytes of these frames, headers not counted, or of these commands.
    pub bytes: u64,
    /// Batches in which a frame passed or a command was answered.
    pub batches: u64,
    /// Notifications of the driver that were seen.
    pub kicks: u64,
    /// Batches after which the driver asked for an interrupt.
    pub interrupts: u64,
    /// Batches in which something passed, and after which the driver asked for no interrupt.
    pub interrupts_suppressed: u64,
    /// Number of times that the rate limiter stopped the queue.
    pub limited: u64,
    drops: [u64; DropCause::COUNT],
    refusals: [u64; Refusal::COUNT],
}

impl QueueStats {
    /// Frames or chains dropped for `cause`.
    #[must_use]
    pub fn drops(&self, cause: DropCause) -> u64 {
        self.drops[cause.index()]
    }

    /// Frames or chains dropped for any cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Commands refused for `cause`.
    #[must_use]
    pub fn refusals(&self, cause: Refusal) -> u64 {
        self.refusals[cause.index()]
    }

    /// Commands refused for any cause.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals.iter().sum()
    }

    /// Every value under its name; drops begin with `drop_`, refusals with `refused_`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let whole = [
            ("frames", self.frames),
            ("bytes", self.bytes),
            ("batches", self.batches),
            ("kicks", self.kicks),
            ("interrupts", self.interrupts),
            ("interrupts_suppressed", self.interrupts_suppressed),
            ("limited", self.limited),
        ];
        let drops = DropCause::all().map(|cause| (cause.name(), self.drops(cause)));
        let refusals = Refusal::ALL.iter();
        let refusals = refusals.map(|cause| (cause.name(), self.refusals(*cause)));
        whole.into_iter().chain(drops).chain(refusals)
    }
}

impl Default for QueueStats {
    fn default() -> Self {
        Self {
            frames: 0,
            bytes: 0,
            batches: 0,
            kicks: 0,
            interrupts: 0,
            interrupts_suppressed: 0,
            limited: 0,
            drops: [0; DropCause::COUNT],
            refusals: [0; Refusal::COUNT],
        }
    }
}

impl std::ops::AddAssign<&Self> for QueueStats {
    fn add_assign(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.kicks += other.kicks;
        self.interrupts += other.interrupts;
        self.interrupts_suppressed += other.interrupts_suppressed;
        self.limited += other.limited;
        for (sum, count) in self.drops.iter_mut().zip(other.drops) {
            *sum += count;
        }
        for (sum, count) in self.refusals.iter_mut().zip(other.refusals) {
            *sum += count;
        }
    }
}

impl<'a> std::iter::Sum<&'a QueueCounters> for QueueStats {
    fn sum<I: Iterator<Item = &'a QueueCounters>>(queues: I) -> Self {
        queues.fold(Self::default(), |mut sum, queue| {
            sum += &queue.stats();
            sum
        })
    }
}

#[cfg(test)]
mod tests;
