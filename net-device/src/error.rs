//! Errors of making, activating and changing a device.

use std::io;

use net_queue::RamError;
use net_queue::ring::RingError;

use crate::config::ConfigError;
use crate::features::FeatureError;
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
    /// There is not one port for each pair.
    #[error("{ports} ports for {pairs} queue pairs")]
    Ports {
        /// Ports that were handed in.
        ports: usize,
        /// Pairs that are configured.
        pairs: usize,
    },
}

/// Error of a device or a queue that cannot be started.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The device is in a state in which this cannot be done.
    #[error(transparent)]
    State(#[from] StateError),
    /// The driver did not complete negotiation.
    #[error("driver has not accepted VIRTIO_F_VERSION_1")]
    NotNegotiated,
    /// DEVICE_NEEDS_RESET is shown, for example since an earlier activation failed.
    #[error("device needs a reset before it can be activated")]
    NeedsReset,
    /// Guest memory was taken away from the running device by a change that failed.
    #[error("device has stopped and needs a reset, since its memory could not be changed: {0}")]
    Failed(String),
    /// The driver accepted `VIRTIO_F_ACCESS_PLATFORM`, so its addresses are not those of guest
    /// memory.
    #[error("addresses are to be translated, and no access platform was set")]
    NoPlatform,
    /// Memory has changed, and the device was given no map to read again.
    #[error("there is no memory map to follow")]
    NoMemoryMap,
    /// Fewer than one pair of queues.
    #[error("at least one receive and one transmit queue are needed")]
    Queues,
    /// There is no queue of this index.
    #[error("there is no queue {0}")]
    Index(u16),
    /// The queue runs already.
    #[error("queue {0} runs already")]
    Running(u16),
    /// The device was restored, and the queue is set up otherwise than the saved one.
    #[error("queue {0} is not set up as it was saved")]
    NotAsSaved(u16),
    /// The ring cannot be used.
    #[error("queue {index}")]
    Ring {
        /// Which queue.
        index: u16,
        /// Cause.
        #[source]
        source: RingError,
    },
    /// The kick descriptor cannot be waited for.
    #[error("queue {index} has a kick descriptor that cannot be polled")]
    Kick {
        /// Which queue.
        index: u16,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The backend cannot follow what was negotiated, or cannot be waited for.
    #[error("backend refuses")]
    Backend(#[source] io::Error),
    /// A worker thread cannot be started.
    #[error("worker of queue {index}")]
    Spawn {
        /// Which queue.
        index: u16,
        /// Cause.
        #[source]
        source: SpawnError,
    },
    /// A descriptor for a timer or for polling was not to be had.
    #[error("no descriptor to wait with")]
    Poll(#[source] io::Error),
    /// A worker panicked earlier; only a new device helps.
    #[error(transparent)]
    Lost(#[from] WorkerLost),
    /// Guest memory cannot be used.
    #[error("unusable guest memory")]
    Ram(#[from] RamError),
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
    /// Workers cannot go on after the change.
    #[error("workers cannot go on")]
    Worker(#[from] ActivateError),
}

impl From<WorkerLost> for LimitError {
    fn from(lost: WorkerLost) -> Self {
        ActivateError::from(lost).into()
    }
}

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
