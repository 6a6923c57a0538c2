//! State that the driver set through the control queue.

use serde::{Deserialize, Serialize};
use versionize::{VersionMap, Versionize, VersionizeResult};
use versionize_derive::Versionize;

use super::bounded::List;
use super::bounds;

/// Filters, steering and coalescing: VirtIO 1.4 §5.1.9.5.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct ControlState {
    /// Receive modes in force; bit `n` is command `n` of class CTRL_RX: promiscuous, all multicast,
    /// all unicast, no multicast, no unicast, no broadcast. VirtIO 1.4 §5.1.9.5.1 (NET-CVQ-07).
    pub rx_modes: u8,
    /// Unicast addresses let through; at most [`bounds::MAX_MAC_ENTRIES`]. VirtIO 1.4 §5.1.9.5.2
    /// (NET-CVQ-10).
    pub unicast: List<[u8; 6], bounds::Unicast>,
    /// Multicast addresses let through; at most [`bounds::MAX_MAC_ENTRIES`].
    pub multicast: List<[u8; 6], bounds::Multicast>,
    /// The driver's unicast list was too long, so all unicast is let through (NET-CVQ-14).
    pub unicast_overflow: bool,
    /// The driver's multicast list was too long, so all multicast is let through.
    pub multicast_overflow: bool,
    /// VLAN ids let through, one bit each, lowest first; at most [`bounds::VLAN_WORDS`] words.
    /// VirtIO 1.4 §5.1.9.5.3 (NET-CVQ-16).
    pub vlans: List<u64, bounds::Vlans>,
    /// Steering and hash parameters, once the driver has set any.
    pub rss: Option<RssState>,
    /// Tunnel types whose inner headers are hashed: VirtIO 1.4 §5.1.9.4.4 (NET-MQ-20).
    pub hash_tunnel_types: u32,
    /// Settings that a receive queue gets when it is enabled again (NET-CVQ-23).
    pub rx_notf_coal: NotfCoalState,
    /// Settings that a transmit queue gets when it is enabled again.
    pub tx_notf_coal: NotfCoalState,
}

/// Parameters of MQ_RSS_CONFIG or MQ_HASH_CONFIG: VirtIO 1.4 §5.1.9.5.7 (NET-MQ-10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct RssState {
    /// The table steers; otherwise steering is automatic and only the hash is reported.
    pub steering: bool,
    /// Hash types switched on.
    pub hash_types: u32,
    /// Receive queue for what has no hash.
    pub unclassified_queue: u16,
    /// Receive queues by hash; at most [`bounds::MAX_RSS_TABLE_LEN`].
    pub indirection_table: List<u16, bounds::IndirectionTable>,
    /// Transmit queues the driver uses.
    pub max_tx_vq: u16,
    /// Toeplitz key; at most [`bounds::MAX_RSS_KEY_LEN`].
    pub key: List<u8, bounds::HashKey>,
}

/// When used buffers are notified: VirtIO 1.4 §5.1.9.5.10 (NET-CVQ-25). Zeros mean at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct NotfCoalState {
    /// Packets to wait for.
    pub max_packets: u32,
    /// Microseconds to wait.
    pub max_usecs: u32,
}
