//! Devices that their driver suspends while frames are under way in several queues: some wait for
//! a limit, some in a group, some to be told of.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use net_device::net_queue::{Caps, Offloads};
use net_device::{EventWorker, NetDeviceBuilder, WaitsFor, WorkerEvent};
use net_queue::header::HDR_LEN;
use net_queue::testing::packets::{Packet, on_the_wire};
use net_queue::testing::{Answer, Interrupts, Wire};
use snapshot::state::QueueState;
use tests::testbed::{EventLoop, HOUR_MS, Irq, ManualClock, frame_limit};

use super::*;

const PAIRS: u16 = 2;
/// Frames each way through each pair.
const FRAMES: usize = 300;
/// Frames of a queue that are under way at most.
const DEPTH: usize = 24;

/// The packet of this number that pair `pair` sends: one flow each.
fn packet(pair: u16, number: usize) -> Packet {
    let first = Packet {
        ports: (1000 + pair, 9),
        ..Packet::udp(&[0; 80])
    };
    let mut payload = vec![0; 80];
    payload[..4].copy_from_slice(&(number as u32).to_le_bytes());
    first.after(number, &payload)
}

/// The frame of this number that arrives for pair `pair`.
fn arriving(pair: u16, number: usize) -> Vec<u8> {
    frame(60, (usize::from(pair) * 1_000_000 + number) as u64)
}

/// A pair as its driver and its network know it. All numbers are of frames.
struct Side {
    pair: u16,
    /// Receive and transmit queue.
    queues: [Queue; 2],
    wire: Wire,
    memory: TestMemory,
    irq: Arc<Irq>,
    /// Made available for transmission, and used of these.
    posted: usize,
    used: usize,
    /// Seen by the network, and arrived from there.
    sent: usize,
    injected: usize,
    received: usize,
    /// Interrupts of each queue before the driver found nothing new in it.
    told: [usize; 2],
}

impl Side {
    /// Posts `count` frames and as many buffers, and lets as many frames arrive.
    fn post(&mut self, count: usize) {
        for _ in 0..count.min(FRAMES - self.posted) {
            let bytes = packet(self.pair, self.posted).bytes();
            let piece = self.memory.filled(&bytes);
            self.queues[1].ring.add(&[piece]);
            self.posted += 1;
        }
        for _ in 0..count {
            let piece = self.memory.room(HDR_LEN + 100);
            self.queues[0].ring.add(&[piece]);
        }
        for _ in 0..count.min(FRAMES - self.injected) {
            self.wire.inject(arriving(self.pair, self.injected));
            self.injected += 1;
        }
        self.queues.iter_mut().for_each(Queue::publish);
    }

    /// Takes what is new in a queue, and checks frames that were received; returns their number.
    fn take(&mut self, queue: usize) -> usize {
        let ring = &mut self.queues[queue].ring;
        let new = ring.poll_all();
        if queue == 1 {
            self.used += new.len();
            return new.len();
        }
        for used in &new {
            let bytes = ring.bytes(used);
            let expected = arriving(self.pair, self.received);
            assert_eq!(body(&bytes), body(&expected), "frame {}", self.received);
            self.received += 1;
        }
        new.len()
    }

    /// Looks at both queues until nothing is new, and asks for an interrupt for what comes next.
    fn look(&mut self) {
        for queue in 0..2 {
            loop {
                self.queues[queue].ring.ask(Interrupts::Always);
                self.told[queue] = self.irq.queue(self.queues[queue].index);
                if self.take(queue) == 0 {
                    break;
                }
            }
        }
    }

    /// One round of a driver that is busy.
    fn work(&mut self) {
        let room = self.queues.iter().map(|queue| queue.ring.in_flight());
        let room = DEPTH - room.max().unwrap_or(0).min(DEPTH);
        self.post(room);
        self.look();
    }

    fn is_done(&self) -> bool {
        self.used == FRAMES && self.received == FRAMES
    }

    /// Every chain that the device has taken was used, with a frame that is where it belongs, and
    /// the driver was told.
    fn check(&mut self, saved: &[QueueState]) {
        for queue in 0..2 {
            let index = self.queues[queue].index;
            let told = self.irq.queue(index) > self.told[queue];
            let new = self.take(queue);
            assert!(new == 0 || told, "{new} chains of {index} were not told of");
            let state = saved.iter().find(|state| state.index == index);
            let state = state.expect("it runs");
            assert!(state.in_flight.is_empty());
            let used = (state.used.expect("it is known"), state.used_wrap);
            assert_eq!((state.avail, state.avail_wrap), used, "queue {index}");
        }
        for bytes in self.wire.take_sent() {
            for sent in on_the_wire(&bytes) {
                let meant = on_the_wire(&packet(self.pair, self.sent).bytes());
                assert!(sent == meant[0], "frame {} of {}", self.sent, self.pair);
                self.sent += 1;
            }
        }
        assert_eq!(self.sent, self.used, "pair {}", self.pair);
        let arrived = self.received + self.wire.waiting();
        assert_eq!(arrived, self.injected, "pair {}", self.pair);
    }

    /// Nothing has moved since the last check.
    fn check_still(&mut self) {
        assert_eq!([self.take(0), self.take(1)], [0, 0], "pair {}", self.pair);
        assert!(self.wire.take_sent().is_empty());
        assert_eq!(self.received + self.wire.waiting(), self.injected);
    }
}

/// A device with limits on a port that takes groups, built with some options.
fn loaded<'a>(
    limit: (u64, u64),
    options: impl FnOnce(NetDeviceBuilder<'a>) -> NetDeviceBuilder<'a>,
) -> Rig {
    let limit = frame_limit(limit.0, limit.1);
    let config = NetConfig {
        transport_features: F::VIRTIO_F_SUSPEND,
        tx_limit: limit,
        rx_limit: limit,
        ..Rig::config(PAIRS)
    };
    let caps = Caps {
        coalesce: Offloads::all(),
        ..all_caps()
    };
    let (ports, networks) = (0..PAIRS).map(|_| port(caps)).unzip();
    let device = options(NetDevice::builder(config)).build_on_ports(ports);
    let mut rig = Rig::over(device.expect("the device can be made"));
    rig.networks = networks;
    rig
}

/// Every pair receives, and interrupts of the first wait for ever.
fn commands() -> [Vec<u8>; 3] {
    let never = |queue: u16| {
        let words = [u32::from(queue), u32::MAX, u32::MAX].map(u32::to_le_bytes);
        [&[6, 2][..], words.as_flattened()].concat()
    };
    [vec![4, 0, PAIRS as u8, 0], never(0), never(1)]
}

/// The pairs of `rig`, whose queues go with them.
fn sides(rig: &mut Rig) -> Vec<Side> {
    let side = |pair: u16| {
        let mut queue = |index| rig.queues.remove(&index).expect("it was laid out");
        Side {
            pair,
            queues: [queue(2 * pair), queue(2 * pair + 1)],
            wire: rig.networks[usize::from(pair)].wire.clone(),
            memory: rig.memory.clone(),
            irq: rig.irq.clone(),
            posted: 0,
            used: 0,
            sent: 0,
            injected: 0,
            received: 0,
            told: [0; 2],
        }
    };
    (0..PAIRS).map(side).collect()
}

/// Suspends the device, and says where its queues stand.
fn suspend(device: &mut NetDevice) -> Vec<QueueState> {
    device.suspend().expect("it was negotiated");
    let states = device.handle().queue_states();
    let stopped = |queue: &net_device::QueueState| queue.waits_for == WaitsFor::Stopped;
    assert!(states.iter().take(4).all(stopped), "{states:?}");
    device.pause().expect("it is suspended");
    let saved = device.snapshot().expect("it is paused");
    device.resume().expect("it is still suspended");
    assert!(device.is_suspended());
    saved.open().expect("it is whole").queues.to_vec()
}

/// Suspends a device again and again while its driver and its network are at work.
fn suspend_under_load(mut rig: Rig) {
    let sides: Vec<_> = sides(&mut rig).into_iter().map(Mutex::new).collect();
    let (passed, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    let driver = || {
        while !ended.load(Ordering::Relaxed) {
            let mut count = 0;
            for side in &sides {
                let Ok(mut side) = side.lock() else { return };
                // The network has no room for some groups.
                let answers = [Answer::Pass, Answer::WouldBlock, Answer::WouldBlock];
                side.wire.script_send(answers);
                side.work();
                count += side.used + side.received;
            }
            passed.store(count, Ordering::Relaxed);
            thread::yield_now();
        }
    };
    let total = 2 * FRAMES * usize::from(PAIRS);
    thread::scope(|scope| {
        // Also when a check fails.
        let _end = scope_end(&ended);
        scope.spawn(driver);
        for round in 0..10 {
            while passed.load(Ordering::Relaxed) < round * total / 10 {
                thread::yield_now();
            }
            let hold = || sides.iter().map(|side| side.lock().unwrap());
            let mut held = Vec::new();
            // The driver goes on until then, or it does not.
            held.extend((round % 2 == 0).then(hold).into_iter().flatten());
            let saved = suspend(&mut rig.device);
            held.extend((round % 2 == 1).then(hold).into_iter().flatten());
            held.iter_mut().for_each(|side| side.check(&saved));
            let interrupts = rig.irq.all();
            held.iter_mut().for_each(|side| side.post(4));
            held.iter_mut().for_each(|side| side.check_still());
            assert_eq!(rig.irq.all(), interrupts);
            rig.device.unsuspend().expect("it goes on");
        }
        while passed.load(Ordering::Relaxed) < total {
            thread::yield_now();
        }
    });
    let saved = suspend(&mut rig.device);
    for side in &sides {
        let mut side = side.lock().unwrap();
        side.check(&saved);
        assert!(side.is_done());
    }
    assert!(!rig.device.needs_reset());
}

/// Sets `ended` when it is dropped.
fn scope_end(ended: &AtomicBool) -> impl Drop + use<'_> {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    End(ended)
}

/// Gives the commands.
fn start(rig: &mut Rig) {
    for command in commands() {
        assert_eq!(rig.raw_command(&command), 0);
    }
}

#[test]
fn work_under_way_is_finished_and_told_of_dev_life_18_19() {
    for without in RINGS {
        bounded("suspensions of threads", move || {
            let mut rig = loaded((16, 2), |builder| builder);
            rig.start(without);
            start(&mut rig);
            suspend_under_load(rig);
        });
    }
}

#[test]
fn work_under_way_in_an_event_loop_is_finished_and_told_of_dev_life_18_19() {
    for without in RINGS {
        bounded("suspensions in an event loop", move || {
            let mut rig = loaded((16, 2), NetDeviceBuilder::event_loop);
            rig.start(without);
            let _loop = EventLoop::drive(rig.device.event_workers());
            start(&mut rig);
            suspend_under_load(rig);
        });
    }
}

/// Tells a worker of everything that may have happened, and lets it take one turn.
fn turn(worker: &EventWorker) -> net_device::Turn {
    for number in 0..9 {
        let both = epoll::Events::EPOLLIN | epoll::Events::EPOLLOUT;
        let event = WorkerEvent::from_epoll(both.bits(), number);
        worker.on_event(event.expect("there are as many sources"));
    }
    worker.turn()
}

/// Lets all workers take turns until they would sleep.
fn turn_all(workers: &[EventWorker]) {
    for worker in workers {
        while turn(worker).again {}
    }
}

/// Frames each way through each pair where each turn is the test's, and how many are let pass.
const FEW: usize = 12;
const LIMIT: u64 = 6;

/// A device in whose first pair a group waits for the network, and frames for a limit in all
/// queues, after so many turns of its workers.
fn held_midway(without: F, turns: usize) {
    let clock = Arc::new(ManualClock::default());
    let on_clock = clock.clone();
    let mut rig = loaded((LIMIT, HOUR_MS), |builder| {
        builder.event_loop().clock(on_clock)
    });
    rig.start(without);
    let workers = rig.device.event_workers();
    for command in commands() {
        let pieces = [rig.memory.filled(&command), rig.memory.room(1)];
        rig.queue(4).post(&pieces);
        turn_all(&workers);
        assert_eq!(rig.memory.read(pieces[1].addr, 1), [0]);
        assert_eq!(rig.queue(4).ring.poll_all().len(), 1);
    }
    let mut sides = sides(&mut rig);
    sides[0].wire.script_send([Answer::WouldBlock; 1000]);
    for side in &mut sides {
        side.look();
        side.post(FEW);
    }
    for number in 0..turns {
        let _ = turn(&workers[number % workers.len()]);
    }
    let waits_for = |index: usize| rig.device.handle().queue_states()[index].waits_for;
    let states = [1, 2, 3].map(waits_for);
    let all_wait = [WaitsFor::Network, WaitsFor::Limit, WaitsFor::Limit];
    assert!(turns < 40 || states == all_wait, "{states:?}");

    let saved = suspend(&mut rig.device);
    sides.iter_mut().for_each(|side| side.check(&saved));
    let interrupts = rig.irq.all();
    sides.iter_mut().for_each(|side| side.post(4));
    clock.advance(HOUR_MS * 1_000_000);
    for worker in workers.iter().chain(&workers) {
        let turn = turn(worker);
        assert!(!turn.again && turn.deadline_ns.is_none() && !turn.rearm_backend);
    }
    sides.iter_mut().for_each(Side::check_still);
    assert_eq!(rig.irq.all(), interrupts);

    rig.device.unsuspend().expect("it goes on");
    sides[0].wire.clear_scripts();
    for _ in 0..2 * PAIRS * FEW as u16 {
        clock.advance(HOUR_MS * 1_000_000);
        turn_all(&workers);
        sides.iter_mut().for_each(Side::look);
    }
    let saved = suspend(&mut rig.device);
    for side in &mut sides {
        side.check(&saved);
        assert_eq!((side.sent, side.received), (FEW + 4, FEW + 4));
    }
}

#[test]
fn whatever_waits_at_a_suspension_is_whole_and_stays_dev_life_18_19() {
    for without in RINGS {
        for turns in (0..12).chain([40]) {
            held_midway(without, turns);
        }
    }
}
