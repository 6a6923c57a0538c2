//! Notification coalescing of one queue: arithmetic over packets and nanoseconds. VirtIO 1.4
//! §5.1.9.5.10.

use net_queue::ctrl::NotificationCoalescing;

#[cfg(test)]
mod tests;

/// Counts packets and time since the last notification, and tells when the next one is due
/// (NET-CVQ-25).
///
/// ```text
///   packets:   1   2        3   |            1        |      1 2 3 4 |
///   time:      |<--- max_usecs ---->         |<--- max_usecs --->    max_packets
///              starts               due      starts             due  due
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moderation {
    params: NotificationCoalescing,
    packets: u64,
    /// Time at which what waits is due, in ns; `None` when nothing waits.
    deadline: Option<u64>,
    /// When what waits began to.
    since: u64,
}

impl Moderation {
    /// Returns whether notifications wait for anything.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.params.is_on()
    }

    /// Parameters in force.
    #[inline]
    pub(super) fn params(&self) -> NotificationCoalescing {
        self.params
    }

    /// Puts other parameters in force, also for what waits already.
    pub(super) fn set(&mut self, params: NotificationCoalescing) {
        self.params = params;
        if self.deadline.is_some() {
            self.deadline = Some(self.due_at());
        }
    }

    fn due_at(&self) -> u64 {
        self.since
            .saturating_add(u64::from(self.params.max_usecs) * 1000)
    }

    /// Packets that may pass before a notification is due, at least one.
    #[inline]
    pub(super) fn remaining(&self) -> u32 {
        let left = u64::from(self.params.max_packets).saturating_sub(self.packets);
        left.clamp(1, u32::MAX.into()) as u32
    }

    /// Counts `packets` that were shown to the driver at `now`; none where other buffers were.
    pub(super) fn count(&mut self, packets: u64, now: u64) {
        self.packets = self.packets.saturating_add(packets);
        if self.deadline.is_none() {
            self.since = now;
            self.deadline = Some(self.due_at());
        }
    }

    /// Returns whether something waits that is due by its number or, at `now`, by its time.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.deadline.is_some_and(|deadline| {
            !self.is_on() || self.packets >= self.params.max_packets.into() || now >= deadline
        })
    }

    /// Begins to count anew with the next packet.
    pub(super) fn reset(&mut self) {
        self.packets = 0;
        self.deadline = None;
    }

    /// Time at which what waits is due; `None` when nothing waits.
    #[inline]
    pub(super) fn deadline(&self) -> Option<u64> {
        self.deadline
    }
}
