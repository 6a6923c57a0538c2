//! State in which each queue was left by its worker when that went to sleep.

use std::sync::atomic::{AtomicU32, Ordering};

use net_queue::ring::Cursor;

/// Event that a queue waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitsFor {
    /// It does not run.
    #[default]
    Stopped,
    /// None: its worker is at work.
    Nothing,
    /// Its driver: there is nothing to send, or no buffer to receive into.
    Driver,
    /// The network: no frame is there, or no space for one.
    Network,
    /// Its rate limit.
    Limit,
    /// A reset: the ring or the port is broken.
    Reset,
}

impl WaitsFor {
    /// Every event, in the order of its number.
    pub const ALL: [Self; 6] = [
        Self::Stopped,
        Self::Nothing,
        Self::Driver,
        Self::Network,
        Self::Limit,
        Self::Reset,
    ];

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Nothing => "nothing",
            Self::Driver => "driver",
            Self::Network => "network",
            Self::Limit => "limit",
            Self::Reset => "reset",
        }
    }
}

/// State of a queue, as of when its worker went to sleep or woke up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueState {
    /// Event that it waits for.
    pub waits_for: WaitsFor,
    /// Position behind the last entry that it took: an index in a split ring, a slot in a packed
    /// one. Known while it waits.
    pub avail: u16,
    /// Wrap counter at that position of a packed ring.
    pub avail_wrap: bool,
}

/// The states of a device's queues: written by their workers as they go to sleep and wake up, read
/// by anyone.
#[derive(Debug)]
pub(crate) struct QueueStates(Box<[AtomicU32]>);

impl QueueStates {
    pub(crate) fn new(queues: usize) -> Self {
        Self((0..queues).map(|_| AtomicU32::default()).collect())
    }

    /// Queue `index` waits for an event.
    pub(crate) fn set(&self, index: u16, waits_for: WaitsFor, cursor: &Cursor) {
        if let Some(state) = self.0.get(usize::from(index)) {
            let wrap = u32::from(cursor.avail_wrap) << 16;
            let value = u32::from(cursor.avail) | wrap | (waits_for as u32) << 17;
            state.store(value, Ordering::Relaxed);
        }
    }

    /// Queue `index` is at work, or stopped.
    pub(crate) fn clear(&self, index: u16, waits_for: WaitsFor) {
        if let Some(state) = self.0.get(usize::from(index)) {
            state.store((waits_for as u32) << 17, Ordering::Relaxed);
        }
    }

    /// The states, by index of the queue.
    pub(crate) fn read(&self) -> Vec<QueueState> {
        let states = self.0.iter().map(|state| state.load(Ordering::Relaxed));
        let decoded = states.map(|value| QueueState {
            waits_for: WaitsFor::ALL[(value >> 17) as usize % WaitsFor::ALL.len()],
            avail: value as u16,
            avail_wrap: value & 1 << 16 != 0,
        });
        decoded.collect()
    }
}
