//! Shape of one world: rings, driver and device.

use net_device::rate_limiter::RateLimiterConfig;
use net_device::{Features, NetConfig};
use net_queue::testing::Random;
use tests::testbed::{GUEST_MAC, frame_limit};

use crate::bucket::Bucket;

type F = Features;

/// Everything that is settled before a world begins. Its seed decides all of it.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) pairs: u16,
    /// Descriptors of each ring.
    pub(crate) size: u16,
    /// Features that the driver leaves out.
    pub(crate) without: Features,
    pub(crate) rx_limit: Option<FrameLimit>,
    pub(crate) tx_limit: Option<FrameLimit>,
    pub(crate) kinds: Kinds,
    /// Writes of the device are told of, and the driver may act behind each.
    pub(crate) watched: bool,
}

/// Kinds of frames that pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kinds {
    /// Some are of flows that can be told, and arrive as one that is to be cut.
    pub(crate) packets: bool,
    /// The network takes some as one.
    pub(crate) groups: bool,
    /// The driver may leave checksums undone.
    pub(crate) partial: bool,
}

impl Kinds {
    fn new(random: &mut Random) -> Self {
        let packets = random.below(3) == 0;
        Self {
            packets,
            groups: packets && random.below(4) > 0,
            partial: false,
        }
    }
}

/// So many frames now, and as many more in each period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimit {
    pub(crate) size: u64,
    pub(crate) period_ms: u64,
}

impl FrameLimit {
    fn new(random: &mut Random) -> Option<Self> {
        (random.below(2) == 0).then(|| Self {
            size: 1 + random.below(100),
            period_ms: 1 + random.below(20),
        })
    }

    /// The same, for a second opinion.
    pub(crate) fn bucket(self, pairs: u16) -> Bucket {
        Bucket::new(self.size, self.period_ms * 1_000_000, pairs.into())
    }

    fn config(self) -> Option<RateLimiterConfig> {
        frame_limit(self.size, self.period_ms)
    }
}

/// Features whose absence makes another driver.
const CHOICES: [Features; 19] = [
    F::VIRTIO_F_EVENT_IDX,
    F::VIRTIO_F_RING_PACKED,
    F::VIRTIO_F_IN_ORDER,
    F::VIRTIO_F_INDIRECT_DESC,
    F::VIRTIO_NET_F_MRG_RXBUF,
    F::VIRTIO_NET_F_MQ,
    F::VIRTIO_NET_F_CTRL_VQ,
    F::VIRTIO_NET_F_NOTF_COAL,
    F::VIRTIO_NET_F_VQ_NOTF_COAL,
    F::VIRTIO_F_RING_RESET,
    F::VIRTIO_F_SUSPEND,
    F::VIRTIO_NET_F_GUEST_ANNOUNCE,
    F::VIRTIO_NET_F_STATUS,
    F::VIRTIO_NET_F_CSUM,
    F::VIRTIO_NET_F_GUEST_CSUM,
    F::VIRTIO_NET_F_GUEST_TSO4,
    F::VIRTIO_NET_F_GUEST_TSO6,
    F::VIRTIO_NET_F_GUEST_USO4,
    F::VIRTIO_NET_F_RSS,
];

/// One of so many drivers can steer for certain.
const STEERED: u64 = 4;

impl Profile {
    /// The profile of the world of `seed`, which draws the rest from `random`.
    pub(crate) fn new(seed: u64, random: &mut Random) -> Self {
        let mut without = F::empty();
        for feature in CHOICES {
            if random.below(2) == 0 {
                without |= feature;
            }
        }
        let mut profile = Self {
            pairs: 1 + random.below(2) as u16,
            size: 4 << random.below(7),
            without,
            rx_limit: FrameLimit::new(random),
            tx_limit: FrameLimit::new(random),
            kinds: Kinds::new(random),
            watched: random.below(4) > 0,
        };
        if seed.is_multiple_of(STEERED) {
            profile.can_steer();
        }
        profile
    }

    /// Makes this the device for which tables of receive queues are made: several pairs, frames of
    /// flows, and a driver that can steer them. It has a short ring of mergeable buffers, so the
    /// frames of one pair often wait for its driver while those of the other one could go on.
    fn can_steer(&mut self) {
        self.pairs = 2;
        self.kinds.packets = true;
        self.size = 4;
        let features = F::VIRTIO_NET_F_RSS | F::VIRTIO_NET_F_CTRL_VQ | F::VIRTIO_NET_F_MRG_RXBUF;
        self.without -= features;
    }

    pub(crate) fn config(&self) -> NetConfig {
        let config = NetConfig::builder()
            .mac(GUEST_MAC)
            .queue_pairs(self.pairs)
            .rss(self.kinds.packets)
            .build();
        NetConfig {
            rx_limit: self.rx_limit.and_then(FrameLimit::config),
            tx_limit: self.tx_limit.and_then(FrameLimit::config),
            transport_features: F::VIRTIO_F_RING_RESET | F::VIRTIO_F_SUSPEND,
            ..config.expect("it is a usable configuration")
        }
    }
}
