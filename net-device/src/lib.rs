//! A virtio-net device: features, control plane, lifecycle and threads around the engines of
//! `net-queue`. VirtIO 1.4 §5.1.
//!
//! ```text
//!   VMM / vhost-user daemon
//!     | VirtioDevice, Pausable, Snapshottable                       Interrupt ^
//!     v                                                                       |
//!   device      NetDevice: construction, negotiation, states, snapshots       |
//!   active      an activated device: queues come and go, workers are parked, changed and started
//!   worker      one thread per RX/TX pair: engines of net-queue + a port + limits -----------+
//!               one thread for the control queue: commands -> policy, config space, link ----+
//!   state       what a snapshot holds, as live types
//!   shared      what the workers share: receive policy, steering, config space, device status
//!   transport   what a VMM implements and calls
//!   port        the backend that moves frames, the handle that steers its link
//!   rate_limit  limiters and their timers
//!   announcement  frames that tell the network where the guest is
//!   negotiation, features, config, events, log_limit, seccomp, clock
//! ```
//!
//! A worker is moved into its thread to run, and moved out again to be paused, changed or taken
//! apart; so nobody looks at it while it runs and the data path takes no lock. Files import only
//! from lines further down. Events are edge-triggered and remembered as what a queue waits for.
//! Three kinds of failure reach three distances: a bad frame is counted and dropped
//! ([`DropCause`]), a broken ring or a lost port sets DEVICE_NEEDS_RESET and interrupts the driver,
//! a panic signals the exit event. The VMM survives all of them.
//!
//! | cargo feature, on by default | without it |
//! |---|---|
//! | `seccomp` | no filter of system calls; [`seccomp`] keeps the lists for a VMM's own |
//! | `snapshot` | no save and restore, none of their traits, and no `versionize` and `bincode` |

#![cfg_attr(
    not(feature = "snapshot"),
    allow(
        dead_code,
        reason = "what reads and sets the state of a device serves snapshots alone"
    )
)]

mod active;
mod announcement;
mod clock;
pub mod config;
mod device;
pub mod error;
mod events;
mod fd;
pub mod features;
mod handle;
mod lifecycle;
mod loaded_program;
pub mod log_limit;
mod negotiation;
pub mod port;
mod queue_role;
mod rate_limit;
pub mod seccomp;
mod shared;
mod state;
mod stats;
pub mod transport;
mod wake_timer;
mod worker;

pub use active::discard::Discarded;
pub use clock::{Clock, MonotonicClock, Timer, now_ns};
pub use config::{Carrier, Coalesce, GsoTrust, LimitScope, MacAddr, NetConfig, TapConfig};
pub use device::{Announcer, NetDevice, NetDeviceBuilder};
pub use error::{
    ActivateError, DeviceFailed, LimitError, MemoryChangeError, NewError, QueueError, ReopenError,
    ResumeError, StartQueueError, StopQueueError, SuspendError, WorkerError,
};
pub use events::{DeviceEvent, Observer};
pub use features::{FeatureError, FeatureWords, Features};
pub use handle::DeviceHandle;
pub use lifecycle::{Lifecycle, StateError};
pub use loaded_program::LoadedProgram;
pub use net_queue::ring::{Cursor, JournalError, Layout, RingAddrs, UsedJournal};
pub use net_queue::{AccessPlatform, DirtyLog, DropCause, GuestRam, QueueStats, RawRegion};
pub use port::{HostInterface, Port, PortControl};
pub use seccomp::ThreadKind;
pub use shared::queue_states::{QueueState, WaitsFor};
#[cfg(feature = "snapshot")]
pub use snapshot;
#[cfg(feature = "snapshot")]
pub use snapshot::{Migratable, MigrateError, Pausable, Snapshot, Snapshottable, Transportable};
#[cfg(feature = "snapshot")]
pub use state::net_state::check_state;
pub use stats::DeviceStats;
pub use transport::{
    Activation, Interrupt, InterruptSource, NotificationData, QueueSetup, VIRTIO_ID_NET,
    VirtioDevice,
};
pub use worker::event_loop::EventWorker;
pub use worker::thread::{ThreadHook, ThreadInfo};
pub use worker::turn::{Event as WorkerEvent, Source, Turn};
pub use {net_queue, rate_limiter, tap};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
