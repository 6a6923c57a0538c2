//! Percentiles of round-trip times.

use std::time::Duration;

/// Round-trip times, sorted.
#[derive(Debug, Clone)]
pub(super) struct Latency {
    sorted: Vec<Duration>,
}

impl Latency {
    /// Of samples in any order; `None` without one.
    pub(super) fn of(mut samples: Vec<Duration>) -> Option<Self> {
        samples.sort_unstable();
        (!samples.is_empty()).then_some(Self { sorted: samples })
    }

    /// Number of samples.
    pub(super) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest sample that `percent` of all samples do not exceed (nearest rank).
    pub(super) fn percentile(&self, percent: u8) -> Duration {
        let rank = (self.sorted.len() * usize::from(percent.min(100))).div_ceil(100);
        self.sorted[rank.saturating_sub(1)]
    }

    /// The smallest sample.
    pub(super) fn min(&self) -> Duration {
        self.percentile(0)
    }

    /// The largest sample.
    pub(super) fn max(&self) -> Duration {
        self.percentile(100)
    }
}

#[cfg(test)]
mod tests;
