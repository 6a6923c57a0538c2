//! A machine with one device, its driver and its VMM, each of which does what the input wants.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use net_device::features::TRANSPORT;
use net_device::net_queue::{Caps, Offloads};
use net_device::{
    Activation, Cursor, DeviceEvent, EventWorker, Features, Interrupt, InterruptSource, Lifecycle,
    NetConfig, NetDevice, Observer, Port, PortControl, QueueSetup, RingAddrs, Snapshot,
    Snapshottable, VirtioDevice, WorkerEvent,
};
use net_queue::testing::Wire;

use crate::arena::Arena;
use crate::clock::StillClock;
use crate::ring::Desc;

/// Descriptors of each queue.
pub const SIZE: u16 = 16;
/// Queue pairs.
pub const PAIRS: u16 = 2;
/// Queues: those of the pairs, and the control queue.
pub const QUEUES: u16 = 2 * PAIRS + 1;
/// First guest address behind the rings.
pub const BUFFERS: u16 = QUEUES * RING_LEN;

/// Bytes for the parts of one ring.
const RING_LEN: u16 = 0x200;
/// Turns after one event.
const MAX_TURNS: usize = 4;

/// An interrupt without anybody to interrupt, and an observer that notes a panic.
#[derive(Default)]
pub struct Listener {
    worker_lost: AtomicBool,
}

impl Listener {
    /// No worker has panicked.
    pub fn check(&self) {
        assert!(!self.worker_lost.load(Ordering::Relaxed), "a panic");
    }
}

impl Interrupt for Listener {
    fn trigger(&self, _: InterruptSource) -> io::Result<()> {
        Ok(())
    }
}

impl Observer for Listener {
    fn event(&self, _: &str, event: &DeviceEvent) {
        if matches!(event, DeviceEvent::WorkerLost { .. }) {
            self.worker_lost.store(true, Ordering::Relaxed);
        }
    }
}

/// A link that takes every change.
struct Willing;

impl PortControl for Willing {
    fn attach(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _: Offloads) -> io::Result<()> {
        Ok(())
    }
}

/// The driver's position in one queue.
#[derive(Clone, Copy, Debug)]
struct Position {
    next: u16,
    wrap: bool,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            next: 0,
            wrap: true,
        }
    }
}

/// A device, and what is around it.
pub struct Machine {
    /// The device.
    pub device: NetDevice,
    /// Guest memory.
    pub arena: Arena,
    /// Network behind each port.
    pub wires: Vec<Wire>,
    /// Cursors of queues that were stopped.
    pub stopped: [Cursor; QUEUES as usize],
    listener: Arc<Listener>,
    positions: [Position; QUEUES as usize],
    /// Those of the last activation, also when it has ended.
    workers: Vec<EventWorker>,
}

/// A device whose limits, if any, an input alone sets.
pub fn config() -> NetConfig {
    NetConfig {
        mac: Some([2, 0, 0, 0, 0, 1].into()),
        queue_pairs: PAIRS,
        queue_size: SIZE,
        memory_fault_handler: false,
        // No token would ever come back: no time passes.
        control_limit: None,
        transport_features: TRANSPORT,
        transitional: true,
        ..NetConfig::default()
    }
}

/// A device in no thread but the caller's, and the networks behind it.
pub fn made(config: NetConfig, listener: &Arc<Listener>) -> (NetDevice, Vec<Wire>) {
    let (ports, wires): (Vec<_>, _) = (0..PAIRS)
        .map(|_| {
            let (backend, wire) = Wire::new();
            wire.set_caps(Caps {
                tx: Offloads::all(),
                rx: Offloads::all(),
                coalesce: Offloads::all(),
                mtu: None,
                multi_queue: true,
            });
            (Port::new(Box::new(backend), Box::new(Willing)), wire)
        })
        .unzip();
    let device = NetDevice::builder(config)
        .observer(listener.clone())
        .clock(Arc::new(StillClock))
        .event_loop()
        .build_on_ports(ports);
    (device.expect("the configuration is usable"), wires)
}

/// A descriptor that is never read: the input says when a driver kicks.
fn kick() -> OwnedFd {
    File::open("/dev/null").expect("every system has it").into()
}

/// Lets workers take turns, after an event at each of their sources.
pub fn turn(workers: &[EventWorker]) {
    for worker in workers {
        let mut sources = Vec::new();
        worker.for_each_source(|source, _| sources.push(source));
        for source in sources {
            worker.on_event(WorkerEvent {
                source,
                readable: true,
                writable: true,
                error: false,
            });
        }
        for _ in 0..MAX_TURNS {
            if !worker.turn().again {
                break;
            }
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        let listener = Arc::<Listener>::default();
        let (device, wires) = made(config(), &listener);
        Self {
            device,
            arena: Arena::default(),
            wires,
            stopped: [Cursor::default(); QUEUES as usize],
            listener,
            positions: Default::default(),
            workers: Vec::new(),
        }
    }
}

impl Machine {
    /// Addresses of the parts of a queue's ring.
    fn addrs(queue: u16) -> RingAddrs {
        let desc = u64::from(queue * RING_LEN);
        RingAddrs {
            desc,
            driver: desc + 0x100,
            device: desc + 0x140,
        }
    }

    fn is_packed(&self) -> bool {
        let acked = Features::from_bits_truncate(self.device.acked_features());
        acked.contains(Features::VIRTIO_F_RING_PACKED)
    }

    /// A queue that starts at `cursor`.
    pub fn setup(queue: u16, cursor: Cursor) -> QueueSetup {
        QueueSetup {
            index: queue,
            size: SIZE,
            addrs: Self::addrs(queue % QUEUES),
            cursor,
            kick: kick(),
        }
    }

    /// Activates the device with the queues of `mask`, as the driver lays them out: empty.
    pub fn activate(&mut self, mask: u8) -> bool {
        let queues = (0..QUEUES).filter(|queue| mask >> queue & 1 == 1);
        let setups = queues.map(|queue| Self::setup(queue, Cursor::default()));
        let setups = setups.collect();
        self.activate_with(setups)
    }

    /// Activates the device with its queues where a snapshot has them.
    pub fn activate_as(&mut self, snapshot: &Snapshot) -> bool {
        let state = snapshot.open().expect("it was taken from a device");
        let queues = state.queues.iter().map(|queue| QueueSetup {
            index: queue.index,
            size: queue.size,
            addrs: RingAddrs {
                desc: queue.desc_addr,
                driver: queue.driver_addr,
                device: queue.device_addr,
            },
            cursor: Cursor {
                avail: queue.avail,
                used: queue.used,
                avail_wrap: queue.avail_wrap,
                used_wrap: queue.used_wrap,
            },
            kick: kick(),
        });
        let queues = queues.collect();
        self.activate_with(queues)
    }

    fn activate_with(&mut self, queues: Vec<QueueSetup>) -> bool {
        let activated = self.device.activate(Activation {
            memory: self.arena.ram(false),
            interrupt: self.listener.clone(),
            queues,
        });
        activated.is_ok()
    }

    /// Clears the ring of a queue and goes to its start.
    pub fn lay_out(&mut self, queue: u16) {
        let start = Self::addrs(queue).desc;
        self.arena.write(start, &[0; RING_LEN as usize]);
        self.positions[usize::from(queue)] = Position::default();
    }

    /// Makes a chain available, of which the last descriptor has no NEXT; the driver does not look
    /// whether there is room.
    pub fn post(&mut self, queue: u16, chain: &[Desc]) {
        let (addrs, packed) = (Self::addrs(queue), self.is_packed());
        let position = &mut self.positions[usize::from(queue)];
        if packed {
            for desc in chain {
                let lap: u16 = if position.wrap { 1 << 7 } else { 1 << 15 };
                let mut bytes = Desc {
                    flags: desc.flags | lap,
                    next: position.next,
                    ..*desc
                }
                .to_bytes();
                bytes[12..].rotate_left(2);
                self.arena
                    .write(addrs.desc + 16 * u64::from(position.next), &bytes);
                position.next = (position.next + 1) % SIZE;
                position.wrap ^= position.next == 0;
            }
            return;
        }
        // Each chain has four descriptors of its own, until they are used again.
        let head = position.next % (SIZE / 4) * 4;
        for (at, desc) in (head..).zip(chain) {
            let bytes = Desc {
                next: at + 1,
                ..*desc
            }
            .to_bytes();
            self.arena
                .write(addrs.desc + 16 * u64::from(at % SIZE), &bytes);
        }
        let slot = addrs.driver + 4 + 2 * u64::from(position.next % SIZE);
        self.arena.write(slot, &head.to_le_bytes());
        position.next = position.next.wrapping_add(1);
        self.arena
            .write(addrs.driver + 2, &position.next.to_le_bytes());
    }

    /// Notes the workers that there are now.
    pub fn meet_workers(&mut self) {
        let present = self.device.event_workers();
        if !present.is_empty() {
            self.workers = present;
        }
    }

    /// A turn in which every write to memory is marked, and which does nothing in a device that
    /// does not run.
    pub fn watched_turn(&mut self) {
        let running = self.device.lifecycle() == Lifecycle::Running;
        // What the VMM had the device announce between turns is none of this one's.
        let _ = self.take_sent();
        let before: Vec<_> = self.wires.iter().map(Wire::waiting).collect();
        let ((), unmarked) = self.arena.watch(|| turn(&self.workers));
        if self.device.is_dirty_logging() {
            assert!(unmarked.is_empty(), "no mark: {unmarked:x?}");
        }
        let sent = self.take_sent();
        let after: Vec<_> = self.wires.iter().map(Wire::waiting).collect();
        if !running {
            assert!(unmarked.is_empty() && !self.arena.was_written());
            assert!(sent == 0 && before == after, "it moves frames");
        }
    }

    /// Number of frames that were sent since the last call.
    fn take_sent(&self) -> usize {
        let wires = self.wires.iter();
        wires.map(|wire| wire.take_sent().len()).sum()
    }

    /// No worker has panicked.
    pub fn check_workers(&self) {
        self.listener.check();
    }

    /// Takes a snapshot if the device is in a state to give one.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        let lifecycle = self.device.lifecycle();
        let snapshot = self.device.snapshot();
        let gives = !matches!(lifecycle, Lifecycle::Running | Lifecycle::Failed);
        assert_eq!(snapshot.is_ok(), gives, "{lifecycle}: {snapshot:?}");
        snapshot.ok()
    }

    /// Moves the guest to another device of the same configuration, which is as the first one was.
    pub fn migrate(&mut self) -> Option<Snapshot> {
        let snapshot = self.snapshot()?;
        let (mut device, wires) = made(self.device.config().clone(), &self.listener);
        let restored = device.restore(snapshot.clone());
        assert!(restored.is_ok(), "{restored:?}");
        let mut expected = snapshot.open().expect("it was taken from a device");
        let mut state = device
            .snapshot()
            .and_then(|snapshot| snapshot.open().map_err(|error| panic!("{error}")))
            .expect("nothing runs");
        // Levels go on with time, and the space has changed for a driver.
        (expected.limiters, state.limiters) = Default::default();
        (expected.config.generation, state.config.generation) = (0, 0);
        assert_eq!(state, expected, "lost on the way");
        assert_eq!(device.needs_reset(), self.device.needs_reset());
        (self.device, self.wires) = (device, wires);
        self.workers.clear();
        Some(snapshot)
    }
}
