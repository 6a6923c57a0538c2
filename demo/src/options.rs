//! Options of the demonstration.

use std::time::Duration;

/// Amount of measuring.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds of TCP in each direction (1 to 5)
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=5))]
    pub seconds: u64,

    /// Echo requests to measure latency with (1 to 10000)
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pings: u32,

    /// Save the device in the middle of each stream, restore it on another tap, and finish the
    /// stream there
    #[arg(long)]
    pub snapshot: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 3,
            pings: 1000,
            snapshot: false,
        }
    }
}

impl Options {
    /// Length of one transfer.
    pub(super) fn transfer(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
