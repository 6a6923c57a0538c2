//! Notifications with data (VIRTIO_F_NOTIFICATION_DATA), as a transport hands them on: it kicks the
//! queue that the word names, and the device has no other way to learn of the rest. A transport
//! that takes words with a wrong index is the example `virtio_mmio`.

use net_device::{Features, NotificationData};
use net_queue::testing::Random;
use tests::testbed::{RINGS, Rig};

use crate::check_traffic;

#[test]
fn whatever_a_notification_says_the_ring_is_right_vq_ntf_10() {
    let mut random = Random::new(38);
    for without in RINGS {
        let mut config = Rig::config(1);
        config.transport_features = Features::VIRTIO_F_NOTIFICATION_DATA;
        let mut rig = Rig::new(config);
        rig.start(without);
        let accepted = rig.accepted();
        assert!(accepted.contains(Features::VIRTIO_F_NOTIFICATION_DATA));
        for round in 0..20 {
            // Offsets beyond the ring, wraps that are not its, queues that are there and not.
            for _ in 0..20 {
                let word = random.next_u64() as u32 & !0xfff8;
                let notified = NotificationData::from(word).queue;
                if let Some(queue) = rig.queues.get(&notified) {
                    queue.kick();
                }
            }
            check_traffic(&mut rig, round);
            assert_eq!(rig.command(0, 0, &[1]), 0);
        }
    }
}
