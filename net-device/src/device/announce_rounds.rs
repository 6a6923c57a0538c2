//! Rounds of an announcement, and who announces.

use std::time::Duration;

/// Time before each round after the first one, in milliseconds: sooner at first, when somebody may
/// be waiting.
const INTERVALS_MS: [u64; 4] = [50, 150, 250, 350];

/// Sender of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcer {
    /// The driver: it is asked to (NET-CVQ-18).
    Driver,
    /// The device.
    Device,
    /// Nobody: the driver cannot, and no MAC address is known.
    Nobody,
}

/// The rounds of an announcement that are left.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Intervals before those that are left.
    left: &'static [u64],
    /// Time of the next one.
    deadline_ns: u64,
}

impl Rounds {
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.left = &INTERVALS_MS;
        self.after_round(now_ns);
    }

    fn after_round(&mut self, now_ns: u64) {
        let interval = self.left.first().copied().unwrap_or_default();
        self.deadline_ns = now_ns + interval * 1_000_000;
    }

    /// Time until the next round.
    pub(super) fn until_next(&self, now_ns: u64) -> Option<Duration> {
        let wait = self.deadline_ns.saturating_sub(now_ns);
        (!self.left.is_empty()).then(|| Duration::from_nanos(wait))
    }

    /// Counts the next one if it is due; returns whether it is.
    pub(super) fn take_due(&mut self, now_ns: u64) -> bool {
        let due = self.until_next(now_ns) == Some(Duration::ZERO);
        if due {
            self.left = self.left.get(1..).unwrap_or_default();
            self.after_round(now_ns);
        }
        due
    }

    /// Ends what is left.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}
