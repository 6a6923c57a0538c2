//! Queues that are stopped while groups wait: another engine goes on from the ring's position.

use net_queue::header::TxRules;
use net_queue::ring::{AnyRing, RingConfig, UsedElements};
use net_queue::testing::{Answer, LimitCall};
use net_queue::{Engine, Stop, TxConfig, TxEngine};

use super::held::interleaved;
use super::{ALL, expected, post, rig, stream, wire};
use crate::rig::{PLENTY, TxRig, every_ring, restores};

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
    let terms = TxConfig {
        coalesce: ALL,
        ..TxConfig::new(TxRules::new(ALL))
    };
    rig.engine = TxEngine::new(device, terms, rig.counters.clone());
}

#[test]
fn what_the_backend_takes_at_the_last_moment_is_sent() {
    every_ring(32, |config| {
        let mut rig = rig(config, ALL);
        let packets = interleaved(2, 5);
        post(&mut rig, &packets);
        rig.wire.script_send([Answer::WouldBlock]);
        let run = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
        assert!(matches!(run.stop, Stop::Backend));
        assert!(rig.engine.drain(&mut rig.backend, &mut rig.limit, 0));
        assert_eq!(rig.wire.take_sent().len(), 2);
        rig.guest.poll_all();
        assert_eq!(rig.guest.in_flight(), 0);
        replace_engine(&mut rig);
        assert_eq!(rig.drain().len(), 0);
        assert_eq!(rig.counters.frames(), 10);
    });
}

/// However many of the sends before it pass: no frame is lost, and flows keep their order.
#[test]
fn another_engine_sends_what_was_held() {
    every_ring(64, |config| {
        let packets = interleaved(3, 6);
        for passed in 0..3 {
            let mut rig = rig(config, ALL);
            post(&mut rig, &packets);
            let answers = |count| vec![Answer::Pass; count].into_iter();
            rig.wire
                .script_send(answers(passed).chain([Answer::WouldBlock; 2]));
            let run = rig.engine.run(&mut rig.backend, &mut rig.limit, 0, PLENTY);
            assert!(matches!(run.stop, Stop::Backend));
            rig.engine.drain(&mut rig.backend, &mut rig.limit, 0);
            let sent = rig.wire.take_sent();
            assert_eq!(sent.len(), passed);
            let before = rig.guest.poll_all().len();
            assert!(before <= passed, "a chain before one that was not sent");
            let charged: i64 = rig.limit.calls.iter().map(charge).sum();
            assert_eq!(charged, 6 * passed as i64, "frames that have left");
            replace_engine(&mut rig);
            let after = rig.drain();
            rig.guest.poll_all();
            assert_eq!(rig.guest.in_flight(), 0);
            // The chains before the first that was not sent are not sent again.
            let again: Vec<_> = packets.iter().skip(passed).cloned().collect();
            let mut after = wire(&after);
            let mut again = expected(&again);
            after.sort();
            again.sort();
            assert_eq!(after, again);
        }
    });
}

fn charge(call: &LimitCall) -> i64 {
    match call {
        LimitCall::Take { granted: true, .. } => 1,
        LimitCall::Refund(_) => -1,
        _ => 0,
    }
}

#[test]
fn an_engine_that_holds_nothing_drains_nothing() {
    every_ring(16, |config| {
        let mut rig = rig(config, ALL);
        let packets = stream(&net_queue::testing::packets::Packet::tcp(&[1; 99]), 4, 0);
        post(&mut rig, &packets);
        assert_eq!(rig.drain().len(), 1);
        let cursor = rig.engine.cursor();
        assert!(!rig.engine.drain(&mut rig.backend, &mut rig.limit, 0));
        assert_eq!(rig.engine.cursor(), cursor);
    });
}
