//! The device and its VMM: what drives the workers, and what the VMM does to the device.

mod owner;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use net_device::net_queue::GuestRam;
use net_device::net_queue::ring::RingConfig;
use net_device::port::Link;
use net_device::{
    Activation, Clock, Cursor, Features, Layout, Lifecycle, NetDevice, QueueSetup, Source,
    VirtioDevice,
};
use net_queue::testing::{DirtyRanges, TestMemory};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use tests::testbed::{ManualClock, chain};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::event_loop::{Level, Registration};
use crate::fault::Fault;
use crate::plant::{SharedPlant, lock};
use crate::port::{Interrupts, port};
use crate::profile::Profile;
use crate::watch::Watch;

/// A kick's descriptor in the VMM, and whether it is readable: workers never read it.
struct Kick {
    event: EventFd,
    readable: bool,
}

impl Kick {
    fn new() -> Self {
        let event = EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made");
        Self {
            event,
            readable: false,
        }
    }
}

/// The device, its event loop and its guest's memory.
pub(crate) struct Vmm {
    pub(crate) device: NetDevice,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) workers: Vec<Registration>,
    pub(crate) plant: SharedPlant,
    profile: Profile,
    file: Arc<File>,
    /// Dirty marks that nobody has looked at.
    pub(crate) marked: Arc<DirtyRanges>,
    kicks: Vec<Kick>,
    /// Queues that are stopped, and where they stood.
    pub(crate) stopped: BTreeMap<u16, Cursor>,
    pub(crate) link_up: bool,
    /// Frames that devices before this one have dropped: received, sent.
    dropped: (u64, u64),
}

/// Maps the guest's memory once more.
fn map(file: &Arc<File>) -> TestMemory {
    let ranges = TestMemory::REGIONS.iter().scan(0, |at, (addr, len)| {
        let (file, start) = (file.try_clone().expect("a file can be duplicated"), *at);
        *at += *len as u64;
        Some((
            GuestAddress(*addr),
            *len,
            Some(FileOffset::new(file, start)),
        ))
    });
    let ranges: Vec<_> = ranges.collect();
    let mmap = GuestMemoryMmap::from_ranges_with_files(&ranges);
    TestMemory::over(mmap.expect("guest memory can be mapped"))
}

/// Memory of a guest that can be mapped as often as anybody likes.
pub(crate) fn guest_memory() -> (Arc<File>, TestMemory) {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("a memfd can be made");
    let len = TestMemory::REGIONS.iter().map(|(_, len)| *len as u64).sum();
    ftruncate(&file, len).expect("it can be made long enough");
    let file = Arc::new(File::from(file));
    let memory = map(&file);
    (file, memory)
}

/// Configuration of the rings that a driver with `features` lays out.
pub(crate) fn ring_config(features: Features, size: u16) -> RingConfig {
    let packed = features.contains(Features::VIRTIO_F_RING_PACKED);
    RingConfig {
        layout: if packed {
            Layout::Packed
        } else {
            Layout::Split
        },
        size,
        event_idx: features.contains(Features::VIRTIO_F_EVENT_IDX),
        indirect: features.contains(Features::VIRTIO_F_INDIRECT_DESC),
        in_order: features.contains(Features::VIRTIO_F_IN_ORDER),
        ..RingConfig::default()
    }
}

impl Vmm {
    /// A device that no driver has seen.
    pub(crate) fn new(plant: &SharedPlant, profile: &Profile, file: Arc<File>) -> Self {
        let clock = Arc::new(ManualClock::default());
        Self {
            device: Self::make_device(plant, profile, &clock),
            clock,
            workers: Vec::new(),
            plant: plant.clone(),
            profile: profile.clone(),
            file,
            marked: Arc::default(),
            kicks: Vec::new(),
            stopped: BTreeMap::new(),
            link_up: true,
            dropped: (0, 0),
        }
    }

    fn make_device(plant: &SharedPlant, profile: &Profile, clock: &Arc<ManualClock>) -> NetDevice {
        let groups = profile.kinds.groups;
        let ports = (0..usize::from(profile.pairs)).map(|pair| port(plant, pair, groups));
        let (again, pairs) = (plant.clone(), profile.pairs);
        let mut profile = profile.clone();
        if let (Some(limit), Some(Fault::WideLimit)) = (&mut profile.tx_limit, lock(plant).fault) {
            limit.size += 4;
        }
        let builder = NetDevice::builder(profile.config()).event_loop();
        let builder = builder.clock(clock.clone()).reopen_with(move |_| {
            let ports = (0..usize::from(pairs)).map(|pair| port(&again, pair, groups));
            Ok(Link {
                ports: ports.collect(),
                host: None,
                monitor: None,
            })
        });
        let device = builder.build_on_ports(ports.collect());
        device.expect("the device can be made")
    }

    /// Features that the driver accepts.
    pub(crate) fn features(&self) -> Features {
        let offered = Features::from_bits_retain(self.device.features());
        (offered - self.profile.without).closure()
    }

    fn memory(&self) -> GuestRam {
        let ram = map(&self.file).ram();
        if !self.profile.watched {
            return ram;
        }
        let (plant, marked) = (self.plant.clone(), self.marked.clone());
        ram.with_dirty_log(Some(Arc::new(Watch { plant, marked })))
    }

    fn setup(&self, index: u16, cursor: Cursor) -> QueueSetup {
        let config = lock(&self.plant).ring(usize::from(index)).config();
        let kick = self.kicks[usize::from(index)].event.try_clone();
        let any = virtio_queue::Queue::default();
        QueueSetup {
            size: config.size,
            addrs: config.addrs,
            cursor,
            ..QueueSetup::from_queue(index, &any, kick.expect("an eventfd can be duplicated"))
        }
    }

    /// DRIVER_OK, with all queues that are not stopped.
    pub(crate) fn activate(&mut self) -> Result<(), String> {
        let count = lock(&self.plant).rings() as u16;
        self.kicks = (0..count).map(|_| Kick::new()).collect();
        let running = (0..count).filter(|index| !self.stopped.contains_key(index));
        let queues = running
            .map(|index| self.setup(index, Cursor::default()))
            .collect();
        let life = lock(&self.plant).life;
        let interrupt = Arc::new(Interrupts {
            plant: self.plant.clone(),
            life,
        });
        let activation = Activation {
            memory: self.memory(),
            interrupt,
            queues,
        };
        self.device
            .activate(activation)
            .map_err(|error| chain(&error))?;
        self.meet_workers();
        Ok(())
    }

    pub(crate) fn negotiate(&mut self) {
        let features = self.features().bits();
        self.device
            .ack_features(features)
            .expect("a closed subset is accepted");
    }

    /// Takes over workers that are new.
    fn meet_workers(&mut self) {
        let mut before = std::mem::take(&mut self.workers);
        for worker in self.device.event_workers() {
            let known = before.iter().position(|one| one.worker.is_same(&worker));
            let one = known.map(|at| before.swap_remove(at));
            self.workers
                .push(one.unwrap_or_else(|| Registration::new(worker)));
        }
        self.hear_owner();
    }

    /// The device may have told its workers' loops something.
    fn hear_owner(&mut self) {
        for worker in &mut self.workers {
            worker.happened(Source::Owner);
        }
        lock(&self.plant).owner_acts();
    }

    fn level(&self, pair: Option<usize>, source: Source) -> Level {
        let kick = |index: usize| Level {
            readable: self.kicks[index].readable,
            ..Level::default()
        };
        match (source, pair) {
            (Source::Backend, Some(pair)) => {
                let mut plant = lock(&self.plant);
                let network = &mut plant.networks[pair];
                // Whoever looks and sees no room is told of it later.
                network.wants_room |= network.room == 0;
                Level {
                    readable: !network.arriving.is_empty(),
                    writable: network.room > 0,
                    error: network.is_dead(),
                }
            }
            (Source::RxKick, Some(pair)) => kick(2 * pair),
            (Source::TxKick, Some(pair)) => kick(2 * pair + 1),
            (Source::CtrlKick, None) => kick(self.kicks.len() - 1),
            _ => Level {
                readable: true,
                ..Level::default()
            },
        }
    }

    /// Notes what happened since: kicks, frames, room, timers.
    pub(crate) fn look_around(&mut self) {
        for fd in self.clock.take_expired() {
            if lock(&self.plant).happens(Fault::LostTimer) {
                continue;
            }
            let mut workers = self.workers.iter_mut();
            workers.find_map(|worker| worker.source_of(fd).map(|source| worker.happened(source)));
        }
        for worker in &mut self.workers {
            worker.hear_doorbell();
        }
        let mut plant = lock(&self.plant);
        for index in 0..self.kicks.len() {
            if plant.take_kick(index) {
                let lost = plant.happens(Fault::LostKick);
                self.kicks[index].readable = true;
                let (source, pair) = match (plant.queues.get(index), index % 2) {
                    (None, _) => (Source::CtrlKick, None),
                    (Some(_), 0) => (Source::RxKick, Some(index / 2)),
                    (Some(_), _) => (Source::TxKick, Some(index / 2)),
                };
                let worker = self.workers.iter_mut().find(|worker| worker.pair == pair);
                worker
                    .filter(|_| !lost)
                    .map(|worker| worker.happened(source));
            }
        }
        for pair in 0..plant.networks.len() {
            let worker = self
                .workers
                .iter_mut()
                .find(|worker| worker.pair == Some(pair));
            let network = &mut plant.networks[pair];
            let arrived = std::mem::take(&mut network.arrived);
            let loses = plant.fault == Some(Fault::LostArrival) && plant.random.below(8) == 0;
            let arrived = arrived && !loses;
            let network = &mut plant.networks[pair];
            let has_room = std::mem::take(&mut network.has_room);
            let hung_up = std::mem::take(&mut network.hung_up);
            if let Some(worker) = worker
                && (arrived || hung_up || has_room && worker.waits_for_room())
            {
                worker.happened(Source::Backend);
            }
        }
    }

    /// Lets worker `at` take a turn. Events may come late.
    pub(crate) fn turn(&mut self, at: usize) {
        let mut worker = self.workers.swap_remove(at);
        let pair = worker.pair;
        let late = |_| {
            let mut plant = lock(&self.plant);
            !plant.calm && plant.random.below(8) == 0
        };
        let mutes = lock(&self.plant).fault == Some(Fault::SilentRestore) && worker.is_new();
        let restored = lock(&self.plant).restored;
        lock(&self.plant).turn_begins(mutes && restored);
        let turn = worker.turn(late, |source| self.level(pair, source));
        let forgets = lock(&self.plant).fault == Some(Fault::LostTurn);
        worker.again &= !forgets;
        lock(&self.plant).is_mute = false;
        // Of one that stands still everything is still to come.
        if self.device.lifecycle() == Lifecycle::Running {
            let stands = |index| self.stopped.contains_key(&index);
            lock(&self.plant).turn_ends(pair, stands);
        }
        lock(&self.plant).say(|| format!("  {} {turn:?}", worker.worker.name()));
        if turn.sources_changed {
            let again = lock(&self.plant).random.below(2) == 0;
            worker.register(again, |source, fd| match source {
                Source::RxTimer | Source::TxTimer | Source::NotfCoalTimer => Level {
                    readable: self.clock.is_expired(fd),
                    ..Level::default()
                },
                // It is written to whenever the worker comes or goes, and read since.
                Source::Owner => Level::default(),
                source => self.level(pair, source),
            });
        }
        let ignores = lock(&self.plant).fault == Some(Fault::NoRearm);
        if turn.rearm_backend && !ignores {
            let level = self.level(pair, Source::Backend);
            worker.rearm_backend(level);
        }
        self.workers.push(worker);
        let last = self.workers.len() - 1;
        self.workers.swap(at, last);
        lock(&self.plant).count_received(false);
        if !turn.again {
            self.check_limits();
        }
    }

    /// Lets `ns` nanoseconds pass.
    pub(crate) fn advance(&self, ns: u64) {
        self.clock.advance(ns);
        lock(&self.plant).now = self.clock.now_ns();
    }

    /// Frames that were dropped by this device and those before: received, sent.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        let stats = self.device.handle().stats();
        let rx: u64 = stats.rx.iter().map(net_device::QueueStats::dropped).sum();
        let tx: u64 = stats.tx.iter().map(net_device::QueueStats::dropped).sum();
        (self.dropped.0 + rx, self.dropped.1 + tx)
    }
}
