//! Receive: what is not delivered, and what is held.

use net_queue::header::{HdrError, flags, gso};
use net_queue::testing::{Answer, GuestRing, LimitCall, Piece, ScriptedLimit, Shape};
use net_queue::{Budget, DropCause, Engine, FrameFilter, RxConfig, Stop};

use crate::rig::{MERGE, PLENTY, RxRig, SINGLE, every_layout, every_ring, frame, packet, ring};

/// NET-RX-03: too long for the chain means dropped; what fits still flows.
#[test]
fn jumbo_without_merging_is_dropped_and_small_frames_flow() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, SINGLE);
        for _ in 0..8 {
            rig.post(&[1526]);
        }
        for n in 0..4 {
            rig.wire.inject(packet(9000, n));
            rig.wire.inject(packet(1514, n));
        }
        rig.drain();
        for n in 0..4 {
            let (_, bytes, chains) = rig.take_frame().expect("a small frame");
            assert_eq!((bytes, chains.len()), (frame(1514, n), 1));
        }
        assert_eq!(rig.guest.poll_all(), [], "the jumbo frames took no chain");
        assert_eq!(rig.dropped_for(DropCause::NoRoom), 4);
    });
}

/// NET-RX-13: a frame that all chains together cannot hold would wait for ever.
#[test]
fn frame_bigger_than_the_queue_is_dropped() {
    every_ring(8, |config| {
        for shape in [Shape::Direct, Shape::Indirect] {
            for pieces in [1, 2, 3] {
                let mut rig = RxRig::new(config, MERGE);
                let lens = vec![100 / pieces + 1; pieces];
                let slots = if shape == Shape::Direct { pieces } else { 1 };
                while rig.guest.free() >= slots {
                    let chain = rig.rooms(&lens);
                    rig.guest.add_as(shape, &chain);
                }
                rig.guest.publish();
                rig.wire.inject(packet(5000, 1));
                rig.wire.inject(packet(50, 2));
                rig.drain();
                let small = rig.take_frame().expect("the small frame");
                assert_eq!(small.1, frame(50, 2), "{shape:?}, {pieces} pieces a chain");
                assert_eq!(rig.dropped_for(DropCause::NoRoom), 1);
            }
        }
    });
}

/// One system call's worth of pieces is the other bound on what a frame can be spread over.
#[test]
fn frame_that_needs_too_many_pieces_is_dropped() {
    every_layout(|layout| {
        for pieces in [1, 2, 100, 1000] {
            let mut rig = RxRig::new(ring(layout, 4096), MERGE);
            for _ in 0..4096 / pieces {
                let chain = rig.rooms(&vec![12; pieces]);
                rig.guest.add(&chain);
            }
            rig.guest.publish();
            rig.wire.inject(packet(40_000, 1));
            rig.wire.inject(packet(50, 2));
            rig.drain();
            assert_eq!(
                rig.take_frame().expect("the small frame").1,
                frame(50, 2),
                "{pieces}"
            );
            assert_eq!(rig.dropped_for(DropCause::NoRoom), 1);
        }
    });
}

/// NET-RX-11: chains of no use go back empty, and only they.
#[test]
fn undersized_chains_go_back_unused() {
    every_layout(|layout| {
        for (config, least) in [(MERGE, 12), (SINGLE, 26)] {
            let mut rig = RxRig::new(ring(layout, 64), config);
            let short: Vec<_> = (0..least).map(|len| rig.post(&[len])).collect();
            rig.post(&[least]);
            rig.post(&[2000]);
            rig.wire.inject(packet(14, 1));
            rig.drain();
            for id in short {
                let used = rig.guest.poll().expect("a short chain");
                assert_eq!((used.id, used.len), (id, 0));
            }
            assert_eq!(rig.take_frame().expect("a frame").1, frame(14, 1));
            assert_eq!(rig.dropped_for(DropCause::TooShort), least as u64);
        }
    });
}

/// NET-RX-10: a chain with a readable buffer is given back and no byte of it written.
#[test]
fn readable_buffers_are_never_written() {
    every_layout(|layout| {
        for readable in [0, 1] {
            let mut rig = RxRig::new(ring(layout, 16), MERGE);
            let mut pieces = rig.rooms(&[500, 500]);
            pieces[readable].writable = false;
            rig.guest.add(&pieces);
            rig.post(&[500]);
            rig.wire.inject(packet(60, 1));
            rig.drain();
            let used = rig.guest.poll().expect("the bad chain");
            assert_eq!(used.len, 0);
            let bytes = rig.guest.memory().gather(&pieces, 1000);
            assert!(bytes.iter().all(|byte| *byte == 0xaa));
            assert_eq!(rig.take_frame().expect("a frame").1, frame(60, 1));
            assert_eq!(rig.dropped_for(DropCause::Direction), 1);
        }
    });
}

/// One bad chain between good ones costs at most one frame, and never the queue.
#[test]
fn bad_chain_behind_good_ones() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        let ids: Vec<_> = [100, 4, 100, 100].map(|len| rig.post(&[len])).into();
        rig.wire.inject(packet(180, 1));
        rig.drain();
        let used = rig.guest.poll_all();
        let lens: Vec<_> = used.iter().map(|used| (used.id, used.len)).collect();
        assert_eq!(lens, [(ids[0], 0), (ids[1], 0)]);
        rig.wire.inject(packet(180, 2));
        rig.drain();
        assert_eq!(rig.take_frame().expect("the next frame").1, frame(180, 2));
        assert_eq!(rig.counters.drops(DropCause::NoRoom), 1);
        assert_eq!(rig.counters.drops(DropCause::TooShort), 1);
    });
}

#[test]
fn empty_ring_takes_no_frame_from_the_backend() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.wire.inject(packet(60, 1));
        assert!(matches!(rig.run().stop, Stop::Driver));
        assert_eq!(rig.wire.waiting(), 1);
        rig.post(&[100]);
        assert!(rig.engine.enable_notification());
        rig.drain();
        assert_eq!(rig.take_frame().expect("a frame").1, frame(60, 1));
    });
}

/// NET-CFG-08: above the negotiated MTU nothing is delivered; a VLAN tag does not count.
#[test]
fn frames_above_the_mtu_are_dropped() {
    every_layout(|layout| {
        let config = RxConfig {
            mtu: Some(1500),
            ..MERGE
        };
        let mut rig = RxRig::new(ring(layout, 64), config);
        for _ in 0..64 {
            rig.post(&[2000]);
        }
        let tagged = |len| {
            let mut bytes = packet(len, 3);
            bytes[24..26].copy_from_slice(&[0x81, 0]);
            bytes
        };
        for bytes in [packet(1514, 3), packet(1515, 3), tagged(1518), tagged(1519)] {
            rig.wire.inject(bytes);
        }
        rig.drain();
        let lens: Vec<_> = rig.guest.poll_all().iter().map(|used| used.len).collect();
        assert_eq!(lens, [12 + 1514, 12 + 1518]);
        assert_eq!(rig.dropped_for(DropCause::Mtu), 2);
    });
}

#[test]
fn header_that_was_not_negotiated_is_dropped() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 16), MERGE);
        rig.post(&[500]);
        let mut segments = packet(100, 1);
        segments[0] = flags::NEEDS_CSUM;
        // The one kind that is not cut here.
        segments[1] = gso::UDP;
        segments[4] = 20;
        segments[6] = 34;
        segments[8] = 6;
        rig.wire.inject(segments);
        let mut valid = packet(100, 2);
        valid[0] = flags::DATA_VALID;
        rig.wire.inject(valid);
        rig.drain();
        let (header, bytes, _) = rig.take_frame().expect("a frame");
        assert_eq!((header[0], bytes), (0, frame(100, 2)));
        let cause = DropCause::Header(HdrError::GsoNotNegotiated);
        assert_eq!(rig.dropped_for(cause), 1);
    });
}

#[test]
fn short_frames_from_the_backend_are_dropped() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 16), MERGE);
        rig.post(&[500]);
        for len in 0..26 {
            rig.wire.inject(vec![0; len]);
        }
        rig.wire.inject(packet(14, 1));
        rig.drain();
        assert_eq!(rig.take_frame().expect("a frame").1, frame(14, 1));
        assert_eq!(rig.counters.drops(DropCause::TooShort), 12);
        assert_eq!(rig.counters.dropped(), 26);
    });
}

struct OnlyFrom(u8);

impl FrameFilter for OnlyFrom {
    fn admit(&self, head: &[u8]) -> bool {
        assert!(head.len() <= 18);
        head.get(6) == Some(&self.0)
    }
}

/// NET-CVQ-12, NET-CVQ-16: what the filter excludes costs no chain.
#[test]
fn filter_sees_the_head_of_each_frame() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 16), MERGE);
        rig.post(&[3, 9, 20]);
        rig.post(&[500]);
        rig.post(&[500]);
        for (len, from) in [(14, 1), (60, 2), (60, 1), (17, 2)] {
            let mut bytes = packet(len, 4);
            bytes[18] = from;
            rig.wire.inject(bytes);
        }
        let stop = rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY).stop;
        assert!(matches!(stop, Stop::Backend), "{stop:?}");
        let lens: Vec<_> = std::iter::from_fn(|| rig.take_frame())
            .map(|(_, f, _)| f.len())
            .collect();
        assert_eq!(lens, [14, 60]);
        assert_eq!(rig.dropped_for(DropCause::Filtered), 2);
    });
}

/// A frame that the limiter holds was received: it must not be lost, and is charged once.
#[test]
fn limited_frame_is_held_and_delivered_later() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        for _ in 0..16 {
            rig.post(&[100]);
        }
        for n in 0..3 {
            rig.wire.inject(packet(300, n));
        }
        rig.limit = ScriptedLimit::holding_after(1, 77);
        assert!(matches!(
            rig.run_with(None, 5, PLENTY).stop,
            Stop::Limited(77)
        ));
        assert_eq!(rig.take_frame().expect("the first").1, frame(300, 0));
        assert!(rig.take_frame().is_none());
        assert_eq!(rig.counters.limited(), 1);
        rig.drain();
        assert_eq!(rig.take_frame().expect("the second").1, frame(300, 1));
        assert_eq!(rig.take_frame().expect("the third").1, frame(300, 2));
        let granted = |call: &&LimitCall| {
            matches!(
                call,
                LimitCall::Take {
                    granted: true,
                    bytes: 300,
                    ..
                }
            )
        };
        assert_eq!(rig.limit.calls.iter().filter(granted).count(), 3);
    });
}

#[test]
fn lost_frame_is_counted_and_the_next_comes_through() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.post(&[500]);
        rig.wire.inject(packet(60, 1));
        rig.wire.inject(packet(60, 2));
        rig.wire.script_recv([Answer::Refused]);
        rig.drain();
        assert_eq!(rig.take_frame().expect("a frame").1, frame(60, 2));
        assert_eq!(rig.dropped_for(DropCause::Refused), 1);
    });
}

#[test]
fn dead_backend_stops_the_queue_but_not_the_ring() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.post(&[500]);
        let before = rig.engine.cursor();
        rig.wire.script_recv([Answer::Dead]);
        assert!(matches!(rig.run().stop, Stop::Dead(_)));
        rig.engine.drain(&mut rig.limit, None, 0);
        assert_eq!(rig.engine.cursor(), before);
    });
}

#[test]
fn budget_bounds_frames_drops_and_useless_chains() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        for _ in 0..20 {
            rig.post(&[4]);
        }
        for _ in 0..40 {
            rig.post(&[200]);
        }
        for n in 0..10 {
            rig.wire.inject(vec![0; 3]);
            rig.wire.inject(packet(100, n));
        }
        let budget = Budget {
            frames: 10,
            ..PLENTY
        };
        assert!(matches!(rig.run_with(None, 0, budget).stop, Stop::Budget));
        assert_eq!(rig.guest.poll_all().len(), 10, "ten useless chains");
        assert!(matches!(rig.run_with(None, 0, budget).stop, Stop::Budget));
        assert_eq!(rig.guest.poll_all().len(), 10);
        assert!(matches!(rig.run_with(None, 0, budget).stop, Stop::Budget));
        assert_eq!(
            rig.wire.waiting(),
            10,
            "five frames and five that were dropped"
        );
        let bytes = Budget {
            bytes: 150,
            ..PLENTY
        };
        assert!(matches!(rig.run_with(None, 0, bytes).stop, Stop::Budget));
        assert_eq!(rig.counters.frames(), 7);
    });
}

/// A chain over the cap of pieces is refused, and only when nothing else is in the way.
#[test]
fn chain_of_too_many_pieces_goes_back() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 4096), MERGE);
        let long: Vec<Piece> = rig.rooms(&vec![1; 1024]);
        rig.post(&[50]);
        rig.guest.add(&long);
        rig.post(&[500]);
        rig.wire.inject(packet(30, 1));
        rig.wire.inject(packet(200, 2));
        rig.drain();
        assert_eq!(rig.take_frame().expect("a frame").1, frame(30, 1));
        assert_eq!(rig.guest.poll().map(|used| used.len), Some(0));
        assert_eq!(rig.take_frame().expect("a frame").1, frame(200, 2));
        assert_eq!(rig.dropped_for(DropCause::Segments), 1);
    });
}

#[test]
fn guest_ring_counts_what_is_in_flight() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 16), MERGE);
        rig.post(&[100]);
        let guest: &GuestRing = &rig.guest;
        assert_eq!((guest.in_flight(), guest.free()), (1, 15));
    });
}
