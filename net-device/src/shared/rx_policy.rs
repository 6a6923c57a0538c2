//! Receive policy: frames that the driver wants, and the work that they may carry undone.

use std::sync::Arc;

use net_queue::Offloads;
use net_queue::hash::FrameHasher;

use super::config_space::ConfigSpace;
use super::rss::SteeringTable;
use super::rx_filter::RxFilter;
use crate::features::Features;

/// Decisions of the driver about reception, by negotiation and by command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RxPolicy {
    /// Work that frames may carry undone now.
    pub(crate) offloads: Offloads,
    /// Which frames the driver wants; `None`: all of them.
    pub(crate) filter: Option<RxFilter>,
    /// Pairs below this number receive (NET-MQ-01, NET-MQ-02).
    pub(crate) pairs: u16,
    /// The hash of frames; `None` before the driver has set any (NET-MQ-16).
    pub(crate) hasher: Option<Arc<FrameHasher>>,
    /// The queues of frames by their hash; `None`: whichever the link chose.
    pub(crate) table: Option<Arc<SteeringTable>>,
}

impl RxPolicy {
    /// Policy once the driver has negotiated `features` and given no command yet.
    pub(crate) fn initial(features: Features, space: &ConfigSpace) -> Self {
        let filtered = Features::VIRTIO_NET_F_CTRL_RX
            | Features::VIRTIO_NET_F_CTRL_RX_EXTRA
            | Features::VIRTIO_NET_F_CTRL_VLAN;
        let filter = features
            .intersects(filtered)
            .then(|| RxFilter::new(features, space.mac()));
        Self {
            offloads: features.rx_offloads(),
            filter,
            pairs: u16::MAX,
            hasher: None,
            table: None,
        }
    }
}

/// A worker's copy of the policy.
#[derive(Debug)]
pub(crate) struct PolicyReader {
    pub(super) version: u64,
    pub(super) policy: Arc<RxPolicy>,
}

impl PolicyReader {
    #[inline]
    pub(crate) fn get(&self) -> &RxPolicy {
        &self.policy
    }
}
