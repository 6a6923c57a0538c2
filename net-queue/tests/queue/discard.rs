//! Frames that are dropped unseen, as while the link is down.

use net_queue::testing::{Answer, Piece, RawDesc, Shape};
use net_queue::{Budget, DropCause, Engine, QueueFault, Stop};

use crate::rig::{MERGE, PLENTY, RxRig, SINGLE, TxRig, every_ring, packet};

const FEW: Budget = Budget {
    frames: 3,
    bytes: u64::MAX,
};

#[test]
fn sent_frames_are_given_back_and_counted_within_the_budget() {
    every_ring(16, |config| {
        let mut rig = TxRig::new(config);
        for number in 0..7 {
            rig.send(&packet(60, number), &[]);
        }
        for given in [3, 6] {
            let done = rig.engine.discard(DropCause::LinkDown, FEW);
            assert!(matches!(done.stop, Stop::Budget), "{:?}", done.stop);
            assert_eq!(done.frames, 0);
            assert_eq!(rig.dropped_for(DropCause::LinkDown), given);
            assert_eq!(rig.guest.poll_all().len(), 3);
        }
        // One that could not be sent anyway has its own cause.
        rig.guest.add(&[Piece::readable(u64::MAX - 99, 60)]);
        rig.guest.publish();
        let done = rig.engine.discard(DropCause::LinkDown, PLENTY);
        assert!(matches!(done.stop, Stop::Driver), "{:?}", done.stop);
        assert_eq!(rig.counters.drops(DropCause::LinkDown), 7);
        assert_eq!(rig.counters.drops(DropCause::BadAddress), 1);
        assert!(rig.wire.take_sent().is_empty());
        rig.guest.poll_all();
        // It goes on from there.
        rig.send(&packet(60, 9), &[]);
        assert!(matches!(rig.run().stop, Stop::Driver));
        assert_eq!(rig.wire.take_sent().len(), 1);
    });
}

#[test]
fn a_ring_that_is_broken_is_so_for_a_dropping_engine_too() {
    every_ring(16, |config| {
        let mut rig = TxRig::new(config);
        let piece = Piece::readable(0, 0);
        rig.guest.add_with(Shape::Direct, &[piece; 16], |_, desc| {
            desc.flags |= RawDesc::NEXT;
        });
        rig.guest.publish();
        for _ in 0..2 {
            let done = rig.engine.discard(DropCause::LinkDown, PLENTY);
            assert!(matches!(done.stop, Stop::Fault(_)), "{:?}", done.stop);
        }
        let fault: Option<QueueFault> = rig.engine.fault();
        assert!(fault.is_some());
        assert_eq!(rig.dropped_for(DropCause::LinkDown), 0);
    });
}

#[test]
fn received_frames_are_dropped_without_a_touch_on_the_ring() {
    for rx in [MERGE, SINGLE] {
        every_ring(16, |config| {
            let mut rig = RxRig::new(config, rx);
            let before = rig.engine.cursor();
            // With buffers posted and without.
            for posted in [false, true] {
                if posted {
                    rig.post(&[2048]);
                }
                for number in 0..5 {
                    rig.wire.inject(packet(60 + 1500 * number as usize, number));
                }
                let dropped = rig.dropped_for(DropCause::LinkDown);
                let stop = rig
                    .engine
                    .discard(&mut rig.backend, DropCause::LinkDown, FEW)
                    .stop;
                assert!(matches!(stop, Stop::Budget), "{stop:?}");
                assert_eq!(rig.wire.waiting(), 2);
                let stop = rig
                    .engine
                    .discard(&mut rig.backend, DropCause::LinkDown, PLENTY)
                    .stop;
                assert!(matches!(stop, Stop::Backend), "{stop:?}");
                assert_eq!(rig.dropped_for(DropCause::LinkDown), dropped + 5);
                assert_eq!(rig.engine.cursor(), before);
                assert!(rig.guest.poll_all().is_empty());
            }
            rig.wire.inject(packet(100, 9));
            rig.run();
            assert!(rig.take_frame().is_some(), "the buffers are there still");
        });
    }
}

#[test]
fn a_backend_that_dies_while_frames_are_dropped_is_reported() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.wire.script_recv([Answer::Refused, Answer::Dead]);
        rig.wire.inject(packet(60, 1));
        let stop = rig
            .engine
            .discard(&mut rig.backend, DropCause::LinkDown, PLENTY)
            .stop;
        assert!(matches!(stop, Stop::Dead(_)), "{stop:?}");
    });
}
