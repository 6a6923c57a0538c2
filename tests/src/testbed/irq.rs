//! The guest's interrupt controller.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use net_device::{Interrupt, InterruptSource};

use crate::testbed::Doorbell;

/// Counts interrupts by source, and can be waited on.
#[derive(Debug, Default)]
pub struct Irq {
    /// The configuration's are counted under `None`.
    counts: Mutex<BTreeMap<Option<u16>, usize>>,
    bell: Doorbell,
}

impl Interrupt for Irq {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let key = match source {
            InterruptSource::Queue(index) => Some(index),
            InterruptSource::Config => None,
        };
        *self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key)
            .or_default() += 1;
        self.bell.ring();
        Ok(())
    }
}

impl Irq {
    fn count(&self, key: Option<u16>) -> usize {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&key).copied().unwrap_or(0)
    }

    /// Interrupts of queue `index` so far.
    #[must_use]
    pub fn queue(&self, index: u16) -> usize {
        self.count(Some(index))
    }

    /// Configuration interrupts so far.
    #[must_use]
    pub fn config(&self) -> usize {
        self.count(None)
    }

    /// All interrupts so far.
    #[must_use]
    pub fn all(&self) -> usize {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().sum()
    }

    /// Waits for the `count`-th configuration interrupt.
    pub fn wait_config(&self, count: usize) {
        self.wait_until("a configuration interrupt", || self.config() >= count);
    }

    /// Returns when `done` does true, which is asked now and at each interrupt.
    pub fn wait_until(&self, what: &str, done: impl FnMut() -> bool) {
        self.bell.wait_until(what, done);
    }
}
