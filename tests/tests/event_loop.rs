//! Devices without threads, in a VMM's own event loop.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError,
};
use net_device::{
    Clock, Features, NetConfig, NetDevice, NetDeviceBuilder, Source, ThreadKind, Turn,
    VirtioDevice, WorkerEvent,
};
use net_queue::testing::Answer;
use tests::testbed::{
    EventLoop, HOUR_MS, ManualClock, RINGS, Rig, all_caps, alone, body, frame, frame_limit, pause,
    port, process, resume, socket_port,
};

type F = Features;

fn without_threads(config: NetConfig) -> Rig {
    Rig::built(config, NetDeviceBuilder::event_loop)
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

/// Time is a value here: the wait for a limit ends at its nanosecond, and no other wait is needed.
#[test]
fn a_limit_on_a_clock_of_the_tests_own_is_over_at_its_nanosecond() {
    let clock = Arc::new(ManualClock::default());
    let config = NetConfig {
        tx_limit: frame_limit(1, HOUR_MS),
        ..Rig::config(1)
    };
    let on_clock = clock.clone();
    let mut rig = Rig::built(config, |builder| builder.event_loop().clock(on_clock));
    rig.start(F::empty());
    let worker = rig.device.event_workers().remove(0);
    let mut timer = None;
    worker.for_each_source(|source, fd| {
        if source == Source::TxTimer {
            timer = Some(fd.as_raw_fd());
        }
    });
    rig.send(0, &frame(60, 1));
    rig.send(0, &frame(60, 2));
    let passes = |expired: &[RawFd]| {
        if expired.iter().any(|fd| Some(*fd) == timer) {
            worker.on_event(WorkerEvent {
                source: Source::TxTimer,
                readable: true,
                writable: false,
                error: false,
            });
        }
        while worker.turn().again {}
        rig.networks[0].wire.take_sent().len()
    };
    assert_eq!(passes(&[]), 1);
    assert_eq!(clock.next_expiry(), Some(HOUR_MS * 1_000_000));
    clock.advance(HOUR_MS * 1_000_000 - 1);
    assert_eq!(passes(&clock.take_expired()), 0);
    clock.advance(1);
    assert_eq!(passes(&clock.take_expired()), 1);
    assert_eq!(clock.now_ns(), HOUR_MS * 1_000_000);
}

/// A socket really blocks, so its writability has to be asked for.
#[test]
fn a_socket_that_fills_is_waited_for_in_the_loop() {
    let (port, far) = socket_port();
    let device = NetDevice::builder(Rig::config(1)).event_loop();
    let device = device.build_on_ports(vec![port]);
    let mut rig = Rig::over(device.expect("the device can be made"));
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

/// A backend that panics when it is asked whether it is gone.
struct PanicsAtCheck(Box<dyn FrameBackend>);

impl FrameBackend for PanicsAtCheck {
    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.0.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.0.send(frame)
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.0.recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.poll_fd()
    }

    fn check(&self) -> io::Result<()> {
        panic!("the backend panics")
    }
}

#[test]
fn a_panic_at_an_event_does_not_reach_the_loop_either() {
    let (port, _network) = port(all_caps());
    let device = NetDevice::builder(Rig::config(1))
        .decorate_backends(|_, backend| Box::new(PanicsAtCheck(backend)))
        .event_loop()
        .build_on_ports(vec![port])
        .expect("the device can be made");
    let mut rig = Rig::over(device);
    rig.start(F::empty());
    let workers = rig.device.event_workers();
    let pair = workers
        .iter()
        .find(|worker| worker.kind() == ThreadKind::QueuePair);
    let pair = pair.expect("a pair has a worker");
    assert!(pair.turn().sources_changed);
    pair.on_event(WorkerEvent {
        source: Source::Backend,
        readable: true,
        writable: true,
        error: true,
    });
    assert!(rig.device.needs_reset());
    assert_eq!(pair.turn(), Turn::default());
    assert!(rig.device.pause().is_err(), "the worker is lost");
}

#[test]
fn a_loop_that_cannot_wait_for_a_backend_fails_the_device_and_not_the_other_pair() {
    let (_loop, mut rig) = driven(Rig::config(2), F::empty());
    let workers = rig.device.event_workers();
    let pair = &workers[0];
    assert_eq!(
        format!("{pair:?}"),
        format!("EventWorker({:?})", pair.name())
    );
    pair.backend_failed(&io::Error::other("no more events"));
    assert!(rig.device.needs_reset());
    let reason = rig.device.handle().failure().expect("it failed");
    assert!(reason.contains("no more events"), "{reason}");
    rig.irq.wait_config(1);
    rig.send(1, &frame(60, 2));
    assert_eq!(rig.networks[1].wait_sent(1).len(), 1);
    rig.device.reset();
    assert!(!rig.device.needs_reset());
}
