//! The device as a whole.

use serde::{Deserialize, Serialize};
use versionize::{VersionMap, Versionize, VersionizeResult};
use versionize_derive::Versionize;

use super::bounded::{List, Text};
use super::{ControlState, LimiterState, QueueState, StoppedQueueState, bounds};

/// Everything about a network device that its guest can see or has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct NetState {
    /// Name under which the VMM knows the device; at most 256 bytes.
    pub id: Text<bounds::Id>,
    /// Feature bits 0 to 63 the device offered.
    pub features_offered: u64,
    /// Feature bits 0 to 63 the driver accepted.
    pub features_acked: u64,
    /// Configuration space.
    pub config: ConfigState,
    /// Maximum size of each queue the device offered, in queue order; at most
    /// [`bounds::MAX_QUEUES`].
    pub queue_sizes: List<u16, bounds::QueueSizes>,
    /// The queues the driver set up, each with its own index; at most [`bounds::MAX_QUEUES`].
    pub queues: List<QueueState, bounds::Queues>,
    /// State that the driver set through the control queue.
    pub control: ControlState,
    /// Rate limiters with their levels; at most [`bounds::MAX_LIMITERS`].
    pub limiters: List<LimiterState, bounds::Limiters>,
    /// The driver had brought the device live.
    pub activated: bool,
    /// The device was paused before the snapshot was asked for.
    pub paused: bool,
    /// The device had failed, and only a reset cures it: VirtIO 1.4 §2.1.2 (DEV-LIFE-04).
    pub needs_reset: bool,
    /// The driver was asked to announce itself and has not answered: VirtIO 1.4 §5.1.9.5.4
    /// (NET-CVQ-18).
    pub announce_pending: bool,
    /// Queue pairs the driver chose, 0 before it did: VirtIO 1.4 §5.1.9.5.6 (NET-MQ-01).
    pub active_pairs: u16,
    /// Receive offloads switched on, in the bits of GUEST_OFFLOADS_SET: VirtIO 1.4 §5.1.9.5.9
    /// (NET-CVQ-19).
    pub guest_offloads: u64,
    /// Feature bits 64 to 127 the device offered. Since release 2.
    #[version(start = 2)]
    pub features_offered_high: u64,
    /// Feature bits 64 to 127 the driver accepted. Since release 2.
    #[version(start = 2)]
    pub features_acked_high: u64,
    /// Queues that do not run, of which something is to be kept; at most [`bounds::MAX_QUEUES`].
    /// Since release 2.
    #[version(start = 2)]
    pub stopped_queues: List<StoppedQueueState, bounds::StoppedQueues>,
    /// The driver has suspended the device. Since release 2.
    #[version(start = 2)]
    pub suspended: bool,
}

/// Configuration space, field by field: VirtIO 1.4 §5.1.4 (NET-CFG-03).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct ConfigState {
    /// MAC address, as the driver last set it.
    pub mac: [u8; 6],
    /// Status bits that are shown to a driver which has suspended the device: 1 link up, 2
    /// announce. For any other the link is that of the place where it goes on.
    pub status: u16,
    /// Queue pairs that exist.
    pub max_virtqueue_pairs: u16,
    /// Largest frame without its Ethernet header, in bytes.
    pub mtu: u16,
    /// Speed in Mbit/s; all ones when unknown.
    pub speed: u32,
    /// Duplex code; 0xff when unknown.
    pub duplex: u8,
    /// Longest hash key in bytes.
    pub rss_max_key_size: u8,
    /// Longest indirection table in entries.
    pub rss_max_indirection_table_length: u16,
    /// Hash types that can be switched on.
    pub supported_hash_types: u32,
    /// Tunnel types whose inner headers can be hashed.
    pub supported_tunnel_types: u32,
    /// Generation counter, so that a driver that reads across the restore sees a change:
    /// VirtIO 1.4 §2.5 (DEV-LIFE-08).
    pub generation: u32,
}
