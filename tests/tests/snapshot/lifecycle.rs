//! When a state can be taken, and what ends it.

use std::fs::File;

use net_device::net_queue::Offloads;
use net_device::{
    ActivateError, Cursor, Features, NetConfig, Pausable, QueueSetup, Snapshottable, VirtioDevice,
};
use snapshot::state::NetState;
use tests::testbed::{GUEST_MAC, RINGS, Rig, alone, body, break_ring, chain, frame, pause, resume};

use crate::{
    CSUM, F, OK, OTHER, alike, exchange, file, migrated, programmed, restore, running, state, taken,
};

#[test]
fn a_running_device_gives_no_state() {
    let mut rig = running(1, F::empty());
    let refused = rig.device.snapshot().expect_err("it runs");
    assert!(
        chain(&refused).contains("device is running"),
        "{}",
        chain(&refused)
    );
    exchange(&mut rig, 3, 0);
    pause(&mut rig);
    taken(&mut rig);
    resume(&mut rig);
    assert!(rig.device.snapshot().is_err());
    exchange(&mut rig, 3, 10);
}

#[test]
fn a_paused_device_gives_the_same_bytes_again_and_goes_on() {
    for without in RINGS {
        let mut rig = running(2, without);
        rig.post(0, &[2048; 5]);
        pause(&mut rig);
        let first = taken(&mut rig).into_bytes();
        assert_eq!(taken(&mut rig).into_bytes(), first);
        pause(&mut rig);
        assert_eq!(taken(&mut rig).into_bytes(), first);
        resume(&mut rig);
        rig.networks[0].wire.inject(frame(60, 1));
        assert_eq!(rig.receive(0, 1).len(), 1);
    }
}

#[test]
fn a_device_that_was_never_activated_moves_and_runs_when_it_is() {
    for negotiate in [false, true] {
        let mut rig = Rig::new(Rig::config(1));
        if negotiate {
            rig.negotiate(F::VIRTIO_F_RING_PACKED);
        }
        let before = rig.device.acked_features();
        let file = file(&mut rig);
        let mut next = alike(&rig, &file);
        assert_eq!(next.device.acked_features(), before);
        if !negotiate {
            next.negotiate(F::empty());
        }
        next.lay_out(16);
        next.activate();
        exchange(&mut next, 3, 0);
    }
}

#[test]
fn a_state_that_waits_for_its_activation_moves_on() {
    let mut rig = running(1, F::empty());
    exchange(&mut rig, 5, 0);
    assert_eq!(rig.command(1, 1, &OTHER), OK);
    assert_eq!(rig.command(5, 0, &CSUM.to_le_bytes()), OK);
    pause(&mut rig);
    rig.send(0, &frame(60, 7));
    let first = file(&mut rig);
    let mut middle = alike(&rig, &first);
    let second = file(&mut middle);
    assert!(state(&mut middle).activated);
    assert_eq!(state(&mut middle).queues, state(&mut rig).queues);
    let offloads = state(&mut rig).guest_offloads;
    let mut last = rig.move_to(alike(&middle, &second));
    last.activate();
    assert_eq!(last.networks[0].wire.take_sent().len(), 0, "it is paused");
    resume(&mut last);
    assert_eq!(body(&last.networks[0].wait_sent(1)[0]), body(&frame(60, 7)));
    assert_eq!(last.read::<6>(0), OTHER);
    // The driver takes checksums alone; all the rest that is done here is on.
    let link = Offloads::DONE_HERE;
    assert_eq!(programmed(&last), link);
    pause(&mut last);
    assert_eq!(state(&mut last).guest_offloads, offloads);
}

#[test]
fn features_that_are_refused_end_the_state_that_was_restored() {
    let mut rig = running(1, F::empty());
    rig.device.announce();
    pause(&mut rig);
    let first = file(&mut rig);
    let mut next = alike(&rig, &first);
    assert!(next.device.ack_features(0).is_err());
    let saved = state(&mut next);
    assert!(!saved.activated && !saved.announce_pending);
    assert_eq!(saved.features_acked, 0);
    let second = file(&mut next);
    let mut last = alike(&next, &second);
    last.start(F::empty());
    exchange(&mut last, 3, 0);
}

#[test]
fn a_reset_forgets_the_state_that_was_restored() {
    for activate_first in [false, true] {
        let mut rig = running(2, F::empty());
        assert_eq!(rig.command(1, 1, &OTHER), OK);
        assert_eq!(rig.command(5, 0, &CSUM.to_le_bytes()), OK);
        assert_eq!(rig.command(4, 0, &[2, 0]), OK);
        rig.device.announce();
        exchange_to(&mut rig);
        pause(&mut rig);
        let file = file(&mut rig);
        let next = alike(&rig, &file);
        let mut next = rig.move_to(next);
        if activate_first {
            next.activate();
            resume(&mut next);
        }
        next.device.reset();
        assert_eq!(next.device.acked_features(), 0);
        assert_eq!(next.read::<6>(0), GUEST_MAC);
        // Another driver, other rings, from their start, and running at once.
        next.start(F::VIRTIO_F_RING_PACKED);
        exchange(&mut next, 3, 0);
        assert_ne!(programmed(&next), Offloads::CSUM);
        assert!(!next.networks[1].is_attached());
        assert_eq!(next.status(), 1);
    }
}

/// Moves the rings on, whatever the filter is.
fn exchange_to(rig: &mut Rig) {
    for number in 0..5 {
        rig.send(0, &frame(60, number));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        rig.wait_used(1, 1);
    }
}

#[test]
fn after_a_reset_there_is_nothing_to_be_saved() {
    let mut rig = running(2, F::empty());
    assert_eq!(rig.command(4, 0, &[2, 0]), OK);
    exchange(&mut rig, 5, 0);
    rig.device.reset();
    let NetState {
        queues,
        active_pairs,
        activated,
        features_acked,
        guest_offloads,
        ..
    } = state(&mut rig);
    assert!(queues.is_empty() && !activated);
    assert_eq!((active_pairs, features_acked, guest_offloads), (0, 0, 0));
    let file = file(&mut rig);
    let mut next = alike(&rig, &file);
    next.start(F::empty());
    exchange(&mut next, 3, 0);
}

#[test]
fn an_activation_that_fails_can_be_repeated() {
    for without in RINGS {
        let mut rig = running(1, without);
        exchange(&mut rig, 10, 0);
        pause(&mut rig);
        rig.send(0, &frame(60, 7));
        let file = file(&mut rig);
        let next = alike(&rig, &file);
        let mut rig = rig.move_to(next);
        let kick = File::open("/proc/self/maps").expect("it is there").into();
        // The worker that is to wait for it is only prepared when the device resumes.
        let mut setups = rig.setups();
        setups[1].addrs.driver += 2;
        let moved = rig.try_activate(setups);
        assert!(
            matches!(moved, Err(ActivateError::NotAsSaved(1))),
            "{moved:?}"
        );
        let setups = rig.setups().into_iter().map(|setup| QueueSetup {
            size: setup.size / 2,
            ..setup
        });
        let shorter = rig.try_activate(setups.collect());
        assert!(
            matches!(shorter, Err(ActivateError::NotAsSaved(_))),
            "{shorter:?}"
        );
        let mut setups = rig.setups();
        setups[1].kick = kick;
        rig.try_activate(setups).expect("nothing runs yet");
        assert!(rig.device.resume().is_err(), "that is not an event");
        assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
        // Nothing moved, so the state is what it was.
        let file = crate::file(&mut rig);
        let next = alike(&rig, &file);
        let mut rig = rig.move_to(next);
        rig.activate();
        resume(&mut rig);
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(60, 7)));
        rig.wait_used(1, 1);
        exchange(&mut rig, 10, 20);
    }
}

#[test]
fn a_driver_with_other_features_starts_afresh() {
    let mut rig = running(1, F::empty());
    exchange(&mut rig, 3, 0);
    pause(&mut rig);
    let file = file(&mut rig);
    let mut next = alike(&rig, &file);
    next.start(F::VIRTIO_NET_F_GUEST_UFO | F::VIRTIO_F_RING_PACKED);
    let negotiated = next.accepted().rx_offloads();
    assert_eq!(negotiated, Offloads::DONE_HERE);
    assert_eq!(programmed(&next), negotiated, "not what the saved one took");
    exchange(&mut next, 3, 0);
}

#[test]
fn a_failed_device_moves_as_one_and_a_reset_cures_it() {
    for index in 0..3 {
        let mut rig = running(1, F::VIRTIO_F_RING_PACKED);
        break_ring(&mut rig, index);
        rig.irq.wait_config(1);
        let mut rig = migrated(rig);
        assert!(rig.device.needs_reset(), "queue {index}");
        resume(&mut rig);
        rig.irq.wait_config(1);
        pause(&mut rig);
        assert!(rig.device.needs_reset());
        rig.device.reset();
        assert!(!rig.device.needs_reset());
        rig.start(F::empty());
        exchange(&mut rig, 3, 0);
    }
}

#[test]
fn a_device_that_lost_a_worker_neither_gives_nor_takes_a_state() {
    alone(|| {
        let mut good = running(2, F::empty());
        pause(&mut good);
        let file = file(&mut good);
        let mut rig = running(2, F::empty());
        rig.networks[0].panic_next();
        rig.send(0, &frame(60, 1));
        rig.irq.wait_config(1);
        let refused = Pausable::pause(&mut *rig.device).expect_err("a worker is lost");
        assert!(chain(&refused).contains("is lost"), "{}", chain(&refused));
        let refused = rig.device.snapshot().expect_err("a worker is lost");
        assert!(chain(&refused).contains("is lost"), "{}", chain(&refused));
        rig.device.reset();
        assert!(rig.device.snapshot().is_err());
        let refused = restore(&mut rig, &file).expect_err("a worker is lost");
        assert!(chain(&refused).contains("is lost"), "{}", chain(&refused));
    });
}

#[test]
fn a_device_that_offers_more_takes_the_state() {
    let all = Rig::config(1);
    let fewer = NetConfig {
        disabled: Features::VIRTIO_NET_F_HOST_TSO4 | Features::VIRTIO_NET_F_CTRL_VLAN,
        ..all.clone()
    };
    let mut rig = Rig::new(fewer);
    rig.start(F::empty());
    exchange(&mut rig, 3, 0);
    pause(&mut rig);
    let file = file(&mut rig);
    let mut next = Rig::new(all);
    restore(&mut next, &file).expect("what was accepted is offered");
    let mut next = rig.move_to(next);
    next.activate();
    resume(&mut next);
    exchange(&mut next, 3, 10);
}

/// A packed ring stands after every second lap where a new one begins. Whoever starts it there all
/// the same may have lost the interrupt for what was used before.
#[test]
fn a_queue_that_stands_where_a_new_one_begins_interrupts_when_it_is_started_again() {
    let packed = RINGS
        .into_iter()
        .filter(|without| !without.contains(F::VIRTIO_F_RING_PACKED));
    for without in packed {
        let mut rig = Rig::new(Rig::config(1));
        rig.negotiate(without);
        rig.lay_out(4);
        rig.activate();
        exchange(&mut rig, 8, 0);
        for _ in 0..4 {
            assert_eq!(rig.command(0, 0, &[1]), OK);
        }
        start_at_the_beginning(&mut rig);
        for index in 0..3 {
            assert!(rig.device.stop_queue(index).expect("it runs").is_some());
        }
        pause(&mut rig);
        let file = file(&mut rig);
        let next = alike(&rig, &file);
        let mut rig = rig.move_to(next);
        rig.try_activate(Vec::new()).expect("queues come later");
        resume(&mut rig);
        start(&mut rig);
        exchange(&mut rig, 8, 20);
    }
}

fn start_at_the_beginning(rig: &mut Rig) {
    for index in 0..3 {
        let stopped = rig.device.stop_queue(index).expect("it runs");
        assert_eq!(stopped, Some(Cursor::default()), "queue {index}");
    }
    start(rig);
}

/// Starts every queue at its beginning, and waits for the interrupt of each.
fn start(rig: &mut Rig) {
    for index in 0..3 {
        let before = rig.irq.queue(index);
        let setup = rig.queues[&index].setup_at(Cursor::default());
        rig.device.start_queue(setup).expect("where it stood");
        let irq = rig.irq.clone();
        irq.wait_until("an interrupt of a queue that goes on", || {
            irq.queue(index) > before
        });
    }
}
