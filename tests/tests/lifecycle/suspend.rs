//! Devices that their driver suspends (VIRTIO_F_SUSPEND).

use net_device::{Lifecycle, QueueState, SuspendError, WaitsFor};
use net_queue::header::HDR_LEN;
use net_queue::testing::Interrupts;
use tests::testbed::Interrupting;

use super::*;

const LINK_UP: u16 = 1;
const ANNOUNCE: u16 = 2;

fn suspendable() -> NetConfig {
    NetConfig {
        transport_features: F::VIRTIO_F_SUSPEND,
        ..Rig::config(1)
    }
}

fn running(without: F) -> Rig {
    let mut rig = Rig::new(suspendable());
    rig.start(without);
    rig
}

fn suspend(rig: &mut Rig) {
    rig.device.suspend().expect("it was negotiated");
    assert!(rig.device.is_suspended());
}

fn unsuspend(rig: &mut Rig) {
    rig.device.unsuspend().expect("it goes on");
    assert!(!rig.device.is_suspended());
}

/// A driver that sends and is sent a frame while the device must not look; both are `seed`'s.
fn tempt(rig: &mut Rig, seed: u64) {
    rig.send(0, &frame(100, seed));
    rig.networks[0].wire.inject(frame(90, seed));
    rig.queue(0).kick();
    rig.queue(1).kick();
}

/// Neither was touched, and nobody is there who could.
fn nothing_moved(rig: &mut Rig) {
    let states = rig.device.handle().queue_states();
    let stopped = |queue: &QueueState| queue.waits_for == WaitsFor::Stopped;
    assert!(states.iter().all(stopped), "{states:?}");
    assert!(rig.networks[0].wire.take_sent().is_empty());
    for index in 0..2 {
        assert!(rig.queue(index).ring.poll_all().is_empty());
    }
}

/// Both arrive.
fn both_arrive(rig: &mut Rig, seed: u64) {
    assert_eq!(
        body(&rig.networks[0].wait_sent(1)[0]),
        body(&frame(100, seed))
    );
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(90, seed)));
    rig.wait_used(1, 1);
}

#[test]
fn a_suspended_device_touches_no_queue_and_goes_on_where_it_stood_dev_life_17_19_22() {
    for without in RINGS {
        let mut rig = running(without);
        for seed in 0..5 {
            check_traffic(&mut rig, seed);
            rig.post(0, &[2048]);
            suspend(&mut rig);
            assert_eq!(rig.device.lifecycle(), Lifecycle::Suspended);
            let interrupts = rig.irq.all();
            tempt(&mut rig, seed);
            // Again, and resumed by a VMM that has not paused it.
            suspend(&mut rig);
            resume(&mut rig);
            nothing_moved(&mut rig);
            assert_eq!(rig.irq.all(), interrupts);
            unsuspend(&mut rig);
            unsuspend(&mut rig);
            assert_eq!(rig.device.lifecycle(), Lifecycle::Running);
            both_arrive(&mut rig, seed);
        }
        assert!(!rig.device.needs_reset());
    }
}

#[test]
fn the_configuration_stays_and_its_interrupt_waits_for_the_end_dev_life_19_21() {
    let mut rig = running(F::empty());
    suspend(&mut rig);
    let read = |rig: &Rig| (rig.read::<28>(0), rig.device.config_generation());
    let (shown, interrupts) = (read(&rig), rig.irq.config());
    rig.device.announce();
    rig.device.set_link(false);
    assert_eq!((read(&rig), rig.irq.config()), (shown, interrupts));
    assert!(!rig.device.handle().is_link_up(), "the VMM knows");
    unsuspend(&mut rig);
    rig.irq.wait_config(interrupts + 1);
    assert_eq!(rig.status(), ANNOUNCE);
    assert_ne!(rig.device.config_generation(), shown.1);

    // What is as before in the end is nobody's business.
    suspend(&mut rig);
    let (shown, interrupts) = (read(&rig), rig.irq.config());
    rig.device.set_link(true);
    rig.device.set_link(false);
    unsuspend(&mut rig);
    assert_eq!((read(&rig), rig.irq.config()), (shown, interrupts));
    rig.device.set_link(true);
    assert_eq!(rig.status(), LINK_UP | ANNOUNCE);
}

#[test]
fn writes_to_the_space_of_a_suspended_device_change_nothing_dev_life_20() {
    let mut rig = running(F::empty());
    suspend(&mut rig);
    let shown = rig.read::<28>(0);
    for offset in 0..32 {
        rig.device.write_config(offset, &[0xff; 6]);
    }
    unsuspend(&mut rig);
    assert_eq!(rig.read::<28>(0), shown);
    check_traffic(&mut rig, 6);
}

#[test]
fn what_waits_to_be_told_of_is_told_before_dev_life_18() {
    for without in RINGS {
        let mut rig = running(without);
        rig.queue(0).ring.ask(Interrupts::Always);
        let never = [u32::MAX; 2].map(u32::to_le_bytes);
        assert_eq!(rig.command(6, 1, never.as_flattened()), 0);
        let before = rig.irq.queue(0);
        rig.post(0, &[HDR_LEN + 2048]);
        rig.networks[0].wire.inject(frame(64, 1));
        rig.networks[0].wait_drained();
        while !rig.queue(0).look(1, Interrupting::No) {
            std::thread::yield_now();
        }
        assert_eq!(rig.irq.queue(0), before);
        suspend(&mut rig);
        assert_eq!(rig.irq.queue(0), before + 1);
    }
}

#[test]
fn suspension_is_for_drivers_that_run_and_negotiated_it_dev_life_16() {
    let mut rig = Rig::new(suspendable());
    let refused = |rig: &mut Rig| rig.device.suspend().expect_err("it is too early");
    assert!(matches!(refused(&mut rig), SuspendError::NotNegotiated));
    rig.negotiate(F::empty());
    assert!(matches!(refused(&mut rig), SuspendError::State(_)));
    rig.lay_out(16);
    rig.activate();
    check_traffic(&mut rig, 1);
    suspend(&mut rig);

    let mut rig = running(F::VIRTIO_F_SUSPEND);
    assert!(matches!(refused(&mut rig), SuspendError::NotNegotiated));
    check_traffic(&mut rig, 2);
    let plain = Rig::new(Rig::config(1));
    assert!(!plain.offered().contains(F::VIRTIO_F_SUSPEND));
}

#[test]
fn a_pause_and_a_suspension_end_each_for_itself() {
    let mut rig = running(F::empty());
    rig.post(0, &[2048; 2]);
    suspend(&mut rig);
    pause(&mut rig);
    assert_eq!(rig.device.lifecycle(), Lifecycle::Paused);
    tempt(&mut rig, 1);
    resume(&mut rig);
    assert_eq!(rig.device.lifecycle(), Lifecycle::Suspended);
    nothing_moved(&mut rig);
    unsuspend(&mut rig);
    both_arrive(&mut rig, 1);

    pause(&mut rig);
    suspend(&mut rig);
    tempt(&mut rig, 2);
    unsuspend(&mut rig);
    assert_eq!(rig.device.lifecycle(), Lifecycle::Paused);
    nothing_moved(&mut rig);
    resume(&mut rig);
    both_arrive(&mut rig, 2);
}

#[test]
fn a_suspended_device_moves_and_waits_there_for_its_driver() {
    for without in RINGS {
        let mut rig = running(without);
        rig.post(0, &[2048]);
        suspend(&mut rig);
        tempt(&mut rig, 3);
        pause(&mut rig);
        let snapshot = rig.device.snapshot().expect("it is paused");
        let mut next = Rig::new(suspendable());
        next.device.restore(snapshot).expect("it is alike");
        assert!(next.device.is_suspended());
        let mut rig = rig.move_to(next);
        let (shown, interrupts) = (rig.read::<28>(0), rig.irq.all());
        rig.activate();
        resume(&mut rig);
        assert_eq!(rig.device.lifecycle(), Lifecycle::Suspended);
        nothing_moved(&mut rig);
        assert_eq!((rig.read::<28>(0), rig.irq.all()), (shown, interrupts));
        unsuspend(&mut rig);
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(100, 3)));
        rig.irq.wait_config(1);
        assert_eq!(rig.status(), LINK_UP | ANNOUNCE);
        rig.wait_used(1, 1);
        check_traffic(&mut rig, 4);
    }
}

#[test]
fn the_configuration_stays_where_a_suspended_device_moves_dev_life_19_21() {
    for up in [false, true] {
        let mut rig = running(F::empty());
        rig.device.set_link(up);
        suspend(&mut rig);
        let shown = rig.read::<28>(0);
        rig.device.set_link(!up);
        rig.device.announce();
        for _ in 0..2 {
            pause(&mut rig);
            let snapshot = rig.device.snapshot().expect("it is paused");
            let mut next = Rig::new(suspendable());
            next.device.set_link(!up);
            next.device.restore(snapshot).expect("it is alike");
            rig = rig.move_to(next);
            assert_eq!(rig.read::<28>(0), shown);
            rig.activate();
            resume(&mut rig);
            assert_eq!((rig.read::<28>(0), rig.irq.all()), (shown, 0));
        }
        unsuspend(&mut rig);
        rig.irq.wait_config(1);
        let link = if up { 0 } else { LINK_UP };
        assert_eq!(rig.status(), link | ANNOUNCE);
    }
}

#[test]
fn a_reset_ends_a_suspension_dev_life_24() {
    let mut rig = running(F::empty());
    suspend(&mut rig);
    rig.device.set_link(false);
    rig.device.reset();
    assert!(!rig.device.is_suspended());
    assert_eq!(rig.status() & LINK_UP, 0);
    rig.device.set_link(true);
    rig.start(F::empty());
    check_traffic(&mut rig, 5);
}

#[test]
fn a_failure_is_told_when_the_driver_resumes_dev_life_21_22() {
    let mut rig = running(F::empty());
    suspend(&mut rig);
    let interrupts = rig.irq.config();
    let elsewhere = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(1 << 40), 4096)]);
    let elsewhere = GuestRam::new(Arc::new(elsewhere.expect("a page"))).expect("a page");
    assert!(rig.device.set_memory(elsewhere).is_err());
    assert!(rig.device.needs_reset());
    assert_eq!(rig.irq.config(), interrupts);
    assert!(rig.device.suspend().is_err());
    assert!(rig.device.unsuspend().is_err());
    assert_eq!(rig.irq.config(), interrupts + 1);
}
