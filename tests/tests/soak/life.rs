//! One driver on four pairs, and the devices that it gets to see.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use net_device::port::Link;
use net_device::{Features, NetConfig, Snapshottable, VirtioDevice};
use net_queue::testing::Random;
use tests::testbed::{Network, Queue, RINGS, Rig, all_caps, pause, port, resume};

use crate::ledger::Account;

mod traffic;

/// Pairs of each device; the control queue comes behind them.
const PAIRS: u16 = 4;
const CONTROL: u16 = 2 * PAIRS;
/// Most frames of one direction that a step puts on a pair.
const BURST: u64 = 9;

/// Longest wait for frames; it only ends a run that hangs.
const LIMIT: Duration = Duration::from_secs(60);

type Kept = Arc<Mutex<Vec<Network>>>;

/// Frames of one device since it was made.
#[derive(Debug, Default)]
struct Moved {
    posted: u64,
    sent: u64,
    /// Posted in rings that were reset before the device took them.
    abandoned: u64,
    injected: u64,
    seen: u64,
    /// Waited in ports that are gone.
    vanished: u64,
}

/// A driver and its device.
pub(crate) struct Life {
    rig: Rig,
    random: Random,
    /// Networks behind ports that the device has opened again.
    reopened: Kept,
    /// Pairs that receive.
    pairs: u16,
    up: bool,
    tx: [Account; PAIRS as usize],
    rx: [Account; PAIRS as usize],
    moved: Moved,
    /// Steps so far, for whoever has to find out why one of them failed.
    steps: Vec<String>,
}

impl Drop for Life {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("steps: {:?}", self.steps);
        }
    }
}

/// A device whose ports can be opened again.
fn new_rig() -> (Rig, Kept) {
    let config = NetConfig {
        control_limit: None,
        transport_features: Features::VIRTIO_F_RING_RESET,
        ..Rig::config(PAIRS)
    };
    let reopened = Kept::default();
    let networks = reopened.clone();
    let rig = Rig::built(config, |builder| {
        builder.reopen_with(move |_| {
            let (ports, opened): (Vec<_>, Vec<_>) = (0..PAIRS).map(|_| port(all_caps())).unzip();
            *networks.lock().unwrap_or_else(PoisonError::into_inner) = opened;
            Ok(Link {
                ports,
                host: None,
                monitor: None,
            })
        })
    });
    (rig, reopened)
}

impl Life {
    pub(crate) fn new(random: Random) -> Self {
        let (rig, reopened) = new_rig();
        let mut life = Self {
            rig,
            random,
            reopened,
            pairs: 1,
            up: true,
            tx: Default::default(),
            rx: Default::default(),
            moved: Moved::default(),
            steps: Vec::new(),
        };
        life.start();
        life
    }

    /// So many steps, after each of which the accounts are right.
    pub(crate) fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.burst();
            let step = self.step();
            self.steps.push(step);
            self.drain_all();
            self.exchange();
        }
    }

    /// Ends the device; returns the number of frames that came out at its other end.
    pub(crate) fn end(mut self) -> u64 {
        self.drain_all();
        let accounts = self.tx.iter().chain(&self.rx);
        accounts.map(|account| account.taken).sum()
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    /// Something that happens while frames are on their way; returns what.
    fn step(&mut self) -> String {
        match self.below(15) {
            0 => self.pause_and_resume(),
            1 | 2 => self.set_pairs(),
            3 => self.change_filter(),
            4 => self.change_notf_coal(),
            5 => self.flap(),
            6 | 7 => self.reset_ring(),
            8 => self.stop_and_start(),
            9 => self.reset(),
            10 => self.migrate(),
            11 => self.lose_port(),
            12 => self.change_offloads(),
            13 => self.announce(),
            _ => self.change_memory(),
        }
    }

    /// A new driver, with a kind of ring of its own.
    fn start(&mut self) {
        let without = RINGS[self.below(RINGS.len() as u64) as usize];
        self.rig.start(without);
        self.pairs = 1;
        self.purge();
        self.set_pairs();
    }

    fn pause_and_resume(&mut self) -> String {
        pause(&mut self.rig);
        resume(&mut self.rig);
        "pause".to_owned()
    }

    fn set_pairs(&mut self) -> String {
        let pairs = 1 + self.below(PAIRS.into()) as u16;
        assert_eq!(self.rig.command(4, 0, &pairs.to_le_bytes()), 0);
        self.pairs = pairs;
        self.purge();
        format!("{pairs} pairs")
    }

    /// The link drops what waits for pairs that do not receive, as a tap does.
    fn purge(&mut self) {
        for network in &self.rig.networks[usize::from(self.pairs)..] {
            self.moved.vanished += network.wire.purge() as u64;
        }
    }

    fn change_filter(&mut self) -> String {
        let on = self.below(2) as u8;
        let command = self.below(4) as u8;
        let (class, command, data) = match command {
            0 | 1 => (0, command, vec![on]),
            _ => (2, on, vec![self.below(250) as u8, 1]),
        };
        assert_eq!(self.rig.command(class, command, &data), 0);
        format!("filter {class}/{command} {data:?}")
    }

    fn change_notf_coal(&mut self) -> String {
        let (usecs, packets) = match self.below(3) {
            0 => (0, 0),
            _ => (1 + self.below(300) as u32, 1 + self.below(40) as u32),
        };
        let params = [packets.to_le_bytes(), usecs.to_le_bytes()];
        let (command, data) = match self.below(3) as u8 {
            2 => {
                let queue = self.below(CONTROL.into()) as u16;
                let head = [queue.to_le_bytes(), [0; 2]].concat();
                (2, [&head[..], &params.concat()].concat())
            }
            all => (all, params.concat()),
        };
        assert_eq!(self.rig.command(6, command, &data), 0);
        format!("coalescing {command} {data:?}")
    }

    /// Checksums that the driver takes undone, or none.
    fn change_offloads(&mut self) -> String {
        let mask = self.below(2) << 1;
        assert_eq!(self.rig.command(5, 0, &mask.to_le_bytes()), 0);
        format!("offloads {mask:#x}")
    }

    fn announce(&mut self) -> String {
        self.rig.device.announce();
        assert_eq!(self.rig.status() & 2, 2, "the driver is asked to");
        assert_eq!(self.rig.command(3, 0, &[]), 0);
        assert_eq!(self.rig.status() & 2, 0);
        "announcement".to_owned()
    }

    fn flap(&mut self) -> String {
        self.up = !self.up;
        self.rig.device.set_link(self.up);
        format!("link {}", self.up)
    }

    fn reset_ring(&mut self) -> String {
        let index = self.below(u64::from(CONTROL) + 1) as u16;
        let device = &mut self.rig.device;
        device.reset_queue(index).expect("it runs");
        self.collect();
        if index < CONTROL && index % 2 == 1 {
            self.moved.abandoned += self.rig.queue(index).ring.in_flight() as u64;
        }
        // Some arrive while there is no ring to take them.
        self.burst_except(index);
        let size = 16 << self.below(3);
        let queue = Queue::new(&self.rig.memory, index, self.rig.ring_config(size));
        let started = self.rig.device.start_queue(queue.setup());
        started.expect("a fresh ring");
        self.rig.queues.insert(index, queue);
        format!("reset of queue {index}")
    }

    fn stop_and_start(&mut self) -> String {
        let index = self.below(u64::from(CONTROL) + 1) as u16;
        let device = &mut self.rig.device;
        let cursor = device.stop_queue(index).expect("it runs").expect("it ran");
        self.burst();
        let setup = self.rig.queues[&index].setup_at(cursor);
        self.rig.device.start_queue(setup).expect("where it stood");
        format!("stop of queue {index}")
    }

    fn change_memory(&mut self) -> String {
        let ram = self.rig.memory.ram();
        let changed = self.rig.device.set_memory(ram);
        changed.expect("every ring is in the new memory");
        "memory".to_owned()
    }

    fn reset(&mut self) -> String {
        self.rig.device.reset();
        self.collect();
        for pair in 0..PAIRS {
            self.moved.abandoned += self.rig.queue(2 * pair + 1).ring.in_flight() as u64;
        }
        let opened =
            std::mem::take(&mut *self.reopened.lock().unwrap_or_else(PoisonError::into_inner));
        if !opened.is_empty() {
            self.moved.vanished += self.waiting();
            self.rig.networks = opened;
        }
        self.start();
        "reset".to_owned()
    }

    /// Goes on in another device, over other ports.
    fn migrate(&mut self) -> String {
        pause(&mut self.rig);
        self.collect();
        self.audit();
        let snapshot = self.rig.device.snapshot().expect("it is paused");
        let (mut next, reopened) = new_rig();
        next.device.restore(snapshot).expect("it was just sealed");
        // The old one ends with its ports.
        let before = std::mem::replace(&mut self.rig, Rig::new(Rig::config(1)));
        self.rig = before.move_to(next);
        self.reopened = reopened;
        self.rig.activate();
        resume(&mut self.rig);
        let queues = (0..PAIRS).map(|pair| 2 * pair + 1);
        let posted = queues.map(|index| self.rig.queue(index).ring.in_flight() as u64);
        self.moved = Moved {
            posted: posted.sum(),
            ..Moved::default()
        };
        self.up = true;
        assert_eq!(self.rig.command(3, 0, &[]), 0, "it is announced");
        "migration".to_owned()
    }

    /// A port is gone, and found again by the reset that follows.
    fn lose_port(&mut self) -> String {
        let pair = self.below(self.pairs.into()) as u16;
        self.supply(pair, 1);
        let wire = self.rig.networks[usize::from(pair)].wire.clone();
        wire.script_recv([net_queue::testing::Answer::Dead]);
        self.arrive(pair, 1);
        let begin = Instant::now();
        while !self.rig.device.needs_reset() {
            // Buffers that the burst before has used are told from free ones only now.
            self.supply(pair, 1);
            assert!(begin.elapsed() < LIMIT, "pair {pair} did not look");
            std::thread::yield_now();
        }
        self.reset();
        assert!(!self.rig.device.needs_reset());
        format!("port of pair {pair} lost")
    }
}
