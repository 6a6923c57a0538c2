//! What can be wrong with a device as a whole, told once and remembered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::log_limit::LogLimit;
use crate::log_limited;

/// Whether the device needs a reset, and whom to tell that a worker died.
#[derive(Debug, Default)]
pub(crate) struct Health {
    id: String,
    needs_reset: AtomicBool,
    exit_event: Mutex<Option<EventFd>>,
    /// For every line about this device that its guest can cause.
    pub(crate) log: LogLimit,
}

impl Health {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Signalled when a worker panics.
    pub(crate) fn set_exit_event(&self, event: EventFd) {
        if let Ok(mut slot) = self.exit_event.lock() {
            *slot = Some(event);
        }
    }

    /// The device cannot go on until it is reset (DEV-LIFE-04). Returns true, and logs, the first time after a
    /// reset only.
    pub(crate) fn fail(&self, what: &dyn std::fmt::Display) -> bool {
        let first = !self.needs_reset.swap(true, Ordering::AcqRel);
        if first {
            log_limited!(
                self.log,
                Error,
                "{}: {what}; the device needs a reset",
                self.id
            );
        }
        first
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// As it was saved; nothing is logged or told.
    pub(crate) fn restore(&self, needs_reset: bool) {
        self.needs_reset.store(needs_reset, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.needs_reset.store(false, Ordering::Release);
    }

    /// Tells the VMM that a worker is lost.
    pub(crate) fn signal_exit(&self) {
        if let Ok(event) = self.exit_event.lock()
            && let Some(event) = event.as_ref()
        {
            let _ = event.write(1);
        }
    }
}
