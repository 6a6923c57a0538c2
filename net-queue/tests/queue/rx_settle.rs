//! Receive: what becomes of frames and chains when a queue is stopped or taken away.

use net_queue::ring::{AnyRing, RingConfig};
use net_queue::testing::{LimitCall, ScriptedLimit};
use net_queue::{DropCause, Engine, RxConfig, RxEngine, Stop};

use crate::rig::{MERGE, RxRig, every_ring, frame, packet};

/// The next user of the ring after `settle` finds every chain that was not used.
fn successor(rig: &mut RxRig, config: RxConfig) -> RxEngine<AnyRing> {
    let ring = RingConfig {
        cursor: rig.engine.cursor(),
        ..rig.guest.config()
    };
    let ram = rig.guest.memory().ram();
    let device = AnyRing::new(&ram, &ring).expect("a settled cursor fits the ring");
    RxEngine::new(device, ring.size, config, rig.counters.clone())
}

#[test]
fn settle_delivers_what_the_limiter_held() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        for _ in 0..16 {
            rig.post(&[100]);
        }
        rig.wire.inject(packet(300, 1));
        rig.limit = ScriptedLimit::holding_after(0, 77);
        rig.run();
        rig.engine.drain(&mut rig.limit, None, 9);
        assert_eq!(
            rig.limit.calls.last(),
            Some(&LimitCall::Force { now: 9, bytes: 300 })
        );
        assert_eq!(rig.take_frame().expect("the held frame").1, frame(300, 1));
        rig.engine = successor(&mut rig, MERGE);
        rig.wire.inject(packet(1000, 2));
        rig.drain();
        assert_eq!(rig.take_frame().expect("the next frame").1, frame(1000, 2));
        assert_eq!(rig.counters.frames(), 2);
    });
}

#[test]
fn abandon_drops_what_was_held_and_gives_all_back() {
    every_ring(16, |config| {
        // Held by the limit, then for want of chains.
        for (posted, left) in [(4, 0), (2, 2)] {
            let mut rig = RxRig::new(config, MERGE);
            for _ in 0..posted {
                rig.post(&[100]);
            }
            let before = rig.engine.cursor();
            rig.wire.inject(packet(300, 1));
            rig.limit = ScriptedLimit::holding_after(0, 77);
            rig.run();
            rig.engine.discard_held();
            assert_eq!(rig.engine.cursor(), before);
            assert_eq!(rig.dropped_for(DropCause::Stopped), 1);
            for _ in 0..left {
                rig.post(&[100]);
            }
            // Nothing of it comes later, and the chains are still good for others.
            rig.engine.drain(&mut rig.limit, None, 9);
            assert_eq!(rig.guest.poll_all(), []);
            rig.engine = successor(&mut rig, MERGE);
            rig.limit = ScriptedLimit::default();
            rig.wire.inject(packet(300, 2));
            rig.drain();
            assert_eq!(rig.take_frame().expect("the next frame").1, frame(300, 2));
            assert_eq!(rig.counters.frames(), 1);
        }
    });
}

#[test]
fn settle_drops_what_lacked_chains_and_gives_all_back() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.post(&[100]);
        rig.post(&[40, 60]);
        let before = rig.engine.cursor();
        rig.wire.inject(packet(300, 1));
        assert!(matches!(rig.run().stop, Stop::Driver));
        rig.engine.drain(&mut rig.limit, None, 9);
        assert_eq!(rig.engine.cursor(), before);
        assert_eq!(rig.dropped_for(DropCause::Stopped), 1);
        assert_eq!(rig.guest.poll_all(), []);
        rig.engine = successor(&mut rig, MERGE);
        rig.wire.inject(packet(188, 2));
        rig.drain();
        assert_eq!(rig.take_frame().expect("the next frame").1, frame(188, 2));
    });
}

/// The engine itself can go on after `settle`, too.
#[test]
fn engine_goes_on_after_settle() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        for n in 0..40 {
            while rig.guest.free() >= 2 {
                rig.post(&[60, 60]);
            }
            rig.wire.inject(packet(150, n));
            rig.drain();
            rig.engine.drain(&mut rig.limit, None, 0);
            assert_eq!(rig.take_frame().expect("a frame").1, frame(150, n));
        }
    });
}

/// Exactly the unused chains are given back, whatever lies between.
#[test]
fn settle_with_a_bad_chain_in_the_ring() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        let ids: Vec<_> = [100, 100, 4, 100].map(|len| rig.post(&[len])).into();
        rig.wire.inject(packet(50, 1));
        rig.drain();
        rig.engine.drain(&mut rig.limit, None, 0);
        assert_eq!(rig.guest.poll().map(|used| used.id), Some(ids[0]));
        assert_eq!(rig.guest.poll_all(), []);
        rig.engine = successor(&mut rig, MERGE);
        for n in 0..2 {
            rig.wire.inject(packet(60, n));
        }
        rig.drain();
        let order: Vec<_> = rig
            .guest
            .poll_all()
            .iter()
            .map(|used| (used.id, used.len))
            .collect();
        assert_eq!(order, [(ids[1], 72), (ids[2], 0), (ids[3], 72)]);
    });
}
