//! Traffic in which nothing can be merged is not looked at all the time.

use net_queue::testing::packets::Packet;

use super::{ALL, expected, post, rig, stream, wire};
use crate::rig::{TxRig, every_ring};

/// Packets of as many flows.
fn scattered(count: u16) -> Vec<Packet> {
    let one = |n| Packet {
        ports: (1000 + n, 9),
        ..Packet::udp(&[7; 40])
    };
    (0..count).map(one).collect()
}

/// Sends the packets, 16 at a time; returns the number of writes.
fn writes(rig: &mut TxRig, packets: &[Packet]) -> usize {
    let sent = packets.chunks(16).map(|packets| {
        post(rig, packets);
        let sent = rig.drain();
        // Frames of different flows may overtake each other.
        let [mut left, mut right] = [wire(&sent), expected(packets)];
        left.sort();
        right.sort();
        assert!(left == right, "the frames are those that were posted");
        rig.guest.poll_all();
        sent.len()
    });
    sent.sum()
}

#[test]
fn a_flow_is_merged_again_a_while_after_traffic_of_many() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        let one = stream(&Packet::udp(&[1; 40]), 16, 0);
        assert_eq!(writes(&mut rig, &one), 1, "nothing was tried in vain yet");
        assert_eq!(writes(&mut rig, &scattered(96)), 96);
        let mut alone = 0;
        while writes(&mut rig, &one) > 1 {
            alone += one.len();
        }
        // 448 frames are passed over, not counting one with nothing before and behind it.
        assert!((400..=480).contains(&alone), "{alone} frames went alone");
        assert_eq!(writes(&mut rig, &one), 1);
    });
}

#[test]
fn what_can_be_merged_now_and_then_always_is() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        let pair = stream(&Packet::udp(&[1; 40]), 2, 0);
        for _ in 0..20 {
            assert_eq!(writes(&mut rig, &scattered(48)), 48);
            assert_eq!(writes(&mut rig, &pair), 1);
        }
    });
}

/// One batch of scattered frames, of which the last is looked at only if a group is open.
#[test]
fn frames_are_passed_over_from_the_64th_in_vain_to_the_512th() {
    every_ring(1024, |config| {
        let pair = stream(&Packet::udp(&[1; 40]), 2, 0);
        for (count, sent) in [(62, 1), (63, 2), (64, 2), (512, 2), (513, 1)] {
            let mut rig = rig(config, ALL);
            post(&mut rig, &scattered(count));
            assert_eq!(rig.drain().len(), usize::from(count));
            rig.guest.poll_all();
            assert_eq!(writes(&mut rig, &pair), sent, "{count}");
        }
    });
}
