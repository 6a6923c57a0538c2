//! Devices without threads, in a VMM's own event loop; and threads that a VMM has a say in.

use std::io;
use std::sync::{Arc, Mutex};

use net_device::{Features, NetConfig, NetDevice, ThreadInfo, ThreadKind, VirtioDevice};
use net_queue::testing::Answer;
use tests::rig::{
    EventLoop, HOUR_MS, RINGS, Rig, alone, body, frame, frame_limit, pause, process, resume,
    socket_port,
};

type F = Features;

fn without_threads(config: NetConfig) -> Rig {
    let mut rig = Rig::new(config);
    rig.device = rig.device.into_inner().with_event_loop().into();
    rig
}

/// A running device, and the loop that drives it.
fn driven(config: NetConfig, without: Features) -> (EventLoop, Rig) {
    let mut rig = without_threads(config);
    rig.start(without);
    let workers = rig.device.event_workers();
    (EventLoop::drive(workers), rig)
}

/// Frames pass both ways, and the device asks for kicks and interrupts as usual.
fn exchange(rig: &mut Rig, pair: u16) {
    rig.post(pair, &[2048; 8]);
    for number in 0..8 {
        rig.send(pair, &frame(60 + 100 * number as usize, number));
        let wire = &rig.networks[usize::from(pair)].wire;
        wire.inject(frame(70 + 100 * number as usize, number));
    }
    let sent = rig.networks[usize::from(pair)].wait_sent(8);
    for (number, bytes) in (0..).zip(&sent) {
        assert_eq!(
            body(bytes),
            body(&frame(60 + 100 * number as usize, number))
        );
    }
    for (number, bytes) in (0..).zip(rig.receive(pair, 8)) {
        assert_eq!(
            body(&bytes),
            body(&frame(70 + 100 * number as usize, number))
        );
    }
}

#[test]
fn frames_and_commands_pass_without_any_thread_of_the_device() {
    alone(|| {
        for without in RINGS {
            let (_loop, mut rig) = driven(Rig::config(2), without);
            assert_eq!(process::threads_named("net_").len(), 0);
            exchange(&mut rig, 0);
            assert_eq!(rig.command(4, 0, &[2, 0]), 0, "VQ_PAIRS_SET");
            exchange(&mut rig, 1);
        }
    });
}

#[test]
fn a_device_in_an_event_loop_pauses_resumes_and_restarts() {
    for without in RINGS {
        let (_loop, mut rig) = driven(Rig::config(1), without);
        exchange(&mut rig, 0);
        pause(&mut rig);
        rig.send(0, &frame(60, 99));
        assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
        resume(&mut rig);
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        let memory = rig.memory.ram();
        rig.device
            .set_memory(memory)
            .expect("the memory is the same");
        exchange(&mut rig, 0);
        rig.device.stop_queue(1).expect("the queue runs");
        let setup = rig.queues[&1].setup();
        drop(setup);
        rig.device.reset();
        assert!(rig.device.event_workers().is_empty());
    }
}

#[test]
fn limits_and_full_backends_end_by_deadline_and_by_event() {
    for without in RINGS {
        let config = NetConfig {
            tx_limit: frame_limit(2, 20),
            ..Rig::config(1)
        };
        let (_loop, mut rig) = driven(config, without);
        rig.networks[0].wire.script_send([Answer::WouldBlock; 3]);
        for number in 0..6 {
            rig.send(0, &frame(60, number));
        }
        assert_eq!(rig.networks[0].wait_sent(6).len(), 6);
    }
}

#[test]
fn a_held_frame_is_released_when_its_limit_is_lifted() {
    let config = NetConfig {
        tx_limit: frame_limit(1, HOUR_MS),
        ..Rig::config(1)
    };
    let (_loop, mut rig) = driven(config, F::empty());
    rig.send(0, &frame(60, 1));
    rig.send(0, &frame(60, 2));
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    rig.device
        .set_limits(None, None)
        .expect("limits are lifted");
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
}

/// A socket really blocks, so its writability has to be asked for.
#[test]
fn a_socket_that_fills_is_waited_for_in_the_loop() {
    let (port, far) = socket_port();
    let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("the device can be made");
    let mut rig = Rig::over(device.with_event_loop());
    rig.start(F::empty());
    let _loop = EventLoop::drive(rig.device.event_workers());
    let mut received = 0;
    let mut buffer = [0; 2048];
    for round in 0..100 {
        for number in 0..32 {
            rig.send(0, &frame(1000, round * 32 + number));
        }
        let mut used = 0;
        while used < 32 {
            while let Ok(len) = far.recv(&mut buffer) {
                assert_eq!(body(&buffer[..len]), body(&frame(1000, received)));
                received += 1;
            }
            used += rig.queue(1).ring.poll_all().len();
        }
    }
    while received < 3200 {
        if let Ok(len) = far.recv(&mut buffer) {
            assert_eq!(body(&buffer[..len]), body(&frame(1000, received)));
            received += 1;
        }
    }
}

#[test]
fn a_panic_within_a_turn_stays_in_the_device() {
    let (_loop, mut rig) = driven(Rig::config(2), F::empty());
    rig.networks[0].panic_next();
    rig.send(0, &frame(60, 1));
    rig.irq.wait_config(1);
    assert!(rig.device.needs_reset());
    rig.send(1, &frame(60, 2));
    assert_eq!(rig.networks[1].wait_sent(1).len(), 1);
    assert!(rig.device.pause().is_err());
}

/// Threads that a hook has seen.
type Seen = Arc<Mutex<Vec<(String, ThreadKind, i32)>>>;

fn hooked(mut rig: Rig, seen: &Seen) -> Rig {
    let seen = seen.clone();
    let hook = move |thread: &ThreadInfo<'_>| -> io::Result<()> {
        let row = (thread.name.to_owned(), thread.kind, thread.tid);
        seen.lock().expect("nobody panics").push(row);
        Ok(())
    };
    rig.device = rig
        .device
        .into_inner()
        .with_thread_hook(Arc::new(hook))
        .into();
    rig
}

#[test]
fn a_hook_sees_each_thread_by_name_and_id() {
    alone(|| {
        let seen = Seen::default();
        let mut rig = hooked(Rig::new(Rig::config(2)), &seen);
        rig.start(F::empty());
        let mut rows = seen.lock().expect("nobody panics").clone();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<_> = rows
            .iter()
            .map(|(name, kind, _)| (name.as_str(), *kind))
            .collect();
        let pair = ThreadKind::QueuePair;
        assert_eq!(
            names,
            [
                ("net_ctrl", ThreadKind::Control),
                ("net_qp0", pair),
                ("net_qp1", pair)
            ]
        );
        for (_, _, tid) in rows {
            let task = format!("/proc/self/task/{tid}/comm");
            let name = std::fs::read_to_string(task).expect("the thread runs");
            assert!(name.starts_with("net_"), "{name}");
        }
    });
}

#[test]
fn a_hook_that_refuses_keeps_the_device_from_starting() {
    let mut rig = Rig::new(Rig::config(1));
    let hook = |_: &ThreadInfo<'_>| Err(io::Error::other("no CPU left"));
    rig.device = rig
        .device
        .into_inner()
        .with_thread_hook(Arc::new(hook))
        .into();
    rig.negotiate(F::empty());
    rig.lay_out(64);
    let error = rig
        .try_activate(rig.setups())
        .expect_err("a thread is refused");
    let text = format!("{error:?}");
    assert!(text.contains("no CPU left"), "{text}");
}

#[test]
fn threads_made_beforehand_serve_every_activation() {
    alone(|| {
        let seen = Seen::default();
        let mut rig = hooked(Rig::new(Rig::config(2)), &seen);
        rig.device.spawn_threads().expect("threads can be made");
        assert_eq!(seen.lock().expect("nobody panics").len(), 3);
        assert_eq!(process::threads_named("net_").len(), 3);
        for _ in 0..3 {
            rig.start(F::empty());
            exchange(&mut rig, 0);
            assert!(rig.device.spawn_threads().is_err(), "the device is active");
            rig.device.reset();
            assert_eq!(process::threads_named("net_").len(), 3);
        }
        assert_eq!(
            seen.lock().expect("nobody panics").len(),
            3,
            "none was made later"
        );
        drop(rig);
        process::await_threads("net_", 0);
    });
}
