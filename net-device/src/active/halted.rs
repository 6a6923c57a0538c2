//! Queues that stand still, as long as nothing but a reset can cure them.

use std::collections::BTreeMap;

use net_queue::ring::{Cursor, RingConfig};

use crate::error::QueueError;

/// A queue that the device knows of and does not run: it has no engine, no worker and no guest
/// memory.
#[derive(Clone, Copy, Debug)]
struct HaltedQueue {
    /// Addresses and position.
    config: RingConfig,
    /// The VMM has started it and not stopped it since.
    started: bool,
}

/// The queues of a device that stand still.
///
/// A ring that its driver broke (VQ-SPL-11) stays broken whatever the VMM does to it: changes
/// memory, pauses, resumes, stops it and starts it where it stood. Two things end that: a reset of
/// the device, and a start of the queue at its very beginning. The latter is what follows a reset
/// of the one queue (VirtIO 1.4 §2.6.1), or one of the device of which only the driver's half was
/// told to this side, as older vhost-user front-ends do: a new ring, whatever the old one was. The
/// device goes on to need a reset then.
///
/// On a device that was saved when it needed a reset, every queue stands still.
#[derive(Debug, Default)]
pub(super) struct HaltedQueues {
    /// Whatever queue is started.
    all: bool,
    queues: BTreeMap<u16, HaltedQueue>,
}

impl HaltedQueues {
    /// Stops queues from running, whichever will be started.
    pub(super) fn halt_all(&mut self) {
        self.all = true;
    }

    /// Keeps a broken queue, whose engine is gone.
    pub(super) fn put(&mut self, index: u16, config: RingConfig, started: bool) {
        self.queues.insert(index, HaltedQueue { config, started });
    }

    /// Returns whether the queue stands still.
    pub(super) fn has(&self, index: u16) -> bool {
        self.queues.contains_key(&index)
    }

    /// Returns whether a queue stands still, started or not.
    pub(super) fn stands_still(&self, index: u16) -> bool {
        self.all || self.has(index)
    }

    /// Takes a queue that is started if it is to stand still; returns whether it is.
    ///
    /// # Errors
    /// It is started already.
    pub(super) fn start(&mut self, index: u16, config: &RingConfig) -> Result<bool, QueueError> {
        match self.queues.get(&index) {
            Some(queue) if queue.started => return Err(QueueError::Running(index)),
            None if !self.all => return Ok(false),
            Some(_) if !self.all && is_fresh(&config.cursor) => {
                self.queues.remove(&index);
                return Ok(false);
            }
            _ => {}
        }
        self.put(index, *config, true);
        Ok(true)
    }

    /// Stops a queue that stands still; returns where it stood, or `None` if it is not such a
    /// queue.
    pub(super) fn stop(&mut self, index: u16) -> Option<Cursor> {
        let queue = self.queues.get_mut(&index)?;
        std::mem::take(&mut queue.started).then_some(queue.config.cursor)
    }

    /// The queues that were started and not stopped.
    pub(super) fn started(&self) -> impl Iterator<Item = (u16, RingConfig)> {
        let started = self.queues.iter().filter(|(_, queue)| queue.started);
        started.map(|(index, queue)| (*index, queue.config))
    }
}

/// Returns whether a ring that starts at `cursor` has not been used yet. A split ring's used index
/// may be left to be read.
fn is_fresh(cursor: &Cursor) -> bool {
    let used = cursor.used.or(Some(0));
    Cursor { used, ..*cursor } == Cursor::default()
}
