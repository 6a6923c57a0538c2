//! Receive: large frames that the driver did not ask for reach it in segments.

use std::sync::Arc;

use net_queue::hash::{FrameHasher, HashTypes};
use net_queue::header::{HDR_LEN, HdrSize, flags};
use net_queue::ring::RingConfig;
use net_queue::testing::{LargeFrame, Random, ScriptedLimit};
use net_queue::{Budget, DropCause, Engine, FrameFilter, Offloads, RxConfig, Stop};

use crate::rig::{MERGE, PLENTY, RxRig, SINGLE, every_ring, packet};

pub(crate) const CSUM: Offloads = Offloads::CSUM;
const SETS: [Offloads; 9] = [
    Offloads::empty(),
    CSUM,
    CSUM.union(Offloads::TSO4),
    CSUM.union(Offloads::TSO6),
    CSUM.union(Offloads::TSO4).union(Offloads::ECN),
    CSUM.union(Offloads::USO4),
    CSUM.union(Offloads::USO6),
    CSUM.union(Offloads::TSO4).union(Offloads::USO6),
    Offloads::all(),
];

/// A driver that takes `offloads`, and merges or not.
pub(crate) fn taking(offloads: Offloads, config: RxConfig) -> RxConfig {
    RxConfig { offloads, ..config }
}

/// Returns whether the driver takes it whole.
fn is_taken(large: &LargeFrame, on: Offloads) -> bool {
    let kind = match (large.tcp, large.v6) {
        (true, false) => Offloads::TSO4,
        (true, true) => Offloads::TSO6,
        (false, false) => Offloads::USO4,
        (false, true) => Offloads::USO6,
    };
    on.contains(kind) && (!large.ecn || on.contains(Offloads::ECN))
}

/// Frames that such a driver is to get of it.
fn expected(large: &LargeFrame, on: Offloads) -> Vec<Vec<u8>> {
    if is_taken(large, on) {
        vec![large.bytes()]
    } else {
        large.segments(on.contains(CSUM))
    }
}

/// Frames that were delivered, each behind its header without the number of buffers.
pub(crate) fn delivered(rig: &mut RxRig) -> Vec<Vec<u8>> {
    let frames = std::iter::from_fn(|| rig.take_frame());
    let whole = frames.map(|(mut header, frame, _)| {
        header[10..].fill(0);
        [header, frame].concat()
    });
    whole.collect()
}

pub(crate) fn tcp() -> LargeFrame {
    LargeFrame::default()
}

#[test]
fn every_subset_of_offloads_receives_every_kind_of_large_frame() {
    every_ring(256, |ring| {
        let mut random = Random::new(3);
        for on in SETS {
            for config in [MERGE, SINGLE] {
                let mut rig = RxRig::new(ring, taking(on, config));
                for _ in 0..4 {
                    let large = LargeFrame::random(&mut random);
                    if !large.is_large() {
                        continue;
                    }
                    let room = if config.merge { 700 } else { 66_000 };
                    while rig.guest.free() > 1 {
                        rig.post(&[50, room - 50]);
                    }
                    rig.wire.inject(large.bytes());
                    rig.wire.inject(packet(60, 5));
                    rig.drain();
                    let mut expected = expected(&large, on);
                    expected.push(packet(60, 5));
                    assert!(delivered(&mut rig) == expected, "{on:?} {large:?}");
                }
                assert_eq!(rig.counters.dropped(), 0, "{on:?}");
            }
        }
    });
}

#[test]
fn limiter_budget_and_counters_see_single_frames() {
    every_ring(64, |ring| {
        let mut rig = RxRig::new(ring, taking(CSUM, MERGE));
        for _ in 0..8 {
            rig.post(&[2000]);
        }
        let large = LargeFrame {
            payload: 4 * 1448 + 1,
            ..tcp()
        };
        rig.wire.inject(large.bytes());
        let mut runs = 0;
        while rig.counters.frames() < 5 {
            let budget = Budget {
                frames: 2,
                ..PLENTY
            };
            rig.run_with(None, 0, budget);
            runs += 1;
            assert!(rig.counters.frames() <= 2 * runs, "budget");
        }
        let sent = large.segments(true);
        let bytes: usize = sent.iter().map(|bytes| bytes.len() - HDR_LEN).sum();
        assert_eq!(rig.counters.bytes(), bytes as u64);
        assert_eq!((rig.limit.calls.len(), rig.counters.segmented()), (5, 1));
        assert!(delivered(&mut rig) == sent);
    });
}

/// One buffer at a time, of any size.
#[test]
fn segments_wait_for_buffers_and_none_is_lost() {
    every_ring(64, |ring| {
        for (config, room) in [(MERGE, 2000), (MERGE, 333), (SINGLE, 1600)] {
            let mut rig = RxRig::new(ring, taking(Offloads::empty(), config));
            let large = LargeFrame {
                payload: 20_000,
                ..tcp()
            };
            rig.post(&[room]);
            rig.wire.inject(large.bytes());
            rig.wire.inject(packet(60, 1));
            let mut got = Vec::new();
            for _ in 0..200 {
                assert!(matches!(rig.run().stop, Stop::Driver | Stop::Backend));
                got.extend(delivered(&mut rig));
                rig.post(&[room]);
                if rig.wire.waiting() == 0 {
                    break;
                }
            }
            let mut sent = large.segments(false);
            sent.push(packet(60, 1));
            assert!(got == sent, "{} of {}", got.len(), sent.len());
            assert_eq!(rig.counters.dropped(), 0);
        }
    });
}

#[test]
fn buffer_too_short_for_a_segment_costs_that_segment() {
    every_ring(16, |ring| {
        let mut rig = RxRig::new(ring, taking(CSUM, SINGLE));
        let large = LargeFrame {
            payload: 2 * 1448 + 100,
            ..tcp()
        };
        rig.post(&[1000]);
        rig.wire.inject(large.bytes());
        rig.drain();
        assert!(delivered(&mut rig) == large.segments(true)[2..]);
        assert_eq!(rig.dropped_for(DropCause::NoRoom), 2);
    });
}

#[test]
fn limit_holds_segments_one_by_one() {
    every_ring(64, |ring| {
        let mut rig = RxRig::new(ring, taking(CSUM, MERGE));
        let large = LargeFrame {
            payload: 6000,
            ..tcp()
        };
        for _ in 0..20 {
            rig.post(&[800]);
        }
        rig.wire.inject(large.bytes());
        let mut got = Vec::new();
        for _ in 0..4 {
            rig.limit = ScriptedLimit::holding_after(1, 77);
            assert!(matches!(rig.run().stop, Stop::Limited(77)));
            got.extend(delivered(&mut rig));
        }
        rig.limit = ScriptedLimit::default();
        rig.drain();
        got.extend(delivered(&mut rig));
        assert!(got == large.segments(true));
    });
}

/// The rest of a frame is judged by what is in force when its turn comes.
#[test]
fn rest_of_a_frame_follows_a_change_of_offloads() {
    every_ring(64, |ring| {
        for held in [false, true] {
            let mut rig = RxRig::new(ring, taking(CSUM, MERGE));
            let large = LargeFrame {
                payload: 6000,
                ..tcp()
            };
            for _ in 0..20 {
                rig.post(&[800]);
            }
            rig.wire.inject(large.bytes());
            let budget = Budget {
                frames: if held { 10 } else { 3 },
                ..PLENTY
            };
            rig.limit = ScriptedLimit::holding_after(if held { 2 } else { 9 }, 77);
            rig.run_with(None, 0, budget);
            rig.engine.set_offloads(Offloads::empty());
            rig.limit = ScriptedLimit::default();
            rig.drain();
            let (partial, whole) = (large.segments(true), large.segments(false));
            let got = delivered(&mut rig);
            assert!(got[..2] == partial[..2], "as it was");
            assert!(got[2..] == whole[2..], "as it is now");
        }
    });
}

/// A frame that the driver took when the limit held it, and does not take any more.
#[test]
fn held_large_frame_is_cut_after_its_offload_was_switched_off() {
    every_ring(64, |ring| {
        for stop in [false, true] {
            let mut rig = RxRig::new(ring, taking(Offloads::all(), MERGE));
            let large = tcp();
            for _ in 0..20 {
                rig.post(&[800]);
            }
            rig.wire.inject(large.bytes());
            rig.limit = ScriptedLimit::holding_after(0, 77);
            rig.run();
            rig.engine.set_offloads(CSUM);
            rig.limit = ScriptedLimit::default();
            if stop {
                rig.engine.drain(&mut rig.limit, None, 0);
            } else {
                rig.drain();
            }
            assert!(delivered(&mut rig) == large.segments(true));
            assert_eq!(rig.counters.dropped(), 0);
        }
    });
}

fn stopped_after_two(ring: RingConfig, posted: usize, limited: bool) -> (RxRig, LargeFrame) {
    let mut rig = RxRig::new(ring, taking(CSUM, MERGE));
    for _ in 0..posted {
        rig.post(&[1600]);
    }
    let large = LargeFrame {
        payload: 5 * 1448,
        ..tcp()
    };
    rig.wire.inject(large.bytes());
    rig.limit = ScriptedLimit::holding_after(2, 77);
    let budget = Budget {
        frames: if limited { 10 } else { 3 },
        ..PLENTY
    };
    rig.run_with(None, 0, budget);
    assert_eq!(rig.counters.frames(), 2);
    rig.limit = ScriptedLimit::default();
    (rig, large)
}

#[test]
fn drain_delivers_what_there_are_buffers_for_and_counts_the_rest() {
    every_ring(16, |ring| {
        for limited in [false, true] {
            for posted in 3..=7 {
                let (mut rig, large) = stopped_after_two(ring, posted, limited);
                rig.engine.drain(&mut rig.limit, None, 9);
                let got = delivered(&mut rig);
                let whole = posted.min(5);
                assert!(got == large.segments(true)[..whole], "{posted}");
                assert_eq!(rig.dropped_for(DropCause::Stopped), 5 - whole as u64);
                let cursor = rig.engine.cursor();
                // What was not used is there for others, and nothing comes later.
                rig.post(&[1600]);
                rig.wire.inject(packet(60, 1));
                rig.drain();
                assert!(delivered(&mut rig) == [packet(60, 1)]);
                assert_ne!(rig.engine.cursor(), cursor);
            }
        }
    });
}

#[test]
fn queue_that_must_get_nothing_more_counts_what_is_left() {
    every_ring(16, |ring| {
        for limited in [false, true] {
            let (mut rig, large) = stopped_after_two(ring, 8, limited);
            rig.engine.discard_held();
            assert_eq!(rig.dropped_for(DropCause::Stopped), 3);
            rig.engine.drain(&mut rig.limit, None, 9);
            assert!(delivered(&mut rig) == large.segments(true)[..2]);
        }
    });
}

/// Takes frames, or none.
struct Door(bool);

impl FrameFilter for Door {
    fn admit(&self, head: &[u8]) -> bool {
        assert_eq!(head.len(), 18);
        self.0
    }
}

#[test]
fn filter_that_closes_in_the_middle_ends_the_frame() {
    every_ring(16, |ring| {
        let (mut rig, large) = stopped_after_two(ring, 8, false);
        rig.run_with(Some(&Door(false)), 0, PLENTY);
        assert_eq!(rig.dropped_for(DropCause::Filtered), 3);
        rig.wire.inject(large.bytes());
        rig.run_with(Some(&Door(false)), 0, PLENTY);
        assert_eq!(
            rig.dropped_for(DropCause::Filtered),
            8,
            "from the beginning"
        );
        rig.wire.inject(large.bytes());
        rig.limit = ScriptedLimit::default();
        rig.run_with(Some(&Door(true)), 0, PLENTY);
        let segments = large.segments(true);
        assert!(delivered(&mut rig) == [&segments[..2], &segments[..]].concat());
    });
}

#[test]
fn segment_that_is_given_up_is_not_the_end_of_the_others() {
    every_ring(64, |ring| {
        let mut rig = RxRig::new(ring, taking(CSUM, MERGE));
        let large = LargeFrame {
            payload: 2 * 1448 + 10,
            ..tcp()
        };
        rig.post(&[800]);
        rig.wire.inject(large.bytes());
        assert!(matches!(rig.run().stop, Stop::Driver));
        assert_eq!(rig.engine.missing(), Some(HDR_LEN + 66 + 1448 - 800));
        rig.engine.give_up();
        rig.drain();
        assert!(delivered(&mut rig) == large.segments(true)[2..]);
        assert_eq!(rig.dropped_for(DropCause::NoRoom), 2);
        assert_eq!(rig.engine.missing(), None);
    });
}

#[test]
fn segments_above_the_mtu_are_dropped_one_by_one() {
    every_ring(64, |ring| {
        for tags in 0..=3 {
            let config = RxConfig {
                mtu: Some(1499),
                ..taking(CSUM, MERGE)
            };
            let mut rig = RxRig::new(ring, config);
            rig.post(&[4000]);
            rig.post(&[4000]);
            let large = LargeFrame {
                payload: 2 * 1448 + 10,
                tags,
                ..tcp()
            };
            rig.wire.inject(large.bytes());
            // Its packets have 1499 bytes.
            let fitting = LargeFrame {
                size: 1447,
                payload: 1448,
                tags,
                ..tcp()
            };
            rig.wire.inject(fitting.bytes());
            rig.post(&[4000]);
            rig.drain();
            let expected = [&large.segments(true)[2..], &fitting.segments(true)].concat();
            assert!(delivered(&mut rig) == expected, "{tags}");
            assert_eq!(rig.dropped_for(DropCause::Mtu), 2);
        }
    });
}

/// Of a driver that takes some large frames the buffers are offered to the backend.
#[test]
fn frame_that_came_to_lie_in_buffers_is_cut_and_nothing_of_it_stays_there() {
    every_ring(256, |ring| {
        let on = CSUM | Offloads::TSO4;
        let mut rig = RxRig::new(ring, taking(on, MERGE));
        for round in 0..4 {
            while rig.guest.free() > 0 {
                rig.post(&[1600]);
            }
            let taken = LargeFrame {
                payload: 9000,
                ..tcp()
            };
            let cut = LargeFrame {
                tcp: round % 2 == 0,
                v6: round % 2 == 0,
                payload: 30_000,
                size: 333,
                ..tcp()
            };
            rig.wire.inject(taken.bytes());
            rig.wire.inject(cut.bytes());
            rig.drain();
            let expected = [vec![taken.bytes()], cut.segments(true)].concat();
            assert!(delivered(&mut rig) == expected);
            assert_eq!(rig.counters.dropped(), 0);
        }
    });
}

#[test]
fn verified_large_frame_is_cut_too() {
    every_ring(64, |ring| {
        for tcp in [false, true] {
            for flags in [0, flags::DATA_VALID] {
                for on in [Offloads::empty(), CSUM] {
                    let mut rig = RxRig::new(ring, taking(on, MERGE));
                    for _ in 0..8 {
                        rig.post(&[2000]);
                    }
                    let large = LargeFrame {
                        tcp,
                        ..LargeFrame::default()
                    };
                    let mut bytes = large.bytes();
                    bytes[0] = flags;
                    bytes[6..10].fill(0);
                    // A checksum that was right for the whole of it.
                    let field = HDR_LEN + large.transport() + usize::from(large.csum_offset());
                    bytes[field..field + 2].fill(0x5a);
                    rig.wire.inject(bytes);
                    rig.drain();
                    assert!(delivered(&mut rig) == large.segments(on.contains(CSUM)));
                }
            }
        }
    });
}

/// NET-MQ-16.
#[test]
fn every_segment_reports_the_hash_of_its_flow() {
    let hasher = Arc::new(FrameHasher::new(HashTypes::all(), &[0x6d; 40]));
    every_ring(64, |ring| {
        let config = RxConfig {
            size: HdrSize::HashReport,
            ..taking(CSUM, MERGE)
        };
        let mut rig = RxRig::new(ring, config);
        rig.engine.set_hasher(Some(hasher.clone()));
        for _ in 0..8 {
            rig.post(&[2000]);
        }
        let mut bytes = tcp().bytes();
        let hash = hasher.hash(&bytes[HDR_LEN..]).to_wire();
        bytes.splice(HDR_LEN..HDR_LEN, [0; 8]);
        rig.wire.inject(bytes);
        rig.drain();
        let frames = std::iter::from_fn(|| rig.take_frame());
        // The header's last fields are in front of the frame.
        let hashes: Vec<_> = frames.map(|(_, frame, _)| frame[..8].to_vec()).collect();
        assert_eq!(hashes, vec![hash; tcp().segments(true).len()]);
    });
}
