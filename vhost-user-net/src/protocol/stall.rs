//! Rings that stand still although one side waits for the other: a notification that was lost.
//!
//! The device's thread looks at the rings of its front-end once a second, from outside; workers and
//! the data path do nothing for it but to show, as they go to sleep, what they wait for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net_device::WaitsFor;

#[cfg(test)]
mod tests;

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Looks without progress before a ring counts as stalled.
const PATIENCE: u32 = 2;

/// A ring as it is seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingView {
    /// Frames, drops and commands so far: any change is progress.
    pub progress: u64,
    /// Interrupts that were sent so far.
    pub interrupts: u64,
    /// Event that the device waits for.
    pub waits_for: WaitsFor,
    /// Entries that the driver made available and that are not used, as far as that can be told.
    pub depth: u16,
    /// Of these, entries that the device has not seen while it waits for the driver.
    pub unseen: u16,
    /// Used entries of which the driver asked to be told, and that it did not take.
    pub untaken: u16,
}

/// Side whose notification is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The driver made entries available, and the device waits for a kick.
    Kick,
    /// The device used entries, and the driver waits for an interrupt.
    Interrupt,
}

/// Change of a ring since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It stalls: both sides are to be notified, once.
    Stalled(Missing),
    /// One that stalled goes on.
    GoesOn,
}

/// Values about one ring for the metrics.
#[derive(Debug, Default)]
pub struct RingGauges {
    depth: AtomicU64,
    idle_s: AtomicU64,
    kicks: AtomicU64,
    interrupts: AtomicU64,
}

impl RingGauges {
    /// Entries that the driver made available and that are not used.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Seconds since something passed, of a ring that runs.
    #[must_use]
    pub fn idle_s(&self) -> u64 {
        self.idle_s.load(Ordering::Relaxed)
    }

    /// Stalls for want of a kick, or of an interrupt.
    #[must_use]
    pub fn stalls(&self, missing: Missing) -> u64 {
        self.counter(missing).load(Ordering::Relaxed)
    }

    fn counter(&self, missing: Missing) -> &AtomicU64 {
        match missing {
            Missing::Kick => &self.kicks,
            Missing::Interrupt => &self.interrupts,
        }
    }

    /// The ring does not run any more.
    pub(crate) fn clear(&self) {
        self.depth.store(0, Ordering::Relaxed);
        self.idle_s.store(0, Ordering::Relaxed);
    }
}

/// Memory of one ring between two looks.
#[derive(Debug, Default)]
pub struct RingWatch {
    last: Option<RingView>,
    since: Option<Instant>,
    /// The last activity ended in an interrupt.
    interrupted: bool,
    /// Looks at which the same side was missing.
    looks: (Option<Missing>, u32),
    /// It was notified, and has not moved since.
    told: bool,
}

impl RingWatch {
    /// Looks at a ring that runs.
    pub fn look(&mut self, now: Instant, view: RingView, gauges: &RingGauges) -> Option<Finding> {
        let last = self.last.replace(view).unwrap_or(view);
        let since = *self.since.get_or_insert(now);
        gauges.depth.store(view.depth.into(), Ordering::Relaxed);
        if last.progress != view.progress {
            self.since = Some(now);
            self.interrupted = last.interrupts != view.interrupts;
            self.looks = (None, 0);
            gauges.idle_s.store(0, Ordering::Relaxed);
            return std::mem::take(&mut self.told).then_some(Finding::GoesOn);
        }
        let idle = now.saturating_duration_since(since).as_secs();
        gauges.idle_s.store(idle, Ordering::Relaxed);
        let missing = self.missing(&view);
        let before = if self.looks.0 == missing {
            self.looks.1
        } else {
            0
        };
        self.looks = (missing, before + 1);
        let missing = missing.filter(|_| self.looks.1 > PATIENCE && !self.told)?;
        self.told = true;
        gauges.counter(missing).fetch_add(1, Ordering::Relaxed);
        Some(Finding::Stalled(missing))
    }

    fn missing(&self, view: &RingView) -> Option<Missing> {
        if view.waits_for == WaitsFor::Driver && view.unseen > 0 {
            Some(Missing::Kick)
        } else if self.interrupted && view.untaken > 0 {
            Some(Missing::Interrupt)
        } else {
            None
        }
    }
}
