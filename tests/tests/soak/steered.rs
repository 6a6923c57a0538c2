//! One driver that steers by tables, which change while frames of many flows arrive.
//!
//! Each flow comes by a port of its own, as a tap keeps it. A flow whose queue a step leaves as it
//! was has to come in its order, by that queue alone; one that the step moves may come by both
//! queues, in any order, and whole. What a queue drops while it does not run is counted.

use std::time::{Duration, Instant};

use net_device::{Features, NetConfig, VirtioDevice};
use net_queue::header::HDR_LEN;
use net_queue::testing::Random;
use net_queue::testing::packets::{Packet, Sums};
use tests::testbed::{GUEST_MAC, Queue, RINGS, Rig, pause, resume, toeplitz};

const PAIRS: u16 = 4;
const FLOWS: u16 = 32;
/// Descriptors of each ring.
const SIZE: u16 = 256;
/// Most frames of one flow that a burst has; with those of all flows a ring has room for several.
const BURST: u64 = 4;
/// Bytes of a frame that are hashed: IPv4 addresses, and ports.
const HASHED: std::ops::Range<usize> = HDR_LEN + 26..HDR_LEN + 38;
/// Types of hashes: all.
const TYPES: u32 = 0x1ff;

/// Longest wait for frames; it only ends a run that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Key and table of the driver.
#[derive(Clone, Debug)]
struct Table {
    key: Vec<u8>,
    /// Of each flow.
    hashes: Vec<u32>,
    queues: Vec<u16>,
}

/// Frames of one flow.
#[derive(Clone, Debug, Default)]
struct Flow {
    given: u64,
    /// Number that the next one to come has at least.
    next: u64,
    /// Frames of this step, as they came: number and pair.
    came: Vec<(u64, u16)>,
}

/// A driver and its device.
pub(crate) struct Life {
    rig: Rig,
    random: Random,
    table: Option<Table>,
    flows: Vec<Flow>,
    injected: u64,
    seen: u64,
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

/// Frame `number` of a flow, behind an empty header.
fn frame(flow: u16, number: u64) -> Vec<u8> {
    let payload = [&flow.to_be_bytes()[..], &number.to_be_bytes()].concat();
    let packet = Packet {
        source: flow as u8,
        ports: (1024 + flow, 80),
        sums: Sums::Complete,
        ..Packet::udp(&payload)
    };
    let mut bytes = packet.bytes();
    bytes[HDR_LEN..HDR_LEN + 6].copy_from_slice(&GUEST_MAC);
    bytes
}

/// Flow and number of a frame.
fn read(frame: &[u8]) -> (usize, u64) {
    let (rest, number) = frame.split_last_chunk().expect("a payload");
    let flow = rest.last_chunk().expect("a payload");
    (
        u16::from_be_bytes(*flow).into(),
        u64::from_be_bytes(*number),
    )
}

impl Life {
    pub(crate) fn new(random: Random) -> Self {
        let config = NetConfig {
            rss: true,
            control_limit: None,
            transport_features: Features::VIRTIO_F_RING_RESET,
            ..Rig::config(PAIRS)
        };
        let mut life = Self {
            rig: Rig::new(config),
            random,
            table: None,
            flows: vec![Flow::default(); FLOWS.into()],
            injected: 0,
            seen: 0,
            steps: Vec::new(),
        };
        life.start();
        life
    }

    /// So many steps, after each of which every frame is accounted for.
    pub(crate) fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            let before = self.queues();
            self.supply();
            self.burst();
            let step = self.step();
            self.steps.push(step);
            self.burst();
            self.drain();
            self.judge(&before);
        }
    }

    /// Ends the device; returns the number of frames that came.
    pub(crate) fn end(self) -> u64 {
        self.seen
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    /// The queue of each flow.
    fn queues(&self) -> Vec<u16> {
        let queue = |flow: u16| match &self.table {
            None => flow % PAIRS,
            Some(Table { hashes, queues, .. }) => {
                queues[hashes[usize::from(flow)] as usize % queues.len()]
            }
        };
        (0..FLOWS).map(queue).collect()
    }

    fn start(&mut self) {
        let without = RINGS[self.below(RINGS.len() as u64) as usize];
        self.rig.negotiate(without);
        self.rig.lay_out(SIZE);
        self.rig.activate();
        self.table = None;
        let pairs = PAIRS.to_le_bytes();
        assert_eq!(self.rig.command(4, 0, &pairs), 0);
    }

    /// Something that happens while frames are on their way; returns what.
    fn step(&mut self) -> String {
        match self.below(12) {
            0..=4 => self.change_table(),
            5 => self.steer_automatically(),
            6 => {
                pause(&mut self.rig);
                resume(&mut self.rig);
                "pause".to_owned()
            }
            7 => self.change_notf_coal(),
            8 => self.stop_and_start(),
            9 => self.reset_ring(),
            10 => self.reset(),
            _ => {
                let ram = self.rig.memory.ram();
                let changed = self.rig.device.set_memory(ram);
                changed.expect("every ring is in the new memory");
                "memory".to_owned()
            }
        }
    }

    fn change_table(&mut self) -> String {
        let table = self.some_table();
        self.set_table(&table);
        format!("table {:?}", table.queues)
    }

    /// A table that has half of its entries from the one before, or none.
    fn some_table(&mut self) -> Table {
        let keep = self.below(2) == 0;
        match self.table.clone() {
            Some(mut table) if keep => {
                for at in 0..table.queues.len() {
                    if self.below(2) == 0 {
                        table.queues[at] = self.below(PAIRS.into()) as u16;
                    }
                }
                table
            }
            _ => {
                let len = 1 << self.below(8);
                let key: Vec<u8> = (0..40).map(|_| self.below(256) as u8).collect();
                let hash = |flow| toeplitz(&key, &frame(flow, 0)[HASHED]);
                Table {
                    hashes: (0..FLOWS).map(hash).collect(),
                    key,
                    queues: (0..len).map(|_| self.below(PAIRS.into()) as u16).collect(),
                }
            }
        }
    }

    fn set_table(&mut self, table: &Table) {
        let unclassified = self.below(PAIRS.into()) as u16;
        let mut data = TYPES.to_le_bytes().to_vec();
        let head = [table.queues.len() as u16 - 1, unclassified];
        let words = head.iter().chain(&table.queues).chain([&PAIRS]);
        data.extend(words.flat_map(|word| word.to_le_bytes()));
        data.push(table.key.len() as u8);
        data.extend(&table.key);
        assert_eq!(self.rig.command(4, 1, &data), 0);
        self.table = Some(table.clone());
    }

    fn steer_automatically(&mut self) -> String {
        assert_eq!(self.rig.command(4, 0, &PAIRS.to_le_bytes()), 0);
        self.table = None;
        "no table".to_owned()
    }

    fn change_notf_coal(&mut self) -> String {
        let (usecs, packets) = match self.below(2) {
            0 => (0, 0),
            _ => (1 + self.below(300) as u32, 1 + self.below(40) as u32),
        };
        let params = [packets.to_le_bytes(), usecs.to_le_bytes()].concat();
        assert_eq!(self.rig.command(6, 1, &params), 0);
        format!("coalescing {packets} {usecs}")
    }

    fn stop_and_start(&mut self) -> String {
        let index = 2 * self.below(PAIRS.into()) as u16;
        let device = &mut self.rig.device;
        let cursor = device.stop_queue(index).expect("it runs").expect("it ran");
        self.burst();
        let setup = self.rig.queues[&index].setup_at(cursor);
        self.rig.device.start_queue(setup).expect("where it stood");
        format!("stop of queue {index}")
    }

    fn reset_ring(&mut self) -> String {
        let index = 2 * self.below(PAIRS.into()) as u16;
        self.rig.device.reset_queue(index).expect("it runs");
        self.collect();
        self.burst();
        let queue = Queue::new(&self.rig.memory, index, self.rig.ring_config(SIZE));
        let started = self.rig.device.start_queue(queue.setup());
        started.expect("a fresh ring");
        self.rig.queues.insert(index, queue);
        self.supply();
        format!("reset of queue {index}")
    }

    /// Frames between workers would go with the device, so there are none.
    fn reset(&mut self) -> String {
        self.drain();
        self.rig.device.reset();
        self.start();
        self.supply();
        "reset".to_owned()
    }

    /// Frames of every flow, each by its port.
    fn burst(&mut self) {
        for flow in 0..FLOWS {
            for _ in 0..self.below(BURST) {
                let number = self.flows[usize::from(flow)].given;
                self.flows[usize::from(flow)].given += 1;
                self.injected += 1;
                let wire = &self.rig.networks[usize::from(flow % PAIRS)].wire;
                wire.inject(frame(flow, number));
            }
        }
    }

    /// Fills the rings with buffers.
    fn supply(&mut self) {
        self.collect();
        for pair in 0..PAIRS {
            let free = self.rig.queue(2 * pair).ring.free();
            if free > 0 {
                self.rig.post(pair, &vec![256; free]);
            }
        }
    }

    /// Takes what came.
    fn collect(&mut self) {
        for pair in 0..PAIRS {
            let queue = self.rig.queue(2 * pair);
            let mut used = std::mem::take(&mut queue.used);
            used.extend(queue.ring.poll_all());
            let frames: Vec<_> = used.iter().map(|used| queue.ring.bytes(used)).collect();
            for frame in frames {
                let (flow, number) = read(&frame);
                self.flows[flow].came.push((number, pair));
                self.seen += 1;
            }
        }
    }

    /// Waits until every frame came or was dropped for a cause.
    fn drain(&mut self) {
        let begin = Instant::now();
        loop {
            self.supply();
            let counters = self.rig.device.counters();
            let drops = counters.iter();
            let drops = drops.filter(|(name, _)| name.starts_with("rx_drop_"));
            let dropped: u64 = drops.map(|(_, count)| count).sum();
            if self.seen + dropped == self.injected {
                return;
            }
            assert!(
                begin.elapsed() < LIMIT && self.seen + dropped < self.injected,
                "{} came and {dropped} were dropped of {}",
                self.seen,
                self.injected
            );
            std::thread::yield_now();
        }
    }

    /// Compares what came with what was to come; flows had their frames in the queues `before`.
    fn judge(&mut self, before: &[u16]) {
        let now = self.queues();
        for (flow, account) in self.flows.iter_mut().enumerate() {
            let queues = [before[flow], now[flow]];
            let mut came = std::mem::take(&mut account.came);
            if queues[0] != queues[1] {
                came.sort_unstable();
            }
            for (number, pair) in came {
                assert!(
                    queues.contains(&pair),
                    "flow {flow} by {pair}, not {queues:?}"
                );
                assert!(
                    (account.next..account.given).contains(&number),
                    "flow {flow}, {queues:?}: frame {number} where {} or a later one was to come",
                    account.next
                );
                account.next = number + 1;
            }
        }
    }
}
