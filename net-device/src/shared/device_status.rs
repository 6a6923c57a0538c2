//! Status of a device as a whole: a failure is told once and remembered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tap::DroppedFrames;
use vmm_sys_util::eventfd::EventFd;

use crate::events::{DeviceEvent, Events};
use crate::shared::queue_states::QueueStates;

/// Device status: the need of a reset, and whom to tell that a worker died.
#[derive(Debug)]
pub(crate) struct DeviceStatus {
    events: Arc<Events>,
    needs_reset: AtomicBool,
    /// A port is gone, over all resets until there is another one.
    port_lost: AtomicBool,
    /// Cause of the failure; changes under this lock together with `needs_reset`.
    reason: Mutex<Option<Arc<str>>>,
    exit_event: Option<EventFd>,
    /// By index.
    pub(crate) queues: QueueStates,
    /// Frames that the kernel drops, and how many these were when the device was made.
    filtered: Option<(DroppedFrames, u64)>,
}

impl DeviceStatus {
    /// The status of a device with `queues` queues that works. `exit_event` is signalled when a
    /// worker panics.
    pub(crate) fn new(events: Arc<Events>, exit_event: Option<EventFd>, queues: usize) -> Self {
        Self {
            events,
            needs_reset: AtomicBool::default(),
            port_lost: AtomicBool::default(),
            reason: Mutex::default(),
            exit_event,
            queues: QueueStates::new(queues),
            filtered: None,
        }
    }

    /// The same for a device of whose frames the kernel drops some, and counts them.
    pub(crate) fn counting(self, filtered: Option<DroppedFrames>) -> Self {
        let filtered = filtered.map(|filtered| {
            let before = filtered.get();
            (filtered, before)
        });
        Self { filtered, ..self }
    }

    /// Frames that the kernel dropped, since the device was made.
    pub(crate) fn kernel_filtered(&self) -> u64 {
        let filtered = self.filtered.as_ref();
        filtered.map_or(0, |(filtered, before)| filtered.get().wrapping_sub(*before))
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// The device cannot go on until it is reset (DEV-LIFE-04). Returns true, and tells of it, the
    /// first time only: what a guest can provoke must not fill the log.
    pub(crate) fn fail(&self, what: &dyn std::fmt::Display) -> bool {
        let reason = {
            let mut known = self.lock();
            if self.needs_reset() {
                return false;
            }
            let reason = what.to_string();
            *known = Some(reason.as_str().into());
            self.needs_reset.store(true, Ordering::Release);
            reason
        };
        // Not under the lock: the observer may ask for the reason.
        self.events.emit(&DeviceEvent::NeedsReset { reason });
        true
    }

    /// Cause of the failure that makes a reset necessary.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }

    /// A thread that panicked left whole values behind.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// A port is gone. Returns whether all were there until now.
    pub(crate) fn lose_port(&self) -> bool {
        !self.port_lost.swap(true, Ordering::Release)
    }

    /// All ports are there again.
    pub(crate) fn regain_port(&self) {
        self.port_lost.store(false, Ordering::Release);
    }

    pub(crate) fn is_port_lost(&self) -> bool {
        self.port_lost.load(Ordering::Acquire)
    }

    /// As it was saved; nobody is told.
    pub(crate) fn restore(&self, needs_reset: bool) {
        let mut reason = self.lock();
        *reason = needs_reset.then(|| "the device needed a reset when it was saved".into());
        self.needs_reset.store(needs_reset, Ordering::Release);
    }

    pub(crate) fn clear(&self) {
        self.restore(false);
    }

    /// Tells the VMM that the worker `name` is lost.
    pub(crate) fn worker_lost(&self, name: &str) {
        self.events.emit(&DeviceEvent::WorkerLost {
            worker: name.to_owned(),
        });
        if let Some(event) = &self.exit_event {
            let _ = event.write(1);
        }
    }
}
