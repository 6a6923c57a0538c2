//! Lifecycle events of a device, for the VMM's observer and for the log.

use std::sync::Arc;

use net_queue::Offloads;

use crate::log_limit::LogLimit;
use crate::log_limited;

/// One step in the life of a device.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// A driver set DRIVER_OK and the device serves it.
    Activated,
    /// The driver or the VMM reset the device.
    Reset,
    /// The VMM paused the device.
    Paused,
    /// The VMM let the device go on.
    Resumed,
    /// The driver set SUSPEND.
    Suspended,
    /// The driver let the device go on that it had suspended.
    Unsuspended,
    /// A saved state was put into the device.
    Restored,
    /// The link that the driver sees went up or down: set by the VMM, with the host's interface, or
    /// lost with its port.
    Link {
        /// True if frames can pass.
        up: bool,
    },
    /// The device cannot go on until it is reset: DEVICE_NEEDS_RESET is shown from now on
    /// (DEV-LIFE-04). Comes once until the next reset.
    NeedsReset {
        /// Cause of the first failure, as text.
        reason: String,
    },
    /// A worker thread panicked. No reset cures that: the device has to be made anew.
    WorkerLost {
        /// Name of the thread.
        worker: String,
    },
}

/// Receiver of a device's lifecycle events, see
/// [`NetDeviceBuilder::observer`](crate::NetDeviceBuilder::observer).
pub trait Observer: Send + Sync {
    /// Is told of each event when it has happened, never from the path of a frame.
    ///
    /// [`Link`](DeviceEvent::Link) of a lost port, [`NeedsReset`](DeviceEvent::NeedsReset) and
    /// [`WorkerLost`](DeviceEvent::WorkerLost) come from the worker thread that failed, under its
    /// seccomp filter and possibly from several at once: memory, locks, channels and writes to
    /// descriptors that are open already are what is allowed there. All others come from the thread
    /// that called the device, before its call returns. So an observer must not wait for that
    /// thread, call the device, or panic; it hands the event on.
    fn event(&self, device: &str, event: &DeviceEvent);
}

/// The audience of one device's events.
#[derive(Default)]
pub(crate) struct Events {
    id: String,
    /// For every line about this device that its guest can cause.
    pub(crate) log: Arc<LogLimit>,
    observer: Option<Arc<dyn Observer>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(id: &str, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            id: id.to_owned(),
            observer,
            ..Self::default()
        }
    }

    /// Logs `event` and passes it on.
    #[cold]
    pub(crate) fn emit(&self, event: &DeviceEvent) {
        self.write_line(event);
        if let Some(observer) = &self.observer {
            observer.event(&self.id, event);
        }
    }

    /// Logs that frames of transmit queue `index` leave one by one although they could be
    /// coalesced.
    #[cold]
    pub(crate) fn groups_refused(&self, index: u16, kinds: Offloads) {
        let (id, log) = (&self.id, &self.log);
        log_limited!(
            log,
            Warn,
            "{id}: transmit queue {index}: the host refuses coalesced frames ({kinds:?}); they are \
             sent one by one from now on"
        );
    }

    /// Logs that the configuration interrupt was not delivered.
    pub(crate) fn interrupt_lost(&self, error: &std::io::Error) {
        let (id, log) = (&self.id, &self.log);
        log_limited!(
            log,
            Debug,
            "{id}: configuration interrupt not delivered: {error}"
        );
    }

    /// The one place where lifecycle events become log lines.
    fn write_line(&self, event: &DeviceEvent) {
        let (id, log) = (&self.id, &self.log);
        match event {
            DeviceEvent::Activated => log_limited!(log, Info, "{id}: activated"),
            DeviceEvent::Reset => log_limited!(log, Info, "{id}: reset"),
            DeviceEvent::Paused => log_limited!(log, Info, "{id}: paused"),
            DeviceEvent::Resumed => log_limited!(log, Info, "{id}: resumed"),
            DeviceEvent::Suspended => log_limited!(log, Info, "{id}: suspended by its driver"),
            DeviceEvent::Unsuspended => {
                log_limited!(log, Info, "{id}: goes on, as its driver says")
            }
            DeviceEvent::Restored => log_limited!(log, Info, "{id}: state restored"),
            DeviceEvent::Link { up: true } => log_limited!(log, Info, "{id}: link is up"),
            DeviceEvent::Link { up: false } => log_limited!(log, Warn, "{id}: link is down"),
            DeviceEvent::NeedsReset { reason } => {
                log_limited!(log, Error, "{id}: {reason}; the device needs a reset")
            }
            DeviceEvent::WorkerLost { worker } => {
                log_limited!(
                    log,
                    Error,
                    "{id}: worker {worker} panicked; the device has to be made anew"
                );
            }
        }
    }
}
