//! Transmit queues that stand still, and give back what their driver posts.

use net_device::{Cursor, Features, QueueError, StartQueueError};
use net_queue::testing::Interrupts;
use tests::testbed::{RINGS, Rig, body, frame};

fn refusal(rig: &mut Rig, index: u16) -> StartQueueError {
    let setup = rig.queue(index).setup();
    let refused = rig.device.discard_posted(&setup);
    refused.expect_err("nothing to discard")
}

#[test]
fn a_stopped_transmit_queue_gives_back_what_is_posted_and_goes_on_behind_it() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        rig.start(without);
        let mut dropped = 0;
        for round in 0..20 {
            rig.send(0, &frame(70, round));
            assert_eq!(
                body(&rig.networks[0].wait_sent(1)[0]),
                body(&frame(70, round))
            );
            rig.wait_used(1, 1);
            let stopped = rig.device.stop_queue(1).expect("it runs");
            let mut cursor: Cursor = stopped.expect("it ran");
            for count in [0, 1, 7] {
                rig.queue(1).ring.ask(Interrupts::Always);
                for _ in 0..count {
                    rig.send(0, &frame(80, round));
                }
                let setup = rig.queue(1).setup_at(cursor);
                let done = rig.device.discard_posted(&setup).expect("it was stopped");
                assert!(!done.more);
                assert_eq!(rig.queue(1).ring.poll_all().len(), count);
                assert_eq!(done.interrupt, count > 0);
                cursor = done.cursor;
                dropped += count as u64;
            }
            let setup = rig.queue(1).setup_at(cursor);
            rig.device.start_queue(setup).expect("where it stands");
        }
        assert_eq!(rig.counter("tx_drop_stopped"), dropped);
        assert!(rig.networks[0].wire.take_sent().is_empty());
        rig.end();
    }
}

#[test]
fn only_a_stopped_transmit_queue_is_taken_from() {
    let mut rig = Rig::new(Rig::config(1));
    rig.start(Features::empty());
    let is_index = |error| matches!(error, StartQueueError::Queue(QueueError::Index(_)));
    let runs = refusal(&mut rig, 1);
    assert!(
        matches!(runs, StartQueueError::Queue(QueueError::NotStopped(1))),
        "{runs}"
    );
    for index in [0, 2] {
        assert!(is_index(refusal(&mut rig, index)));
    }
    rig.end();
}
