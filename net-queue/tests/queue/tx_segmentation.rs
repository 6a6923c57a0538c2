//! Transmit: large frames leave in segments where the backend does not take them.

use net_queue::header::{HDR_LEN, HdrError, HdrSize, TxRules, flags, gso};
use net_queue::ring::{AnyRing, RingConfig, UsedElements};
use net_queue::testing::packets::Packet;
use net_queue::testing::{Answer, LargeFrame, LimitCall, Random, ScriptedLimit};
use net_queue::{Budget, DropCause, Engine, Offloads, Stop, TxConfig, TxEngine};

use crate::coalesce;
use crate::rig::{PLENTY, TxRig, every_ring, packet, restores};

const CSUM: Offloads = Offloads::CSUM;
const TSO4: Offloads = Offloads::TSO4;

/// All that a driver may leave to the device, UFO aside.
const DRIVER: Offloads = Offloads::all().difference(Offloads::UFO);

/// Backends: one that takes nothing undone, and those that take this.
const BACKENDS: [Offloads; 7] = [
    Offloads::empty(),
    CSUM,
    CSUM.union(TSO4),
    CSUM.union(TSO4).union(Offloads::ECN),
    CSUM.union(Offloads::TSO6),
    CSUM.union(Offloads::USO4).union(Offloads::USO6),
    DRIVER,
];

/// A driver that negotiated everything, over a backend that takes `caps`.
fn terms(caps: Offloads) -> TxConfig {
    let rules = TxRules::new(caps | CSUM);
    TxConfig {
        segmentation: DRIVER - caps - CSUM,
        ..TxConfig::new(if caps.contains(CSUM) {
            rules
        } else {
            rules.completing()
        })
    }
}

fn rig(ring: RingConfig, config: TxConfig) -> TxRig {
    let mut rig = TxRig::with(ring, config.size, Offloads::empty());
    rig.engine = TxEngine::new(rig.guest.device(), config, rig.counters.clone());
    rig
}

/// Frames that leave to such a backend.
fn expected(large: &LargeFrame, caps: Offloads) -> Vec<Vec<u8>> {
    let kind = match (large.tcp, large.v6) {
        (true, false) => TSO4,
        (true, true) => Offloads::TSO6,
        (false, _) => Offloads::USO4,
    };
    if caps.contains(kind) && (!large.ecn || caps.contains(Offloads::ECN)) {
        vec![large.bytes()]
    } else {
        large.segments(caps.contains(CSUM))
    }
}

fn all_sent(rig: &mut TxRig) -> usize {
    rig.guest.poll_all();
    rig.guest.in_flight()
}

#[test]
fn every_backend_gets_every_kind_of_large_frame_as_it_takes_it() {
    every_ring(16, |ring| {
        let mut random = Random::new(5);
        for caps in BACKENDS {
            for size in [HdrSize::Base, HdrSize::Tunnel] {
                let config = TxConfig {
                    size,
                    ..terms(caps)
                };
                let mut rig = rig(ring, config);
                let behind = |bytes: &[u8]| {
                    let mut header = bytes[..HDR_LEN].to_vec();
                    header.resize(size.bytes(), 0);
                    [header, bytes[HDR_LEN..].to_vec()].concat()
                };
                for _ in 0..6 {
                    let large = LargeFrame::random(&mut random);
                    if !large.is_large() {
                        continue;
                    }
                    let bytes = behind(&large.bytes());
                    rig.send(&bytes, &[5, HDR_LEN + 20, bytes.len() / 2]);
                    rig.send(&behind(&packet(60, 5)), &[]);
                    let mut expected = expected(&large, caps);
                    expected.push(packet(60, 5));
                    let expected: Vec<_> = expected.iter().map(|bytes| behind(bytes)).collect();
                    assert!(rig.drain() == expected, "{caps:?} {large:?}");
                    assert_eq!(all_sent(&mut rig), 0);
                }
                assert_eq!(rig.counters.dropped(), 0, "{caps:?}");
            }
        }
    });
}

/// A router's frame: its checksum is whole.
#[test]
fn large_frame_with_a_whole_checksum_is_cut_too() {
    every_ring(16, |ring| {
        for caps in [Offloads::empty(), CSUM] {
            let mut rig = rig(ring, terms(caps));
            let large = LargeFrame::default();
            let mut bytes = large.bytes();
            bytes[0] &= !flags::NEEDS_CSUM;
            bytes[6..10].fill(0);
            rig.send(&bytes, &[100]);
            assert!(rig.drain() == expected(&large, caps));
        }
    });
}

#[test]
fn limiter_budget_and_counters_see_single_frames() {
    every_ring(16, |ring| {
        let mut rig = rig(ring, terms(CSUM));
        let large = LargeFrame {
            payload: 4 * 1448 + 1,
            ..LargeFrame::default()
        };
        rig.send(&large.bytes(), &[]);
        let budget = Budget {
            frames: 2,
            ..PLENTY
        };
        for frames in [2, 2, 1] {
            let outcome = rig.run_at(0, budget);
            assert_eq!(outcome.frames, frames);
            let used = rig.guest.poll_all().len();
            assert_eq!(used, usize::from(frames == 1), "with the last segment");
        }
        let segments = large.segments(true);
        let bytes: usize = segments.iter().map(|bytes| bytes.len() - HDR_LEN).sum();
        assert!(rig.wire.take_sent() == segments);
        assert_eq!(rig.counters.bytes(), bytes as u64);
        assert_eq!((rig.counters.frames(), rig.counters.segmented()), (5, 1));
        assert_eq!(rig.limit.calls.len(), 5);
        let stats = rig.counters.stats();
        let asked = large.bytes().len() - HDR_LEN;
        assert_eq!((stats.gso_frames, stats.gso_bytes), (1, asked as u64));
    });
}

/// A frame of five segments between two others, of which `passed` segments leave before `stop`.
fn stopped_after(ring: RingConfig, passed: usize, limited: bool) -> (TxRig, Vec<Vec<u8>>) {
    let mut rig = rig(ring, terms(CSUM));
    let large = LargeFrame {
        payload: 4 * 1448 + 1,
        ..LargeFrame::default()
    };
    rig.send(&packet(60, 1), &[]);
    rig.send(&large.bytes(), &[70]);
    rig.send(&packet(60, 2), &[]);
    if limited {
        rig.limit = ScriptedLimit::holding_after(1 + passed, 500);
    } else {
        rig.wire.script_send(vec![Answer::Pass; 1 + passed]);
        rig.wire.script_send([Answer::WouldBlock; 2]);
    }
    let expected = [
        vec![packet(60, 1)],
        large.segments(true),
        vec![packet(60, 2)],
    ];
    (rig, expected.concat())
}

#[test]
fn a_frame_that_is_being_cut_waits_and_nothing_overtakes_it() {
    every_ring(16, |ring| {
        for (passed, limited) in (0..5).flat_map(|n| [(n, false), (n, true)]) {
            let (mut rig, expected) = stopped_after(ring, passed, limited);
            let stop = rig.run().stop;
            let waits = if limited {
                matches!(stop, Stop::Limited(500))
            } else {
                // And still does.
                matches!(stop, Stop::Backend) && matches!(rig.run().stop, Stop::Backend)
            };
            assert!(waits, "{stop:?}");
            assert_eq!(rig.guest.poll_all().len(), 1, "the frame before it");
            let mut sent = rig.wire.take_sent();
            assert_eq!(sent.len(), 1 + passed);
            sent.extend(rig.drain());
            assert!(sent == expected);
            assert_eq!(all_sent(&mut rig), 0);
            assert_eq!((rig.counters.frames(), rig.counters.segmented()), (7, 1));
        }
    });
}

/// Puts another engine in the place of the drained one.
fn replace_engine(rig: &mut TxRig) {
    let cursor = rig.engine.cursor();
    let config = RingConfig {
        cursor,
        used_elements: UsedElements::PerBatch,
        ..rig.guest.config()
    };
    restores(rig.guest.memory(), config, cursor);
    let device = AnyRing::new(&rig.guest.memory().ram(), &config).expect("its position");
    rig.engine = TxEngine::new(device, terms(CSUM), rig.counters.clone());
}

#[test]
fn drain_sends_what_is_left_if_the_backend_takes_it() {
    every_ring(16, |ring| {
        for (passed, limited) in (0..5).flat_map(|n| [(n, false), (n, true)]) {
            let (mut rig, expected) = stopped_after(ring, passed, limited);
            rig.run();
            rig.wire.clear_scripts();
            let interrupt = rig.engine.drain(&mut rig.backend, &mut rig.limit, 9);
            assert!(interrupt || ring.event_idx);
            replace_engine(&mut rig);
            assert_eq!(rig.guest.poll_all().len(), 2);
            assert!(rig.wire.take_sent() == expected[..6]);
            assert!(rig.drain() == expected[6..]);
            assert_eq!(all_sent(&mut rig), 0);
            let forced = |call: &&LimitCall| matches!(call, LimitCall::Force { now: 9, .. });
            assert_eq!(rig.limit.calls.iter().filter(forced).count(), 5 - passed);
        }
    });
}

#[test]
fn another_engine_sends_all_of_a_frame_again_that_could_not_leave() {
    every_ring(16, |ring| {
        for passed in 0..5 {
            let (mut rig, expected) = stopped_after(ring, passed, false);
            rig.run();
            rig.engine.drain(&mut rig.backend, &mut rig.limit, 0);
            assert_eq!(rig.wire.take_sent().len(), 1 + passed);
            let charged: i64 = rig.limit.calls.iter().map(charge).sum();
            assert_eq!(charged, 1 + passed as i64, "frames that have left");
            replace_engine(&mut rig);
            rig.wire.clear_scripts();
            assert!(rig.drain() == expected[1..]);
            assert_eq!(all_sent(&mut rig), 0);
        }
    });
}

fn charge(call: &LimitCall) -> i64 {
    match call {
        LimitCall::Take { granted: true, .. } | LimitCall::Force { .. } => 1,
        LimitCall::Refund(_) => -1,
        _ => 0,
    }
}

#[test]
fn what_is_left_of_a_frame_is_dropped_with_the_rest_of_the_ring() {
    every_ring(16, |ring| {
        let (mut rig, _) = stopped_after(ring, 2, false);
        rig.run();
        let outcome = rig.engine.discard(DropCause::LinkDown, PLENTY);
        assert!(matches!(outcome.stop, Stop::Driver));
        assert_eq!(rig.dropped_for(DropCause::LinkDown), 3 + 1);
        assert_eq!(all_sent(&mut rig), 0);
        rig.wire.clear_scripts();
        assert_eq!(rig.wire.take_sent().len(), 3);
        rig.send(&packet(99, 3), &[]);
        assert!(rig.drain() == [packet(99, 3)]);
    });
}

#[test]
fn a_segment_that_is_refused_costs_that_segment_and_a_dead_backend_nothing() {
    every_ring(16, |ring| {
        let (mut rig, mut expected) = stopped_after(ring, 2, false);
        rig.wire.clear_scripts();
        rig.wire
            .script_send([Answer::Pass, Answer::Pass, Answer::Refused, Answer::Dead]);
        assert!(matches!(rig.run().stop, Stop::Dead(_)));
        assert_eq!(rig.dropped_for(DropCause::Refused), 1);
        let mut sent = rig.wire.take_sent();
        sent.extend(rig.drain());
        expected.remove(2);
        assert!(sent == expected);
        assert_eq!(all_sent(&mut rig), 0);
        let charged: i64 = rig.limit.calls.iter().map(charge).sum();
        assert_eq!(charged, 6);
    });
}

/// Groups of TCP, and UDP that is cut; each flow in its order, chains too.
#[test]
fn groups_leave_before_a_frame_that_is_cut() {
    every_ring(64, |ring| {
        let config = TxConfig {
            coalesce: TSO4,
            ..terms(CSUM | TSO4)
        };
        let mut rig = rig(ring, config);
        let before = coalesce::stream(&Packet::tcp(&[3; 500]), 4, 0);
        let large = LargeFrame {
            tcp: false,
            ..LargeFrame::default()
        };
        coalesce::post(&mut rig, &before);
        rig.send(&large.bytes(), &[]);
        coalesce::post(&mut rig, &before);
        rig.wire
            .script_send([Answer::WouldBlock, Answer::Pass, Answer::WouldBlock]);
        for used in [0, 4] {
            assert!(matches!(rig.run().stop, Stop::Backend));
            assert_eq!(rig.guest.poll_all().len(), used);
        }
        let sent = [rig.wire.take_sent(), rig.drain()].concat();
        let segments = large.segments(true);
        assert_eq!(sent.len(), 1 + segments.len() + 1);
        assert!(sent[1..=segments.len()] == segments);
        assert_eq!(all_sent(&mut rig), 0);
        let stats = rig.counters.stats();
        assert_eq!((stats.frames, stats.groups, stats.segmented), (12, 2, 1));
    });
}

/// A driver that lies: a counted drop each, and the next frame leaves.
#[test]
fn large_frame_that_cannot_be_cut_is_one_counted_drop() {
    use HdrError as E;
    let rows: [(&[(usize, u8)], HdrError); 11] = [
        (&[(1, gso::UDP), (8, 6)], E::GsoNotNegotiated),
        (&[(1, 2)], E::GsoUnknown),
        (&[(1, gso::TCPV6)], E::GsoHeaders),
        (&[(1, gso::UDP_L4), (8, 6)], E::GsoHeaders),
        (&[(4, 0), (5, 0)], E::GsoSize),
        (&[(4, 255), (5, 255)], E::GsoSize),
        (&[(4, 1), (5, 0)], E::GsoSegments),
        (&[(6, 35)], E::GsoHeaders),
        (&[(6, 0), (7, 255)], E::CsumRange),
        (&[(HDR_LEN + 14, 0x44)], E::GsoHeaders),
        (&[(HDR_LEN + 46, 0x40)], E::GsoHeaders),
    ];
    every_ring(16, |ring| {
        for caps in [Offloads::empty(), CSUM] {
            for (changes, cause) in rows {
                let mut rig = rig(ring, terms(caps));
                let large = LargeFrame {
                    payload: 6000,
                    ..LargeFrame::default()
                };
                let mut bytes = large.bytes();
                for (at, value) in changes {
                    bytes[*at] = *value;
                }
                rig.send(&bytes, &[]);
                rig.send(&packet(60, 3), &[]);
                assert!(rig.drain() == [packet(60, 3)], "{changes:?}");
                assert_eq!(rig.dropped_for(DropCause::Header(cause)), 1, "{changes:?}");
                assert_eq!((all_sent(&mut rig), rig.counters.segmented()), (0, 0));
            }
        }
    });
}

#[test]
fn spoiled_large_frames_are_survived() {
    every_ring(32, |ring| {
        let mut random = Random::new(11);
        for caps in BACKENDS {
            let mut rig = rig(ring, terms(caps));
            for _ in 0..60 {
                let mut large = LargeFrame::random(&mut random);
                large.payload = large.payload.min(3000);
                let mut bytes = large.bytes();
                let end = (HDR_LEN + large.headers()).min(bytes.len());
                for _ in 0..random.below(3) {
                    bytes[random.below(end as u64) as usize] = random.next_u64() as u8;
                }
                if random.below(4) == 0 {
                    bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
                }
                rig.send(&bytes, &[]);
                rig.drain();
                assert_eq!(all_sent(&mut rig), 0);
            }
            rig.send(&packet(99, 1), &[]);
            assert!(rig.drain() == [packet(99, 1)]);
        }
    });
}
