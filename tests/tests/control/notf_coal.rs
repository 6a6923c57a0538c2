//! Notification coalescing: when the driver is interrupted, by packets and by time.

use super::*;
use net_device::{Pausable, Snapshottable};
use net_queue::header::HDR_LEN;
use net_queue::testing::Interrupts;
use tests::testbed::{Interrupting, RINGS};

const COAL: u8 = 6;
/// Longer than any test.
const NEVER: u32 = u32::MAX;

fn params(max_packets: u32, max_usecs: u32) -> Vec<u8> {
    [max_packets.to_le_bytes(), max_usecs.to_le_bytes()].concat()
}

/// `data` for one queue, with junk in what is reserved.
fn of(queue: u16, data: &[u8]) -> Vec<u8> {
    [&queue.to_le_bytes()[..], &[0xff, 0xff], data].concat()
}

/// Parameters of a queue as the device tells them.
fn get(rig: &mut Rig, queue: u16) -> Option<Vec<u8>> {
    let bytes = [&[COAL, 3][..], &of(queue, &[])].concat();
    let pieces = [rig.memory.filled(&bytes), rig.memory.room(20)];
    let used = rig.control(&pieces);
    let answer = rig.memory.read(pieces[1].addr, used.len as usize);
    match answer.split_first() {
        Some((0, result)) => Some(result.to_vec()),
        _ => None,
    }
}

/// Lets `count` frames arrive, and waits until the driver could see them all, without an interrupt.
fn arrive(rig: &mut Rig, count: usize) {
    rig.post(0, &vec![HDR_LEN + 2048; count]);
    for seed in 0..count as u64 {
        rig.networks[0].wire.inject(frame(64, seed));
    }
    rig.networks[0].wait_drained();
    while !rig.queue(0).look(count, Interrupting::No) {
        std::thread::yield_now();
    }
    rig.queue(0).used.clear();
}

/// Waits for the `count`-th interrupt of the receive queue, and for no other.
fn wait_interrupts(rig: &Rig, count: usize) {
    rig.irq
        .wait_until("an interrupt", || rig.irq.queue(0) >= count);
    assert_eq!(rig.irq.queue(0), count);
}

/// A driver on `without` rings that wants to hear of everything, and knows of all until now.
fn running(without: F) -> (Rig, usize) {
    let mut rig = Rig::running(without);
    rig.queue(0).ring.ask(Interrupts::Always);
    let before = rig.irq.queue(0);
    (rig, before)
}

#[test]
fn an_interrupt_comes_with_the_last_of_so_many_packets_net_cvq_25() {
    for without in RINGS {
        let (mut rig, before) = running(without);
        assert_eq!(rig.command(COAL, 1, &params(8, NEVER)), OK);
        for round in 0..3 {
            arrive(&mut rig, 7);
            assert_eq!(rig.irq.queue(0), before + round);
            arrive(&mut rig, 1);
            wait_interrupts(&rig, before + round + 1);
            rig.queue(0).ring.ask(Interrupts::Always);
        }
        // Off again.
        assert_eq!(rig.command(COAL, 1, &params(0, NEVER)), OK);
        arrive(&mut rig, 1);
        wait_interrupts(&rig, before + 4);
    }
}

#[test]
fn many_at_once_are_as_many_interrupts_as_the_parameters_say_net_cvq_25() {
    let (mut rig, before) = running(F::VIRTIO_F_EVENT_IDX);
    assert_eq!(rig.command(COAL, 1, &params(5, NEVER)), OK);
    for _ in 0..20 {
        arrive(&mut rig, 50);
    }
    wait_interrupts(&rig, before + 200);
    assert_eq!(rig.counter("rx_interrupts") as usize, before + 200);
}

#[test]
fn an_interrupt_comes_when_the_time_is_over_net_cvq_25() {
    for without in RINGS {
        let (mut rig, before) = running(without);
        assert_eq!(rig.command(COAL, 1, &params(1_000_000, 2000)), OK);
        for round in 1..4 {
            arrive(&mut rig, 3);
            wait_interrupts(&rig, before + round);
            rig.queue(0).ring.ask(Interrupts::Always);
        }
    }
}

#[test]
fn packets_that_are_sent_are_coalesced_too_net_cvq_25() {
    for without in RINGS {
        let (mut rig, _) = running(without);
        rig.queue(1).ring.ask(Interrupts::Always);
        assert_eq!(rig.command(COAL, 0, &params(4, NEVER)), OK);
        let before = rig.irq.queue(1);
        for _ in 0..3 {
            rig.send(0, &frame(64, 1));
        }
        assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
        while !rig.queue(1).look(3, Interrupting::No) {
            std::thread::yield_now();
        }
        assert_eq!(rig.irq.queue(1), before);
        rig.send(0, &frame(64, 1));
        rig.irq
            .wait_until("an interrupt", || rig.irq.queue(1) > before);
    }
}

#[test]
fn what_waits_is_judged_anew_when_parameters_change_net_cvq_25() {
    for without in RINGS {
        for next in [params(5, NEVER), params(8, 1), params(0, 0)] {
            let (mut rig, before) = running(without);
            assert_eq!(rig.command(COAL, 1, &params(8, NEVER)), OK);
            arrive(&mut rig, 7);
            assert_eq!(rig.irq.queue(0), before);
            assert_eq!(rig.command(COAL, 1, &next), OK);
            wait_interrupts(&rig, before + 1);
        }
    }
}

#[test]
fn nothing_that_waits_is_lost_by_a_pause_or_a_link_that_goes_down() {
    for without in RINGS {
        for stop in [0, 1] {
            let (mut rig, before) = running(without);
            assert_eq!(rig.command(COAL, 1, &params(8, NEVER)), OK);
            arrive(&mut rig, 7);
            if stop == 0 {
                Pausable::pause(&mut *rig.device).expect("the device pauses");
            } else {
                rig.device.set_link(false);
            }
            wait_interrupts(&rig, before + 1);
        }
    }
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none_net_cvq_26() {
    for without in RINGS {
        if without.contains(F::VIRTIO_F_EVENT_IDX) {
            let (mut rig, before) = running(without);
            assert_eq!(rig.command(COAL, 1, &params(8, NEVER)), OK);
            arrive(&mut rig, 7);
            rig.queue(0).ring.ask(Interrupts::Never);
            arrive(&mut rig, 1);
            arrive(&mut rig, 8);
            rig.queue(0).ring.ask(Interrupts::Always);
            arrive(&mut rig, 8);
            wait_interrupts(&rig, before + 1);
        }
    }
}

#[test]
fn the_last_setter_rules_and_a_queue_reset_goes_back_net_cvq_21_23_24() {
    let mut rig = Rig::new(Rig::config(2));
    rig.start(F::empty());
    let zero = Some(params(0, 0));
    for queue in 0..4 {
        assert_eq!(get(&mut rig, queue), zero);
    }
    let [a, b, c] = [params(1, 2), params(3, 4), params(NEVER, 5)];
    assert_eq!(rig.command(COAL, 1, &a), OK);
    assert_eq!(rig.command(COAL, 2, &of(2, &b)), OK);
    let all = [0, 1, 2, 3].map(|queue| get(&mut rig, queue).expect("it runs"));
    assert_eq!(all, [a.clone(), params(0, 0), b.clone(), params(0, 0)]);
    assert_eq!(rig.command(COAL, 0, &c), OK);
    assert_eq!(rig.command(COAL, 1, &c), OK);
    assert_eq!(get(&mut rig, 2), Some(c.clone()));
    assert_eq!(rig.command(COAL, 2, &of(2, &b)), OK);
    assert_eq!(rig.command(COAL, 2, &of(3, &a)), OK);
    rig.device.pause().expect("it runs");
    rig.device.resume().expect("it is paused");
    assert_eq!(get(&mut rig, 2), Some(b.clone()));
    // Stopped, there is none; from its beginning it has the parameters of all.
    rig.device.stop_queue(2).expect("it runs");
    assert_eq!(get(&mut rig, 2), None);
    assert_eq!(rig.command(COAL, 2, &of(2, &b)), ERR);
    let config = rig.ring_config(64);
    let queue = tests::testbed::Queue::new(&rig.memory, 2, config);
    rig.device.start_queue(queue.setup()).expect("a fresh ring");
    rig.queues.insert(2, queue);
    assert_eq!(get(&mut rig, 2), Some(c));
    assert_eq!(get(&mut rig, 3), Some(a));
    rig.device.reset();
    rig.start(F::empty());
    assert_eq!(get(&mut rig, 3), zero);
}

#[test]
fn parameters_survive_a_migration() {
    let mut rig = Rig::new(Rig::config(1));
    rig.start(F::empty());
    assert_eq!(rig.command(COAL, 1, &params(8, 9)), OK);
    assert_eq!(rig.command(COAL, 2, &of(1, &params(6, 7))), OK);
    rig.device.pause().expect("it runs");
    let snapshot = rig.device.snapshot().expect("it is paused");
    let next = Rig::new(Rig::config(1));
    let mut next = rig.move_to(next);
    next.device.restore(snapshot).expect("a device alike");
    next.activate();
    next.device.resume().expect("it is restored");
    assert_eq!(get(&mut next, 0), Some(params(8, 9)));
    assert_eq!(get(&mut next, 1), Some(params(6, 7)));
    assert_eq!(next.command(COAL, 0, &params(1, 1)), OK);
    assert_eq!(get(&mut next, 1), Some(params(1, 1)));
}

#[test]
fn parameters_of_a_stopped_queue_survive_a_migration_net_cvq_23() {
    for goes_on in [false, true] {
        let mut rig = Rig::new(Rig::config(1));
        rig.start(F::empty());
        arrive(&mut rig, 1);
        assert_eq!(rig.command(COAL, 1, &params(8, 9)), OK);
        assert_eq!(rig.command(COAL, 2, &of(0, &params(6, 7))), OK);
        let cursor = rig.device.stop_queue(0).expect("it runs");
        rig.device.pause().expect("it runs");
        let snapshot = rig.device.snapshot().expect("it is paused");
        assert_eq!(
            snapshot.open().expect("it is whole").stopped_queues.len(),
            1
        );
        let mut stopped = rig.queues.remove(&0).expect("it was laid out");
        let mut next = rig.move_to(Rig::new(Rig::config(1)));
        next.device.restore(snapshot).expect("a device alike");
        next.activate();
        next.device.resume().expect("it is restored");
        assert_eq!(get(&mut next, 0), None);
        if goes_on {
            stopped.rewire();
            let setup = stopped.setup_at(cursor.expect("it ran"));
            next.device.start_queue(setup).expect("where it stood");
        } else {
            let config = next.ring_config(64);
            stopped = tests::testbed::Queue::new(&next.memory, 0, config);
            next.device.start_queue(stopped.setup()).expect("afresh");
        }
        next.queues.insert(0, stopped);
        let expected = if goes_on { params(6, 7) } else { params(8, 9) };
        assert_eq!(get(&mut next, 0), Some(expected));
    }
}

#[test]
fn coalescing_is_for_queues_that_run_net_cvq_22() {
    let mut rig = Rig::new(Rig::config(2));
    rig.start(F::empty());
    for queue in [4, 5, 6, 0x8000, 0xffff] {
        assert_eq!(rig.command(COAL, 2, &of(queue, &params(1, 1))), ERR);
        assert_eq!(get(&mut rig, queue), None);
    }
    assert_eq!(rig.counter("ctrl_refused_value"), 10);
    let mut none = Rig::running(F::VIRTIO_NET_F_VQ_NOTF_COAL | F::VIRTIO_NET_F_NOTF_COAL);
    for command in 0..4 {
        assert_eq!(none.command(COAL, command, &[0; 12]), ERR);
    }
    assert_eq!(none.counter("ctrl_refused_not_negotiated"), 4);
}
