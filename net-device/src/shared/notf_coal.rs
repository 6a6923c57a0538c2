//! Parameters of notification coalescing, as the driver's commands set them. VirtIO 1.4
//! §5.1.9.5.10.
//!
//! The control queue writes them, and each queue's worker looks at its own before a batch. A worker
//! that sleeps while notifications wait sleeps on a timer, which a change lets expire: it then
//! decides again by what is in force (NET-CVQ-25).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use net_queue::ctrl::NotificationCoalescing;
use rate_limiter::Wake;

use crate::wake_timer::WakeTimer;

/// Parameters of one queue, in one word: `max_packets` below, `max_usecs` above.
#[derive(Debug, Default)]
struct Params(AtomicU64);

impl Params {
    #[inline]
    fn load(&self) -> NotificationCoalescing {
        let word = self.0.load(Ordering::SeqCst);
        NotificationCoalescing {
            max_packets: word as u32,
            max_usecs: (word >> 32) as u32,
        }
    }

    /// Returns whether they were others.
    fn store(&self, notf_coal: NotificationCoalescing) -> bool {
        let NotificationCoalescing {
            max_packets,
            max_usecs,
        } = notf_coal;
        let word = u64::from(max_packets) | u64::from(max_usecs) << 32;
        self.0.swap(word, Ordering::SeqCst) != word
    }
}

/// Direction of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueDirection {
    Rx,
    Tx,
}

impl QueueDirection {
    /// Of a queue of a pair, by its index.
    pub(crate) fn of(queue: u16) -> Self {
        if queue.is_multiple_of(2) {
            Self::Rx
        } else {
            Self::Tx
        }
    }
}

/// Parameters as they are saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedNotfCoal {
    /// Of receive queues that come, as last set for all of them.
    pub(crate) rx: NotificationCoalescing,
    /// The same for transmit queues.
    pub(crate) tx: NotificationCoalescing,
    /// Of single queues.
    pub(crate) queues: Vec<(u16, NotificationCoalescing)>,
}

impl SavedNotfCoal {
    /// Parameters that `queue` starts with.
    #[cfg(feature = "snapshot")]
    pub(crate) fn of_direction(&self, queue: u16) -> NotificationCoalescing {
        match QueueDirection::of(queue) {
            QueueDirection::Rx => self.rx,
            QueueDirection::Tx => self.tx,
        }
    }

    /// Parameters of `queue`; zeros for one of which none are known.
    #[cfg(feature = "snapshot")]
    pub(crate) fn of(&self, queue: u16) -> NotificationCoalescing {
        let mut queues = self.queues.iter();
        let found = queues.find(|(index, _)| *index == queue);
        found.map_or(NotificationCoalescing::OFF, |(_, notf_coal)| *notf_coal)
    }
}

/// Parameters of every queue of a device, zeros at first (NET-CVQ-21).
#[derive(Debug)]
pub(crate) struct NotfCoal {
    rx: Params,
    tx: Params,
    /// By index.
    queues: Vec<Params>,
    /// Timer of each pair's worker.
    timers: Vec<Mutex<Option<Arc<WakeTimer>>>>,
}

impl NotfCoal {
    pub(crate) fn new(pairs: usize) -> Self {
        Self {
            rx: Params::default(),
            tx: Params::default(),
            queues: (0..2 * pairs).map(|_| Params::default()).collect(),
            timers: (0..pairs).map(|_| Mutex::default()).collect(),
        }
    }

    /// Parameters of `queue`; zeros for one that is not of a pair.
    #[inline]
    pub(crate) fn get(&self, queue: u16) -> NotificationCoalescing {
        let params = self.queues.get(usize::from(queue));
        params.map_or(NotificationCoalescing::OFF, Params::load)
    }

    /// Sets those of `queue`, and lets its worker look at them.
    pub(crate) fn set(&self, queue: u16, notf_coal: NotificationCoalescing) {
        let params = self.queues.get(usize::from(queue));
        if params.is_some_and(|params| params.store(notf_coal))
            && let Some(timer) = self.timers.get(usize::from(queue / 2))
        {
            let timer = timer.lock().unwrap_or_else(PoisonError::into_inner);
            timer.iter().for_each(|timer| timer.wake());
        }
    }

    /// Sets those of every queue of a direction, also of those that come later.
    pub(crate) fn set_all(&self, direction: QueueDirection, notf_coal: NotificationCoalescing) {
        self.of_new(direction).store(notf_coal);
        for queue in 0..self.queues.len() as u16 {
            if QueueDirection::of(queue) == direction {
                self.set(queue, notf_coal);
            }
        }
    }

    /// Number of workers that [`Self::set_all`] would wake.
    pub(crate) fn others(
        &self,
        direction: QueueDirection,
        notf_coal: NotificationCoalescing,
    ) -> u64 {
        let queues = (0..).zip(&self.queues);
        let others = queues.filter(|(queue, params)| {
            QueueDirection::of(*queue) == direction && params.load() != notf_coal
        });
        others.count() as u64
    }

    /// Forgets what was set for `queue` alone: it begins anew (NET-CVQ-23).
    pub(crate) fn return_to_direction(&self, queue: u16) {
        self.set(queue, self.of_new(QueueDirection::of(queue)).load());
    }

    fn of_new(&self, direction: QueueDirection) -> &Params {
        match direction {
            QueueDirection::Rx => &self.rx,
            QueueDirection::Tx => &self.tx,
        }
    }

    /// Tells which timer the worker of `pair` waits for.
    pub(crate) fn set_timer(&self, pair: u16, timer: Option<Arc<WakeTimer>>) {
        if let Some(params) = self.timers.get(usize::from(pair)) {
            *params.lock().unwrap_or_else(PoisonError::into_inner) = timer;
        }
    }

    /// All of them.
    #[cfg(feature = "snapshot")]
    pub(crate) fn state(&self) -> SavedNotfCoal {
        let queues = (0..)
            .zip(&self.queues)
            .map(|(queue, params)| (queue, params.load()));
        SavedNotfCoal {
            rx: self.rx.load(),
            tx: self.tx.load(),
            queues: queues.collect(),
        }
    }

    /// Sets all of them as they were saved.
    pub(crate) fn restore(&self, state: &SavedNotfCoal) {
        self.set_all(QueueDirection::Rx, state.rx);
        self.set_all(QueueDirection::Tx, state.tx);
        for (queue, notf_coal) in &state.queues {
            self.set(*queue, *notf_coal);
        }
    }
}
