//! One virtqueue.

use serde::{Deserialize, Serialize};
use versionize::{VersionMap, Versionize, VersionizeError, VersionizeResult};
use versionize_derive::Versionize;

use super::bounded::List;
use super::{NotfCoalState, bounds};

/// Format of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub enum QueueLayout {
    /// VirtIO 1.4 §2.7.
    #[default]
    Split,
    /// VirtIO 1.4 §2.8.
    Packed,
}

/// Addresses of a queue and the device's position in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct QueueState {
    /// Index among the queues of the device.
    pub index: u16,
    /// Size the device offered, in descriptors.
    pub max_size: u16,
    /// Size the driver chose, in descriptors.
    pub size: u16,
    /// The driver enabled the queue.
    pub ready: bool,
    /// Format of the ring.
    pub layout: QueueLayout,
    /// Notifications are suppressed by event index.
    pub event_idx: bool,
    /// Guest address of the descriptor area.
    pub desc_addr: u64,
    /// Guest address of the driver area.
    pub driver_addr: u64,
    /// Guest address of the device area.
    pub device_addr: u64,
    /// Next entry to take from the driver.
    pub avail: u16,
    /// Next entry to give back; `None` when the ring itself is to tell.
    pub used: Option<u16>,
    /// Wrap counter at `avail`, of a packed ring.
    pub avail_wrap: bool,
    /// Wrap counter at `used`, of a packed ring.
    pub used_wrap: bool,
    /// Heads (split) or buffer ids (packed) that were taken and not given back, oldest first; at
    /// most [`bounds::MAX_QUEUE_SIZE`]. Empty for a device that puts back what it holds when it
    /// pauses.
    pub in_flight: List<u16, bounds::InFlight>,
    /// Notification coalescing in force: VirtIO 1.4 §5.1.9.5.10 (NET-CVQ-24).
    pub notf_coal: NotfCoalState,
}

/// A queue of a device that is activated which does not run: its ring is not the device's, but the
/// driver may have set what its next start goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct StoppedQueueState {
    /// Index among the queues of the device.
    pub index: u16,
    /// Notification coalescing, unless it is that of the direction: VirtIO 1.4 §5.1.9.5.10
    /// (NET-CVQ-24).
    pub notf_coal: NotfCoalState,
}
