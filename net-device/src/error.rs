//! Errors of making, activating and changing a device.

use std::io;

use net_queue::RamError;
use net_queue::ring::RingError;

use crate::config::ConfigError;
use crate::features::{FeatureError, Features};
pub use crate::lifecycle::StateError;
use crate::seccomp::SeccompError;

/// Error of the construction of a device.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The configuration is not one of a device.
    #[error("unusable configuration")]
    Config(#[from] ConfigError),
    /// The tap cannot be opened or used.
    #[error("unusable tap")]
    Tap(#[from] tap::Error),
    /// A descriptor cannot be duplicated.
    #[error("cannot duplicate a tap descriptor")]
    Duplicate(#[source] io::Error),
    /// The handler for faults on guest memory cannot be set.
    #[error("cannot handle faults on guest memory")]
    MemoryFaultHandler(#[source] io::Error),
    /// A limit cannot be set up.
    #[error("cannot limit")]
    Limit(#[from] LimitError),
    /// A worker thread that was to start early cannot be started.
    #[error("cannot start worker threads")]
    Spawn(#[source] SpawnError),
    /// The link is opened by somebody else for this process, and cannot be.
    #[error("the link cannot be opened")]
    Link(#[source] io::Error),
    /// A program that was handed in for steering is of no use for the link.
    #[error("the link does not take the steering program")]
    SteeringProgram(#[source] io::Error),
    /// A program that was handed in for filtering is of no use for the link.
    #[error("the link does not take the filter program")]
    FilterProgram(#[source] io::Error),
    /// There is not one port for each pair.
    #[error("{ports} ports for {pairs} queue pairs")]
    Ports {
        /// Ports that were handed in.
        ports: usize,
        /// Pairs that are configured.
        pairs: usize,
    },
}

/// The device has failed, and whatever would use a queue is answered with this.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeviceFailed {
    /// Guest memory was taken away from the running device by a change that failed, as the text
    /// says; a reset ends it.
    #[error("device has stopped and needs a reset, since its memory could not be changed: {0}")]
    Memory(String),
    /// A worker panicked earlier; only a new device helps.
    #[error(transparent)]
    WorkerLost(#[from] WorkerLost),
}

/// Error of workers that cannot be let run.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kick descriptor cannot be waited for.
    #[error("queue {index} has a kick descriptor that cannot be polled")]
    Kick {
        /// Index of the queue.
        index: u16,
        /// Answer of the kernel.
        #[source]
        source: io::Error,
    },
    /// The backend cannot follow what was negotiated, or cannot be waited for.
    #[error("backend refuses")]
    Backend(#[source] io::Error),
    /// A descriptor for a timer or for polling was not to be had.
    #[error("no descriptor to wait with")]
    Poll(#[source] io::Error),
    /// A worker panicked; only a new device helps.
    #[error(transparent)]
    Lost(#[from] WorkerLost),
}

/// Error of a queue that cannot be put in.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// There is no queue of this index.
    #[error("there is no queue {0}")]
    Index(u16),
    /// The queue runs already.
    #[error("queue {0} runs already")]
    Running(u16),
    /// The queue was not stopped.
    #[error("queue {0} was not stopped")]
    NotStopped(u16),
    /// Its driver broke the ring.
    #[error("the ring of queue {0} is broken")]
    Broken(u16),
    /// The ring cannot be used.
    #[error("queue {index}")]
    Ring {
        /// Index of the queue.
        index: u16,
        /// Fault of the ring.
        #[source]
        source: RingError,
    },
    /// A worker thread cannot be started.
    #[error("worker of queue {index}")]
    Spawn {
        /// Index of the queue.
        index: u16,
        /// Cause.
        #[source]
        source: SpawnError,
    },
    /// Its worker cannot be let run.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Error of [`activate`](crate::VirtioDevice::activate).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The device is activated already.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has failed and was not reset since.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// The driver did not complete negotiation.
    #[error("driver has not accepted VIRTIO_F_VERSION_1")]
    NotNegotiated,
    /// DEVICE_NEEDS_RESET is shown, for example since an earlier activation failed.
    #[error("device needs a reset before it can be activated")]
    NeedsReset,
    /// The driver accepted `VIRTIO_F_ACCESS_PLATFORM`, so its addresses are not those of guest
    /// memory.
    #[error("addresses are to be translated, and no access platform was set")]
    NoPlatform,
    /// A port was gone, and cannot be opened again.
    #[error(transparent)]
    Reopen(#[from] ReopenError),
    /// The link was opened again since the driver accepted these features, and does not have them.
    #[error("the link that was opened again does not have {0}")]
    OtherLink(Features),
    /// Fewer than one pair of queues.
    #[error("at least one receive and one transmit queue are needed")]
    Queues,
    /// The device was restored, and the queue is set up otherwise than the saved one.
    #[error("queue {0} is not set up as it was saved")]
    NotAsSaved(u16),
    /// A queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A worker cannot be let run.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Error of [`reopen_lost_ports`](crate::NetDevice::reopen_lost_ports).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ReopenError {
    /// The device was not told how.
    #[error("a port is gone, and there is no way to open it again")]
    Unknown,
    /// The link cannot be had.
    #[error("a port is gone")]
    Open(#[from] NewError),
}

/// Error of [`start_queue`](crate::NetDevice::start_queue).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartQueueError {
    /// The device is not activated.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Error of [`stop_queue`](crate::NetDevice::stop_queue) and
/// [`reset_queue`](crate::NetDevice::reset_queue).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StopQueueError {
    /// The device is not activated.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// There is no queue of this index.
    #[error("there is no queue {0}")]
    Index(u16),
    /// The driver did not accept VIRTIO_F_RING_RESET (DEV-LIFE-15).
    #[error("resets of single queues were not negotiated")]
    NotNegotiated,
    /// The worker is lost, or the host cannot let others go on.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Error of [`set_memory`](crate::NetDevice::set_memory) and
/// [`memory_changed`](crate::NetDevice::memory_changed).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum MemoryChangeError {
    /// The device is not activated.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// The device was given no map to read again.
    #[error("there is no memory map to follow")]
    NoMap,
    /// The driver's addresses are to be translated, and there is nobody to do it.
    #[error("addresses are to be translated, and no access platform was set")]
    NoPlatform,
    /// The new memory cannot be used.
    #[error("unusable guest memory")]
    Ram(#[from] RamError),
    /// A running queue is not in the new memory.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The host cannot let a worker go on.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Error of [`resume`](crate::NetDevice::resume).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The device has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// A worker cannot be let run.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Error of [`suspend`](crate::NetDevice::suspend).
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// The driver has not set DRIVER_OK (DEV-LIFE-16).
    #[error(transparent)]
    State(#[from] StateError),
    /// The driver did not accept VIRTIO_F_SUSPEND (DEV-LIFE-16).
    #[error("suspension was not negotiated")]
    NotNegotiated,
    /// The device has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// A worker panicked; the others are stopped, and only a new device helps.
    #[error(transparent)]
    Lost(#[from] WorkerLost),
}

/// Error of a device whose state cannot be saved.
#[cfg(feature = "snapshot")]
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The device runs.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// A worker panicked; only a new device helps.
    #[error(transparent)]
    Lost(#[from] WorkerLost),
}

/// Error of limits that cannot be set up or changed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// They are not usable limits; nothing was changed.
    #[error("unusable configuration")]
    Config(#[from] ConfigError),
    /// No limiter can be made of them.
    #[error("unusable limit")]
    Limiter(#[from] rate_limiter::ConfigError),
    /// A timer was not to be had; nothing was changed.
    #[error("cannot make a timer")]
    Timer(#[source] io::Error),
    /// The device has failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailed),
    /// Workers cannot go on after the change.
    #[error("workers cannot go on")]
    Worker(#[from] WorkerError),
}

/// Errors of operations that a lost worker keeps from being done.
macro_rules! from_lost_worker {
    ($($error:ident),*) => {
        $(impl From<WorkerLost> for $error {
            fn from(lost: WorkerLost) -> Self {
                WorkerError::from(lost).into()
            }
        })*
    };
}

from_lost_worker!(LimitError, QueueError, StopQueueError, MemoryChangeError);

/// The worker ended by itself: it panicked, and what it had is lost.
#[derive(Clone, Debug, thiserror::Error)]
#[error("worker {0} is lost")]
pub struct WorkerLost(pub(crate) String);

/// Error of a worker thread that could not be started.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No thread or no descriptor was to be had.
    #[error("cannot start worker thread")]
    Thread(#[source] io::Error),
    /// The VMM's hook refused the thread.
    #[error("thread hook refused the worker thread")]
    Hook(#[source] io::Error),
    /// The thread could not confine itself.
    #[error("cannot confine worker thread")]
    Seccomp(#[from] SeccompError),
}

/// Error of a saved state that is not one of this device.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The device runs, or ran and was not reset.
    #[error(transparent)]
    State(#[from] StateError),
    /// A worker panicked earlier; only a new device helps.
    #[error(transparent)]
    Lost(#[from] WorkerLost),
    /// The features are not what this device and its backend offer.
    #[error("features_acked")]
    Features(#[source] FeatureError),
    /// The receive offloads that were on cannot be on under these features.
    #[error("guest_offloads")]
    GuestOffloads(#[source] FeatureError),
    /// A field has a value that no state of this device has.
    #[error("{0} is out of range")]
    Field(&'static str),
    /// There is no device of which it is the state.
    #[error("no device has such a configuration")]
    Config(#[source] ConfigError),
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
