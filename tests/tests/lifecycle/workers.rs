//! Threads that fail, and threads that end.

use super::*;

#[test]
fn dead_worker_pause_snapshot_resume_and_reset_return() {
    for index in 0..3 {
        let mut rig = Rig::running(F::VIRTIO_F_RING_PACKED);
        tests::testbed::break_ring(&mut rig, index);
        rig.irq.wait_config(1);
        let mut device = rig.device.into_inner();
        let device = bounded("pause, snapshot, resume and reset", move || {
            device.pause().expect("the worker is alive");
            device.snapshot().expect("a broken ring has a state");
            device.resume().expect("the worker is alive");
            device.reset();
            device
        });
        assert!(!device.needs_reset());
    }
}

/// A device with two pairs whose first worker panics; the exit event rang.
fn panicked(config: NetConfig) -> Rig {
    let event = EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made");
    let bell = Doorbell::on(event.try_clone().expect("it can be duplicated"));
    let mut rig = Rig::built(config, |builder| builder.exit_event(event));
    rig.start(F::empty());
    rig.networks[0].panic_next();
    rig.send(0, &frame(60, 1));
    let mut asked = 0;
    // The bell counts: asked once at first, and again when it rang.
    bell.wait_until("the exit event", || {
        asked += 1;
        asked > 1
    });
    rig.irq.wait_config(1);
    rig
}

#[test]
fn a_worker_that_panics_fails_its_device_and_nothing_else() {
    alone(|| {
        let mut rig = panicked(Rig::config(2));
        assert!(rig.device.needs_reset());
        // The other pair and the control queue go on.
        rig.send(1, &frame(60, 2));
        assert_eq!(rig.networks[1].wait_sent(1).len(), 1);
        assert_eq!(rig.command(0, 0, &[1]), 0);
        assert!(rig.device.stop_queue(0).is_err());
        assert!(rig.device.pause().is_err());
        assert!(rig.device.pause().is_ok(), "what is left is paused");
        assert!(rig.device.resume().is_err());
        assert!(rig.device.reset().is_some());
        assert!(rig.device.needs_reset(), "there is no way out of that");
        rig.negotiate(F::empty());
        rig.lay_out(16);
        let lost = rig.try_activate(rig.setups());
        assert!(matches!(lost, Err(ActivateError::Failed(_))), "{lost:?}");
        assert!(rig.device.resume().is_err());
        assert!(rig.device.reset().is_none());
        assert!(rig.device.needs_reset());
        drop(rig);
        process::await_threads("net_", 0);
        // The VMM goes on.
        let mut other = Rig::running(F::empty());
        check_traffic(&mut other, 1);
    });
}

#[test]
fn dropping_a_running_device_ends_its_threads() {
    alone(|| {
        let fds = process::open_fds();
        for round in 0..20 {
            let mut rig = Rig::new(Rig::config(3));
            rig.start(F::empty());
            rig.networks[0].set_endless(true);
            rig.post(0, &[256; 32]);
            if round % 2 == 0 {
                pause(&mut rig);
            }
            assert_eq!(process::threads_named("net_").len(), 4);
            drop(rig);
            process::await_threads("net_", 0);
            assert_eq!(process::open_fds(), fds);
        }
    });
}

#[test]
fn two_hundred_lives_leak_no_thread_and_no_descriptor() {
    alone(|| {
        let mut rig = Rig::new(Rig::config(2));
        let (threads, fds) = (process::threads().len(), process::open_fds());
        for round in 0..200 {
            rig.start(RINGS[round % RINGS.len()]);
            check_traffic(&mut rig, round as u64);
            rig.device.reset();
            rig.queues.clear();
            process::await_threads("", threads);
            assert_eq!(process::open_fds(), fds, "life {round}");
        }
    });
}
