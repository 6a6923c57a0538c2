//! A virtio-net device: features, control plane, lifecycle and threads around the engines of `net-queue`.
//! VirtIO 1.4 §5.1.
//!
//! ```text
//!   VMM / vhost-user daemon
//!     | VirtioDevice, Pausable, Snapshottable                       Interrupt ^
//!     v                                                                       |
//!   device      NetDevice: configuration, negotiation, states                 |
//!   runtime     an activated device: queues come and go, workers are parked, changed and started
//!   pair        one thread per RX/TX pair: engines of net-queue + a port + limits -----------+
//!   control     one thread for the control queue: commands -> policy, config space, link ----+
//!   live        what the workers share: receive policy, which pairs are fed, health
//!   events      what becomes of the device, for the VMM's observer and the log
//!   log_limit   every log line that a guest can cause
//!   port        the backend that moves frames, the handle that steers its link
//! ```
//!
//! A worker is moved into its thread to run, and moved out again to be paused, changed or taken apart; so nobody
//! looks at it while it runs and the data path takes no lock. Events are edge-triggered and remembered as what a
//! queue waits for. Three kinds of failure reach three distances: a bad frame is counted and dropped
//! ([`DropCause`]), a broken ring or a lost port sets DEVICE_NEEDS_RESET and interrupts the driver, a panic signals
//! the exit event. The VMM survives all of them.

pub mod backend;
pub mod config;
mod control;
mod device;
mod engines;
pub mod error;
mod events;
mod fd;
pub mod features;
pub mod filter;
mod health;
mod limits;
mod live;
pub mod log_limit;
pub mod mac;
mod pair;
mod patience;
pub mod persist;
mod poll;
mod port;
mod runtime;
pub mod seccomp;
pub mod space;
mod stats;
mod thread;
pub mod traits;

pub use config::{LimitScope, NetConfig, TapConfig};
pub use device::{HostInterface, NetDevice};
pub use error::{ActivateError, LimitError, NewError};
pub use events::{DeviceEvent, Observer};
pub use features::{FeatureError, FeatureWords, Features};
pub use limits::now_ns;
pub use mac::MacAddr;
pub use net_queue::ring::{Cursor, Layout, RingAddrs};
pub use net_queue::{AccessPlatform, DirtyLog, DropCause, GuestRam};
pub use port::{Port, PortControl};
pub use snapshot::{Migratable, Pausable, Snapshot, Snapshottable, Transportable};
pub use traits::{Activation, Interrupt, InterruptSource, QueueSetup, VIRTIO_ID_NET, VirtioDevice};
pub use {net_queue, rate_limiter, tap};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
