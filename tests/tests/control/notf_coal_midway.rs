//! Notification coalescing that changes in the middle of a worker's turn.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError,
};
use net_device::{EventWorker, Source, ThreadKind, WorkerEvent};
use net_queue::header::HDR_LEN;
use net_queue::testing::Interrupts;
use tests::testbed::RINGS;

use super::*;

const OFF: [u32; 2] = [0, 0];
/// An interrupt for each packet.
const EACH: [u32; 2] = [1, u32::MAX];
/// None at all, in the time of a test.
const NEVER: [u32; 2] = [u32::MAX; 2];

/// Call to be made the next time that the worker uses its backend.
type Midway = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A backend in the middle of whose calls something else happens.
struct Interrupted(Box<dyn FrameBackend>, Midway);

impl Interrupted {
    fn happens(&self) {
        let midway = self.1.lock().unwrap().take();
        midway.into_iter().for_each(|happens| happens());
    }
}

impl FrameBackend for Interrupted {
    fn caps(&self) -> Caps {
        self.0.caps()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.0.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.happens();
        self.0.send(frame)
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.happens();
        self.0.recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.poll_fd()
    }
}

/// Lets `worker` take its turns after an event.
fn turns(worker: &EventWorker, source: Source) {
    worker.on_event(WorkerEvent {
        source,
        readable: true,
        writable: true,
        error: false,
    });
    while worker.turn().again {}
}

/// A driver and a device whose workers take their turns when the test says so.
struct Scene {
    rig: Rig,
    midway: Midway,
    pair: EventWorker,
    control: EventWorker,
}

impl Scene {
    fn new(without: F) -> Self {
        let midway = Midway::default();
        let between = midway.clone();
        let mut rig = Rig::built(Rig::config(1), |builder| {
            builder
                .decorate_backends(move |_, inner| Box::new(Interrupted(inner, between.clone())))
                .event_loop()
        });
        rig.start(without);
        let workers = rig.device.event_workers();
        let of = |kind| {
            let worker = workers.iter().find(|worker| worker.kind() == kind);
            worker.expect("it has a worker").clone()
        };
        let (pair, control) = (of(ThreadKind::QueuePair), of(ThreadKind::Control));
        workers.iter().for_each(|it| turns(it, Source::Owner));
        Self {
            rig,
            midway,
            pair,
            control,
        }
    }

    /// Makes a command for the queues of `queue`'s direction available; returns where its answer
    /// will be.
    fn post(&mut self, queue: u16, params: [u32; 2]) -> u64 {
        let command = [6, u8::from(queue == 0)];
        let data = params.map(u32::to_le_bytes);
        let bytes = [&command[..], data.as_flattened()].concat();
        let pieces = [self.rig.memory.filled(&bytes), self.rig.memory.room(1)];
        self.rig.memory.write(pieces[1].addr, &[0xff]);
        self.rig.queue(2).post(&pieces);
        pieces[1].addr
    }

    fn check_answer(&mut self, answer: u64) {
        assert_eq!(self.rig.memory.read(answer, 1), [OK]);
        assert_eq!(self.rig.queue(2).ring.poll_all().len(), 1);
    }

    fn command(&mut self, queue: u16, params: [u32; 2]) {
        let answer = self.post(queue, params);
        turns(&self.control, Source::CtrlKick);
        self.check_answer(answer);
    }

    /// Lets a frame pass through `queue`, and the driver give a command meanwhile, which is
    /// answered before the frame is there.
    fn pass_and_command(&mut self, queue: u16, params: [u32; 2]) {
        let answer = self.post(queue, params);
        let control = self.control.clone();
        let given = move || turns(&control, Source::CtrlKick);
        *self.midway.lock().unwrap() = Some(Box::new(given));
        if queue == 0 {
            self.rig.post(0, &[HDR_LEN + 2048]);
            self.rig.networks[0].wire.inject(frame(64, 1));
        } else {
            self.rig.send(0, &frame(64, 1));
        }
        turns(&self.pair, Source::Backend);
        self.check_answer(answer);
        assert_eq!(self.rig.queue(queue).ring.poll_all().len(), 1);
    }
}

#[test]
fn a_command_rules_the_interrupt_of_the_turn_that_is_under_way_net_cvq_25() {
    for without in RINGS {
        for (queue, before) in [(0, OFF), (0, EACH), (1, OFF), (1, EACH)] {
            let mut scene = Scene::new(without);
            scene.command(queue, before);
            turns(&scene.pair, Source::NotfCoalTimer);
            scene.rig.queue(queue).ring.ask(Interrupts::Always);
            let interrupts = scene.rig.irq.queue(queue);
            scene.pass_and_command(queue, NEVER);
            assert_eq!(scene.rig.irq.queue(queue), interrupts, "{without:?}");
            // It waits, and is not lost.
            scene.command(queue, OFF);
            turns(&scene.pair, Source::NotfCoalTimer);
            assert_eq!(scene.rig.irq.queue(queue), interrupts + 1, "{without:?}");
        }
    }
}

#[test]
fn a_command_that_ends_a_wait_in_a_turn_lets_its_interrupt_come_net_cvq_25() {
    for without in RINGS {
        for (queue, next) in [(0, OFF), (0, EACH), (1, OFF), (1, EACH)] {
            let mut scene = Scene::new(without);
            scene.command(queue, NEVER);
            turns(&scene.pair, Source::NotfCoalTimer);
            scene.rig.queue(queue).ring.ask(Interrupts::Always);
            let interrupts = scene.rig.irq.queue(queue);
            scene.pass_and_command(queue, next);
            // The command has let the timer expire.
            turns(&scene.pair, Source::NotfCoalTimer);
            assert_eq!(scene.rig.irq.queue(queue), interrupts + 1, "{without:?}");
        }
    }
}
