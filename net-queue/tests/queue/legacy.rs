//! Headers of 10 bytes, those of a legacy driver without `MRG_RXBUF`. A queue with them does what
//! one with the base header does, to the same frames and with the same counters; only the two bytes
//! of `num_buffers` are not there. VirtIO 1.4 §5.1.9.1 (NET-FEAT-05).

use net_queue::header::{HDR_LEN, HdrSize, LEGACY_HDR_LEN, TxRules, flags, gso};
use net_queue::ring::{Layout, RingConfig};
use net_queue::testing::packets::{Packet, Sums};
use net_queue::testing::{LargeFrame, Random, Shape};
use net_queue::{Caps, DropCause, Offloads, RxConfig, Stop, TxConfig, TxEngine};

use crate::coalesce::{self, stream};
use crate::rig::{RxRig, SINGLE, TxRig, frame, packet, ring};

const LEGACY: RxConfig = RxConfig {
    size: HdrSize::Legacy,
    ..SINGLE
};

/// Work that a legacy driver may leave to the device; UFO is not done here.
const DRIVER: Offloads = Offloads::CSUM
    .union(Offloads::TSO4)
    .union(Offloads::TSO6)
    .union(Offloads::ECN);

/// Split rings: a legacy driver knows no other, and no order in them.
fn every_legacy_ring(test: impl Fn(RingConfig)) {
    for event_idx in [false, true] {
        println!("event_idx: {event_idx}");
        test(RingConfig {
            event_idx,
            ..ring(Layout::Split, 256)
        });
    }
}

/// `bytes` with the header that a legacy driver has in front of them.
fn legacy(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HDR_LEN {
        bytes.drain(LEGACY_HDR_LEN..HDR_LEN);
    }
    bytes
}

fn all_legacy(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|bytes| legacy(bytes)).collect()
}

/// A frame of some kind: whole or partial sums, one flow or many, large, short, malformed.
fn any_frame(random: &mut Random, number: u64) -> Vec<u8> {
    match random.below(7) {
        0 => packet(14 + random.below(1500) as usize, number),
        1 => packet(random.below(14) as usize, number),
        2 => packet(1500 + random.below(9000) as usize, number),
        3 => Packet::udp(&random.bytes(200)).bytes(),
        4 => {
            let mut bytes = packet(60, number);
            bytes[..LEGACY_HDR_LEN].copy_from_slice(&random.bytes(LEGACY_HDR_LEN));
            bytes
        }
        5 => {
            let whole = Packet {
                sums: Sums::Complete,
                ..Packet::tcp(&random.bytes(100))
            };
            whole.bytes()
        }
        _ => {
            let large = LargeFrame {
                payload: 1 + random.below(9000) as usize,
                ..LargeFrame::random(random)
            };
            let mut bytes = large.bytes();
            if random.below(4) == 0 {
                // A router's: its checksum is whole.
                bytes[0] &= !flags::NEEDS_CSUM;
                bytes[6..10].fill(0);
            }
            bytes
        }
    }
}

/// Frames of a batch: unrelated ones, and a flow that can be coalesced between them.
fn batch(random: &mut Random) -> Vec<Vec<u8>> {
    let count = 1 + random.below(8);
    let mut frames: Vec<_> = (0..count).map(|n| any_frame(random, n)).collect();
    let flow = Packet {
        v6: random.below(2) == 0,
        ..Packet::tcp(&random.bytes(300))
    };
    frames.extend(stream(&flow, 5, 20).iter().map(Packet::bytes));
    frames.extend((0..count).map(|n| any_frame(random, n)));
    frames
}

/// A transmit queue with headers of `size` over a backend that takes `caps`.
fn tx(ring: RingConfig, size: HdrSize, caps: Offloads, coalesce: Offloads) -> TxRig {
    let rules = TxRules::new(caps & DRIVER | Offloads::CSUM);
    let rules = if caps.contains(Offloads::CSUM) {
        rules
    } else {
        rules.completing()
    };
    let config = TxConfig {
        size,
        coalesce,
        segmentation: DRIVER - caps - Offloads::CSUM,
        ..TxConfig::new(rules)
    };
    let mut rig = TxRig::with(ring, size, Offloads::empty());
    rig.wire.set_caps(Caps::default());
    rig.engine = TxEngine::new(rig.guest.device(), config, rig.counters.clone());
    rig
}

fn post(rig: &mut TxRig, bytes: &[u8], cuts: &[usize], shape: Shape) {
    let pieces = rig.guest.memory().cut(bytes, cuts);
    rig.guest.add_as(shape, &pieces);
}

#[test]
fn transmit_with_a_legacy_header_does_the_same_net_feat_05() {
    every_legacy_ring(|ring| {
        let mut random = Random::new(8);
        let backends = [
            Offloads::empty(),
            Offloads::CSUM,
            Offloads::CSUM | Offloads::TSO4,
            DRIVER,
        ];
        let (mut segmented, mut groups) = (0, 0);
        for caps in backends {
            for coalesce in [Offloads::empty(), caps & coalesce::ALL] {
                for _ in 0..10 {
                    let mut modern = tx(ring, HdrSize::Base, caps, coalesce);
                    let mut old = tx(ring, HdrSize::Legacy, caps, coalesce);
                    for bytes in batch(&mut random) {
                        let short = legacy(&bytes);
                        let cut = random.below(short.len() as u64) as usize;
                        let next = cut + random.below((short.len() - cut) as u64) as usize;
                        let shape = [Shape::Direct, Shape::Indirect][random.below(2) as usize];
                        post(&mut modern, &bytes, &[cut + 2, next + 2], shape);
                        post(&mut old, &short, &[cut, next], shape);
                    }
                    modern.guest.publish();
                    old.guest.publish();
                    assert!(old.drain() == all_legacy(&modern.drain()), "{caps:?}");
                    let stats = old.counters.stats();
                    segmented += stats.segmented;
                    groups += stats.groups;
                    assert_eq!(stats, modern.counters.stats());
                    assert_eq!(old.guest.poll_all().len(), modern.guest.poll_all().len());
                    assert_eq!(old.guest.in_flight(), 0);
                }
            }
        }
        assert!(segmented > 0 && groups > 0, "{segmented}, {groups}");
    });
}

#[test]
fn receive_with_a_legacy_header_does_the_same_net_feat_05() {
    every_legacy_ring(|ring| {
        let mut random = Random::new(9);
        let sets = [
            Offloads::empty(),
            Offloads::CSUM,
            Offloads::CSUM | Offloads::TSO4,
            DRIVER,
        ];
        for offloads in sets {
            for room in [1514, 66_000] {
                let config = |size| RxConfig {
                    size,
                    offloads,
                    mtu: Some(3000),
                    ..SINGLE
                };
                for _ in 0..5 {
                    let mut modern = RxRig::new(ring, config(HdrSize::Base));
                    let mut old = RxRig::new(ring, config(HdrSize::Legacy));
                    for _ in 0..60 {
                        let first = 1 + random.below(40) as usize;
                        modern.post(&[first + 2, HDR_LEN + room - first]);
                        old.post(&[first, HDR_LEN + room - first]);
                    }
                    for bytes in batch(&mut random) {
                        modern.wire.inject(bytes.as_slice());
                        old.wire.inject(legacy(&bytes));
                    }
                    assert_eq!(stopped(&mut old), stopped(&mut modern));
                    assert!(received(&mut old) == all_legacy(&received(&mut modern)));
                    assert_eq!(old.counters.stats(), modern.counters.stats());
                }
            }
        }
    });
}

/// Frames that have not been received when the queue stops.
fn stopped(rig: &mut RxRig) -> usize {
    let stop = rig.run().stop;
    assert!(matches!(stop, Stop::Backend | Stop::Driver), "{stop:?}");
    rig.wire.waiting()
}

/// Contents of the chains that were used.
fn received(rig: &mut RxRig) -> Vec<Vec<u8>> {
    let used = rig.guest.poll_all();
    used.iter().map(|used| rig.guest.bytes(used)).collect()
}

/// The buffer that Linux's driver posted for a frame of 1514 bytes: its header in a descriptor of
/// its own. With a byte less that frame does not fit. The frame begins at byte 10.
#[test]
fn buffers_of_a_legacy_driver_hold_the_longest_frame_net_feat_05() {
    every_legacy_ring(|ring| {
        let receive = |room| {
            let mut rig = RxRig::new(ring, LEGACY);
            rig.post(&[LEGACY_HDR_LEN, room]);
            rig.wire.inject(legacy(&packet(1514, 3)));
            rig.run();
            rig
        };
        assert_eq!(receive(1513).dropped_for(DropCause::NoRoom), 1);
        let mut rig = receive(1514);
        let used = rig.guest.poll_all();
        assert_eq!(used.iter().map(|used| used.len).collect::<Vec<_>>(), [1524]);
        let bytes = rig.guest.bytes(&used[0]);
        assert_eq!(bytes[..LEGACY_HDR_LEN], [0; LEGACY_HDR_LEN]);
        assert_eq!(bytes[LEGACY_HDR_LEN..], frame(1514, 3));
    });
}

/// A backend's header is the driver's: its fields lie where they lie in the longer one.
#[test]
fn a_legacy_header_carries_segmentation_net_feat_05() {
    every_legacy_ring(|ring| {
        let large = LargeFrame::default();
        let mut rig = RxRig::new(
            ring,
            RxConfig {
                offloads: DRIVER,
                ..LEGACY
            },
        );
        rig.post(&[66_000]);
        rig.wire.inject(legacy(&large.bytes()));
        rig.drain();
        let used = rig.guest.poll().expect("a chain");
        let bytes = rig.guest.bytes(&used);
        assert_eq!(bytes[..2], [flags::NEEDS_CSUM, gso::TCPV4]);
        assert!(bytes == legacy(&large.bytes()));
    });
}
