//! Shape of one run: driver, rings and device.

use net_device::net_queue::{Caps, Offloads};
use net_device::{Features, NetConfig};
use net_queue::testing::Random;
use tests::testbed::{Rig, all_caps};

type F = Features;

/// Everything that is settled before a run begins. Its seed decides all of it.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) pairs: u16,
    /// Descriptors of each ring.
    pub(crate) size: u16,
    /// Features that the driver leaves out.
    pub(crate) without: Features,
    /// Bytes that one bit of a bitmap stands for.
    pub(crate) page: usize,
    /// Rounds in which memory is copied while traffic runs.
    pub(crate) rounds: u32,
    /// The log is switched on by a thread that does not have the device.
    pub(crate) by_handle: bool,
}

/// Features whose absence makes another driver, or other work for the device.
const CHOICES: [Features; 16] = [
    F::VIRTIO_F_EVENT_IDX,
    F::VIRTIO_F_RING_PACKED,
    F::VIRTIO_F_IN_ORDER,
    F::VIRTIO_F_INDIRECT_DESC,
    F::VIRTIO_NET_F_MRG_RXBUF,
    F::VIRTIO_NET_F_MQ,
    F::VIRTIO_NET_F_CTRL_VQ,
    F::VIRTIO_NET_F_NOTF_COAL,
    F::VIRTIO_NET_F_HASH_REPORT,
    F::VIRTIO_NET_F_CSUM,
    F::VIRTIO_NET_F_GUEST_CSUM,
    F::VIRTIO_NET_F_GUEST_TSO4,
    F::VIRTIO_NET_F_GUEST_TSO6,
    F::VIRTIO_NET_F_GUEST_USO4,
    F::VIRTIO_NET_F_GUEST_USO6,
    F::VIRTIO_NET_F_GUEST_ANNOUNCE,
];

/// Offloads by which a frame can be longer than one buffer of 2 KiB.
const LARGE: Features = F::VIRTIO_NET_F_GUEST_TSO4
    .union(F::VIRTIO_NET_F_GUEST_TSO6)
    .union(F::VIRTIO_NET_F_GUEST_USO4)
    .union(F::VIRTIO_NET_F_GUEST_USO6);

impl Profile {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut without = F::VIRTIO_NET_F_GUEST_UFO;
        for feature in CHOICES {
            if random.below(3) == 0 {
                without |= feature;
            }
        }
        // Half of the drivers have split rings.
        without.set(F::VIRTIO_F_RING_PACKED, random.below(2) == 0);
        let mut profile = Self {
            pairs: 1 + random.below(2) as u16,
            size: 8 << random.below(5),
            without,
            page: [4, 64, 4096][random.below(3) as usize],
            rounds: 1 + random.below(4) as u32,
            by_handle: random.below(2) == 0,
        };
        if profile.takes_whole() {
            profile.size = 8;
        }
        profile
    }

    /// The driver needs a buffer for the longest frame.
    pub(crate) fn takes_whole(&self) -> bool {
        self.without.contains(F::VIRTIO_NET_F_MRG_RXBUF) && !self.without.contains(LARGE)
    }

    /// The device of this run, on one of its two hosts.
    pub(crate) fn rig(&self) -> Rig {
        let config = NetConfig {
            hash_report: true,
            control_limit: None,
            ..Rig::config(self.pairs)
        };
        let caps = Caps {
            coalesce: Offloads::all(),
            ..all_caps()
        };
        Rig::with_caps(config, caps)
    }
}
