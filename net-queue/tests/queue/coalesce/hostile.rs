//! Packets that lie: whatever a driver writes, what comes out is what went in.

use net_queue::testing::Random;
use net_queue::testing::packets::{Packet, Sums};

use super::{ALL, kinds, rig, stream, wire};
use crate::rig::every_ring;

/// Headers with bytes changed at random, between others that are right.
#[test]
fn changed_bytes_come_out_as_they_went_in() {
    every_ring(64, |config| {
        let mut random = Random::new(7);
        for first in kinds(&[4; 90]) {
            let mut rig = rig(config, ALL);
            let mut all: Vec<_> = stream(&first, 12, 40).iter().map(Packet::bytes).collect();
            for bytes in &mut all {
                for _ in 0..random.below(3) {
                    // Not in the header of virtio-net: what that asks for is not asked here.
                    let at = 12 + random.below(80.min(bytes.len() as u64 - 12)) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
                let cut = random.below(bytes.len() as u64) as usize;
                let pieces = rig.guest.memory().cut(bytes, &[cut]);
                rig.guest.add(&pieces);
            }
            rig.guest.publish();
            let mut sent = wire(&rig.drain());
            let mut expected = wire(&all);
            sent.sort();
            expected.sort();
            assert_eq!(sent, expected, "{first:?}");
            rig.guest.poll_all();
            assert_eq!(rig.guest.in_flight(), 0);
        }
    });
}

/// Frames that end anywhere within their headers.
#[test]
fn cut_packets_come_out_as_they_went_in() {
    every_ring(256, |config| {
        for first in kinds(&[4; 30]) {
            let first = Packet {
                sums: Sums::Complete,
                ..first
            };
            let whole = first.bytes();
            let mut rig = rig(config, ALL);
            let all: Vec<_> = (12 + 14..whole.len())
                .flat_map(|len| [whole.clone(), whole[..len].to_vec()])
                .collect();
            for bytes in &all {
                let pieces = rig.guest.memory().cut(bytes, &[]);
                rig.guest.add(&pieces);
            }
            rig.guest.publish();
            let mut sent = wire(&rig.drain());
            let mut expected = wire(&all);
            sent.sort();
            expected.sort();
            assert_eq!(sent, expected);
        }
    });
}

/// Offsets of a partial checksum that point elsewhere: such a frame is sent as it is.
#[test]
fn offsets_that_lie_merge_nothing() {
    every_ring(64, |config| {
        for first in kinds(&[4; 90]) {
            if first.sums == Sums::Complete {
                continue;
            }
            for (place, change) in [(6, 2), (6, 0x10), (8, 1), (8, 0x10)] {
                let mut rig = rig(config, ALL);
                let mut all: Vec<_> = stream(&first, 4, 0).iter().map(Packet::bytes).collect();
                for bytes in &mut all {
                    bytes[place] ^= change;
                    let pieces = rig.guest.memory().cut(bytes, &[]);
                    rig.guest.add(&pieces);
                }
                rig.guest.publish();
                assert_eq!(rig.drain(), all, "{first:?} {place} {change}");
            }
        }
    });
}
