//! Queues that their driver resets one by one while the others run (VIRTIO_F_RING_RESET).

use net_device::{Features, Snapshottable, StopQueueError, VirtioDevice};
use tests::testbed::{Queue, RINGS, Rig, body, frame, pause, resume};

type F = Features;

/// A device whose transport can reset queues, and that feeds all of `pairs`.
fn running(pairs: u16, without: Features) -> Rig {
    let mut rig = resettable(pairs);
    rig.start(without);
    if pairs > 1 {
        assert_eq!(rig.command(4, 0, &pairs.to_le_bytes()), 0);
    }
    rig
}

fn resettable(pairs: u16) -> Rig {
    let mut config = Rig::config(pairs);
    config.transport_features = F::VIRTIO_F_RING_RESET;
    Rig::new(config)
}

/// Enables a queue again, as a fresh ring of `size` in another place.
fn enable(rig: &mut Rig, index: u16, size: u16) {
    let queue = Queue::new(&rig.memory, index, rig.ring_config(size));
    rig.device.start_queue(queue.setup()).expect("a fresh ring");
    rig.queues.insert(index, queue);
}

fn attached(rig: &Rig) -> Vec<bool> {
    let networks = rig.networks.iter();
    networks.map(|network| network.is_attached()).collect()
}

/// A frame each way through `pair`.
fn check_pair(rig: &mut Rig, pair: u16, seed: u64) {
    let at = usize::from(pair);
    rig.send(pair, &frame(70, seed));
    let sent = rig.networks[at].wait_sent(1);
    assert_eq!(body(&sent[0]), body(&frame(70, seed)));
    rig.wait_used(2 * pair + 1, 1);
    rig.post(pair, &[2048]);
    rig.networks[at].wire.inject(frame(80, seed));
    assert_eq!(body(&rig.receive(pair, 1)[0]), body(&frame(80, seed)));
}

#[test]
fn a_reset_queue_is_not_touched_and_begins_anew_dev_life_11_12_13_14() {
    for without in RINGS {
        let mut rig = running(2, without);
        for (round, size) in (0..).zip([16, 64, 32]) {
            for index in [2, 3, 4] {
                check_pair(&mut rig, 1, round);
                if index == 2 {
                    rig.post(1, &[2048; 5]);
                }
                rig.device.reset_queue(index).expect("it runs");
                rig.device.reset_queue(index).expect("it is reset already");
                if index == 3 {
                    rig.send(1, &frame(60, 1));
                }
                if index == 2 {
                    // It has nowhere to go, and is gone when the queue comes back.
                    rig.networks[1].wire.inject(frame(61, round));
                }
                rig.queue(index).kick();
                check_pair(&mut rig, 0, round);
                assert!(rig.queue(index).ring.poll_all().is_empty());
                enable(&mut rig, index, size);
            }
            assert_eq!(rig.command(4, 0, &[2, 0]), 0);
            assert!(rig.networks[1].wire.take_sent().is_empty());
        }
        check_pair(&mut rig, 1, 9);
        assert!(!rig.device.needs_reset());
    }
}

#[test]
fn a_reset_that_was_not_negotiated_has_no_effect_dev_life_15() {
    let mut rig = running(1, F::VIRTIO_F_RING_RESET);
    let refused = rig.device.reset_queue(1);
    assert!(matches!(refused, Err(StopQueueError::NotNegotiated)));
    check_pair(&mut rig, 0, 1);
    // A transport without the register does not offer it.
    let plain = Rig::new(Rig::config(1));
    assert!(!plain.offered().contains(F::VIRTIO_F_RING_RESET));
    let mut config = Rig::config(1);
    config.transport_features = F::VIRTIO_NET_F_MQ;
    assert!(config.validate().is_err());
}

#[test]
fn frames_go_elsewhere_while_a_queue_is_reset_and_nowhere_without_any_net_mq_06() {
    for without in RINGS {
        let mut rig = running(3, without);
        rig.device.reset_queue(2).expect("it runs");
        assert_eq!(attached(&rig), [true, false, true]);
        rig.device.reset_queue(0).expect("it runs");
        assert_eq!(attached(&rig), [false, false, true]);
        rig.device.reset_queue(4).expect("it runs");
        // A link has a queue, whose frames nobody gets.
        assert_eq!(attached(&rig), [true, false, false]);
        for number in 0..200 {
            rig.networks[0].wire.inject(frame(60, number));
        }
        enable(&mut rig, 0, 64);
        rig.networks[0].wait_drained();
        check_pair(&mut rig, 0, 300);
        assert_eq!(rig.counter("rx_drop_stopped"), 200);
        enable(&mut rig, 4, 64);
        enable(&mut rig, 2, 64);
        assert_eq!(attached(&rig), [true; 3]);
        check_pair(&mut rig, 1, 1);
    }
}

#[test]
fn a_queue_that_stops_otherwise_keeps_its_frames() {
    let mut rig = running(2, F::empty());
    let cursor = rig.device.stop_queue(0).expect("it runs").expect("it ran");
    assert_eq!(attached(&rig), [true, true]);
    rig.networks[0].wire.inject(frame(60, 1));
    let setup = rig.queues[&0].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    rig.post(0, &[2048]);
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(60, 1)));
}

#[test]
fn coalescing_of_a_reset_queue_is_that_of_its_direction_net_cvq_23() {
    let mut rig = running(2, F::empty());
    let params = |packets: u32| [packets.to_le_bytes(), 7u32.to_le_bytes()].concat();
    assert_eq!(rig.command(6, 1, &params(3)), 0);
    let single = [&[2, 0, 0, 0][..], &params(5)].concat();
    assert_eq!(rig.command(6, 2, &single), 0);
    pause(&mut rig);
    rig.device.reset_queue(2).expect("it is paused");
    enable(&mut rig, 2, 16);
    resume(&mut rig);
    pause(&mut rig);
    let state = rig.device.snapshot().expect("it is paused");
    let state = state.open().expect("it was just sealed");
    let queue = state.queues.iter().find(|queue| queue.index == 2);
    assert_eq!(queue.map(|queue| queue.notf_coal.max_packets), Some(3));
}

#[test]
fn a_queue_that_was_reset_when_it_was_saved_begins_anew_after_the_restore() {
    for without in RINGS {
        let mut rig = running(2, without);
        check_pair(&mut rig, 0, 1);
        rig.device.reset_queue(0).expect("it runs");
        rig.device.reset_queue(3).expect("it runs");
        pause(&mut rig);
        let snapshot = rig.device.snapshot().expect("it is paused");
        let mut next = resettable(2);
        next.device.restore(snapshot).expect("it was just sealed");
        let mut rig = rig.move_to(next);
        for index in [0, 3] {
            rig.queues.remove(&index);
        }
        rig.activate();
        resume(&mut rig);
        assert_eq!(attached(&rig), [false, true]);
        rig.networks[0].wire.inject(frame(60, 1));
        enable(&mut rig, 0, 16);
        enable(&mut rig, 3, 64);
        rig.networks[0].wait_drained();
        check_pair(&mut rig, 0, 2);
        check_pair(&mut rig, 1, 3);
    }
}
