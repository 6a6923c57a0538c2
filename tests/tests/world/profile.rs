//! Shape of one world: rings, driver and device.

use net_device::{Features, NetConfig};
use net_queue::testing::Random;
use tests::testbed::GUEST_MAC;

type F = Features;

/// Everything that is settled before a world begins. Its seed decides all of it.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) pairs: u16,
    /// Descriptors of each ring.
    pub(crate) size: u16,
    /// Features that the driver leaves out.
    pub(crate) without: Features,
}

/// Features whose absence makes another driver.
const CHOICES: [Features; 7] = [
    F::VIRTIO_F_EVENT_IDX,
    F::VIRTIO_F_RING_PACKED,
    F::VIRTIO_F_IN_ORDER,
    F::VIRTIO_F_INDIRECT_DESC,
    F::VIRTIO_NET_F_MRG_RXBUF,
    F::VIRTIO_NET_F_MQ,
    F::VIRTIO_NET_F_CTRL_VQ,
];

impl Profile {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut without = F::empty();
        for feature in CHOICES {
            if random.below(2) == 0 {
                without |= feature;
            }
        }
        Self {
            pairs: 1 + random.below(2) as u16,
            size: 4 << random.below(7),
            without,
        }
    }

    pub(crate) fn config(&self) -> NetConfig {
        let config = NetConfig::builder()
            .mac(GUEST_MAC)
            .queue_pairs(self.pairs)
            .build();
        config.expect("it is a usable configuration")
    }
}
