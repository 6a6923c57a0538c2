//! Roles of the queues of a device.

use crate::features::Features;

/// Role of a queue by its index. VirtIO 1.4 §5.1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueRole {
    /// Receive queue of a pair.
    Rx(u16),
    /// Transmit queue of a pair.
    Tx(u16),
    /// The control queue.
    Ctrl,
}

impl QueueRole {
    /// The role of queue `index` of a device of `pairs` pairs whose driver accepted `features`, if
    /// there is such a queue; without MQ and RSS the control queue follows the first pair
    /// (NET-CVQ-01).
    pub(crate) fn of(index: u16, features: Features, pairs: u16) -> Option<Self> {
        let control = features.contains(Features::VIRTIO_NET_F_CTRL_VQ);
        // Without a control queue a VMM that has one of its own starts as many pairs as it likes.
        let several = Features::VIRTIO_NET_F_MQ | Features::VIRTIO_NET_F_RSS;
        let pairs = if control && !features.intersects(several) {
            1
        } else {
            pairs
        };
        match index {
            _ if index == 2 * pairs && control => Some(Self::Ctrl),
            _ if index >= 2 * pairs => None,
            _ if index.is_multiple_of(2) => Some(Self::Rx(index / 2)),
            _ => Some(Self::Tx(index / 2)),
        }
    }
}
