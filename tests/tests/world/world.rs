//! A world: one guest, its devices one after the other, the network, and a scheduler that decides
//! from a seed who acts next.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use net_device::{Clock, Features, Lifecycle, VirtioDevice};
use net_queue::testing::{DirtyRanges, Random, TestMemory};

use crate::control::{Commands, ControlQueue};
use crate::fault::Fault;
use crate::frames;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::mood::{Actor, Mood};
use crate::plant::{Plant, SharedPlant, lock};
use crate::profile::{Kinds, Profile};
use crate::queue::DriverQueue;
use crate::seen::Seen;
use crate::suspension::Frozen;
use crate::vmm::{Vmm, guest_memory, ring_config};

/// One world.
pub(crate) struct World {
    pub(crate) vmm: Vmm,
    pub(crate) plant: SharedPlant,
    memory: TestMemory,
    /// A copy of guest memory that follows the marks, where there are any.
    ledger: Option<Ledger>,
    /// The configuration as the driver knows it.
    pub(crate) seen: Seen,
    /// The configuration that a driver sees which has suspended the device.
    pub(crate) frozen: Option<Frozen>,
    mood: Mood,
    /// Restorations so far.
    pub(crate) cuts: u64,
}

impl World {
    /// The world of `seed`.
    pub(crate) fn new(seed: u64, trace: bool, fault: Option<Fault>) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::new(seed, &mut random);
        let (file, memory) = guest_memory();
        let written = Arc::new(DirtyRanges::default());
        let memory = if profile.watched {
            memory.recorded(written.clone())
        } else {
            memory
        };
        let plant = Plant::new(random, profile.pairs);
        let plant = Arc::new(Mutex::new(Plant {
            trace,
            fault,
            ..plant
        }));
        let mut vmm = Vmm::new(&plant, &profile, file);
        vmm.negotiate();
        let features = vmm.features();
        lock(&plant).say(|| format!("seed {seed}: {profile:?}, {features:?}"));
        make_driver(&plant, &memory, &profile, features);
        let mut world = Self {
            ledger: profile
                .watched
                .then(|| Ledger::new(&memory, written, vmm.marked.clone())),
            vmm,
            plant,
            memory,
            seen: Seen::default(),
            frozen: None,
            mood: Mood::default(),
            cuts: 0,
        };
        let done = world.vmm.activate();
        world.check(done);
        world.look_at_first();
        world
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        lock(&self.plant).random.below(end)
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        lock(&self.plant).say(what);
    }

    pub(crate) fn check(&self, result: Result<(), String>) {
        lock(&self.plant).check(result);
    }

    /// One step of whoever is next.
    ///
    /// # Errors
    /// The device did what it must not.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        if self.mood.left == 0 {
            self.mood = Mood::new(&mut lock(&self.plant).random);
        }
        self.mood.left -= 1;
        let next = self.mood.next(&mut lock(&self.plant).random);
        match next {
            Actor::Driver => self.step_driver(),
            Actor::Worker => self.step_worker(),
            Actor::Arrivals => self.step_arrivals(),
            Actor::Room => self.step_room(),
            Actor::Clock => self.step_clock(),
            Actor::Owner => self.step_owner(),
            Actor::Rest => self.quiesce(),
        }
        self.verdict()
    }

    /// One step, and a restoration about every sixteenth time.
    ///
    /// # Errors
    /// The device did what it must not.
    pub(crate) fn step_and_cut(&mut self) -> Result<(), String> {
        self.step()?;
        if self.below(16) == 0 {
            let done = self.pause_and_cut();
            self.check(done);
        }
        self.verdict()
    }

    fn pause_and_cut(&mut self) -> Result<(), String> {
        if self.vmm.device.lifecycle() != Lifecycle::Paused {
            self.say_and("pause", Vmm::pause)?;
        }
        self.cut()?;
        let paused = self.vmm.device.lifecycle() == Lifecycle::Paused;
        if paused && self.below(8) > 0 {
            self.say_and("resume", Vmm::resume)?;
        }
        Ok(())
    }

    fn verdict(&mut self) -> Result<(), String> {
        if let Some(ledger) = &mut self.ledger {
            if !self.vmm.device.is_dirty_logging() {
                ledger.is_stale();
            }
            let plant = lock(&self.plant);
            ledger.step(|addr| plant.queues.iter().any(|queue| queue.has_lent(addr)))?;
        }
        if let Some(what) = lock(&self.plant).violation.take() {
            return Err(what);
        }
        self.check_frozen()?;
        if self.vmm.device.needs_reset() && !lock(&self.plant).failing {
            let why = self.vmm.device.handle().failure();
            return Err(format!("the device failed: {}", why.unwrap_or_default()));
        }
        Ok(())
    }

    fn step_driver(&mut self) {
        if self.below(4) == 0 {
            self.look_at_config();
        }
        let often = if self.frozen.is_some() { 16 } else { 128 };
        if self.below(often) == 0 {
            let done = self.suspend_or_go_on();
            self.check(done);
        }
        let mut plant = lock(&self.plant);
        let count = plant.rings() as u64;
        let queue = plant.random.below(count) as usize;
        plant.say(|| format!("driver of {queue}"));
        plant.step_driver(queue);
    }

    /// A worker that has something takes a turn; now and then one that has not.
    fn step_worker(&mut self) {
        self.vmm.look_around();
        let now = self.vmm.clock.now_ns();
        let spurious = self.below(64) == 0;
        let workers = self.vmm.workers.iter().enumerate();
        let able = workers.filter(|(_, worker)| spurious || worker.is_runnable(now));
        let able: Vec<usize> = able.map(|(at, _)| at).collect();
        if !able.is_empty() {
            let at = able[self.below(able.len() as u64) as usize];
            self.say(|| format!("worker {at}"));
            self.vmm.turn(at);
            // An interrupt that waits has to come then.
            let waits = lock(&self.plant).queues.iter().any(DriverQueue::is_owed);
            if waits && self.below(32) == 0 {
                let done = self.suspend_or_go_on();
                self.check(done);
            }
        }
    }

    fn step_arrivals(&mut self) {
        let mut plant = lock(&self.plant);
        let pairs = plant.queues.len() as u64 / 2;
        let pair = plant.random.below(pairs) as usize;
        let burst = if plant.random.below(16) == 0 { 160 } else { 4 };
        let frames = plant.random.below(burst);
        if plant.networks[pair].arriving.len() > 200 {
            return;
        }
        plant.say(|| format!("{frames} frames arrive at {pair}"));
        let packets = plant.queues[2 * pair].kinds.packets;
        for _ in 0..frames {
            let flow = if packets {
                plant.random.below(2 * frames::KINDS as u64) as usize
            } else {
                frames::PLAIN
            };
            let longest = if plant.random.below(4) == 0 {
                frames::LONGEST
            } else {
                2 * frames::SHORTEST
            };
            let spread = (longest - frames::SHORTEST) as u64;
            let len = frames::SHORTEST + plant.random.below(spread + 1) as usize;
            if flow < frames::KINDS {
                let flow = frames::flow_into(pair, flow);
                plant.networks[pair].arrive(flow, len, 1);
            } else {
                let count = 2 + plant.random.below(5) as usize;
                let kind = 1 + plant.random.below(frames::KINDS as u64 - 1) as usize;
                let flow = frames::flow_into(pair, kind);
                plant.networks[pair].arrive(flow, len, count);
            }
        }
    }

    fn step_room(&mut self) {
        let mut plant = lock(&self.plant);
        let count = plant.networks.len() as u64;
        let pair = plant.random.below(count) as usize;
        let most = if plant.random.below(8) == 0 { 200 } else { 4 };
        let frames = plant.random.below(most) as u32;
        plant.say(|| format!("network {pair} has room for {frames} more"));
        plant.networks[pair].make_room(frames);
    }

    fn step_clock(&mut self) {
        let scale = 10_u64.pow(self.below(7) as u32);
        let ns = self.below(100 * scale);
        self.say(|| format!("{ns} ns pass"));
        self.vmm.advance(ns);
        if self.vmm.device.next_announcement() == Some(Duration::ZERO) && self.below(4) == 0 {
            self.say(|| "it is time for an announcement".to_owned());
            self.vmm.continue_announcement();
        }
    }

    fn step_owner(&mut self) {
        let paused = self.vmm.device.lifecycle() == Lifecycle::Paused;
        let what = self.below(26);
        let done = match what {
            0..4 if paused => self.cut(),
            4..10 if paused => self.say_and("resume", Vmm::resume),
            0..6 => self.say_and("pause", Vmm::pause),
            6..10 => self.say_and("memory moves", Vmm::move_memory),
            10..14 if !paused => self.stop_or_start(),
            14..16 => self.reset(),
            16..20 => self.say_and("the link goes up or down", |vmm| {
                vmm.set_link(!vmm.link_up);
                Ok(())
            }),
            20 => self.lose_port(),
            21 => self.switch_marks(),
            22 => self.break_ring(),
            23 => self.say_and("the guest is announced", |vmm| {
                vmm.announce();
                Ok(())
            }),
            24..26 => self.pause_and_cut(),
            _ => Ok(()),
        };
        self.check(done);
    }

    /// The driver makes a ring what none can be.
    fn break_ring(&self) -> Result<(), String> {
        let mut plant = lock(&self.plant);
        let count = plant.rings() as u64;
        let queue = plant.random.below(count) as usize;
        if plant.broken.is_none() && plant.break_ring(queue) {
            plant.say(|| format!("the driver breaks ring {queue}"));
            plant.broken = Some(queue);
            plant.fails();
        }
        Ok(())
    }

    fn switch_marks(&mut self) -> Result<(), String> {
        let on = !self.vmm.device.is_dirty_logging();
        self.say_and(&format!("writes are marked: {on}"), |vmm| vmm.set_marks(on))?;
        self.ledger.iter_mut().for_each(Ledger::is_stale);
        Ok(())
    }

    fn lose_port(&self) -> Result<(), String> {
        let mut plant = lock(&self.plant);
        // Nobody looks at the port of a pair that the driver does not use.
        let count = plant.queues.len() as u64 / 2;
        let pair = plant.random.below(count) as usize;
        plant.say(|| format!("the port of pair {pair} is gone"));
        plant.fails();
        plant.networks[pair].die();
        Ok(())
    }

    pub(crate) fn say_and(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Vmm) -> Result<(), String>,
    ) -> Result<(), String> {
        self.say(|| what.to_owned());
        act(&mut self.vmm)
    }

    /// Saves the device and goes on in another one. Often nothing else happens then: what was lost
    /// on the way has to be made up for without help.
    fn cut(&mut self) -> Result<(), String> {
        self.say(|| "the device is saved and restored in another place".to_owned());
        self.cuts += 1;
        let marks = self.vmm.device.is_dirty_logging();
        self.vmm.migrate()?;
        // The other device marks what it writes.
        let ledger = self.ledger.iter_mut();
        ledger.filter(|_| !marks).for_each(Ledger::is_stale);
        self.moves_frozen()?;
        if self.below(2) == 0 {
            self.quiesce();
        }
        Ok(())
    }

    fn stop_or_start(&mut self) -> Result<(), String> {
        if let Some(index) = self.vmm.stopped.keys().next().copied() {
            let anew = self.below(2) == 0;
            self.say(|| format!("queue {index} starts, anew: {anew}"));
            if anew {
                self.forget_ring(index);
            }
            return self.vmm.start_queue(index, anew);
        }
        let count = lock(&self.plant).rings() as u64;
        let index = self.below(count) as u16;
        let features = self.vmm.features();
        if features.contains(Features::VIRTIO_F_RING_RESET) && self.below(2) == 0 {
            self.say(|| format!("the driver resets queue {index}"));
            self.vmm.reset_queue(index)?;
            self.forget_ring(index);
            return Ok(());
        }
        self.say(|| format!("queue {index} stops"));
        self.vmm.stop_queue(index)
    }

    /// The driver takes what the device has used, and lays the ring out anew.
    fn forget_ring(&self, index: u16) {
        let mut plant = lock(&self.plant);
        let plant = &mut *plant;
        plant.broken = plant.broken.filter(|broken| *broken != usize::from(index));
        let last = match (plant.queues.get_mut(usize::from(index)), &mut plant.control) {
            (Some(queue), _) => {
                let last = queue.poll(usize::MAX).map(|_| ());
                queue.begin_again(&self.memory);
                last
            }
            (None, Some(control)) => {
                let last = control.look().map(|_| ());
                control.begin_again(&self.memory);
                last
            }
            (None, None) => Ok(()),
        };
        plant.check(last);
    }

    pub(crate) fn reset(&mut self) -> Result<(), String> {
        self.say(|| "the driver resets the device".to_owned());
        self.frozen = None;
        self.vmm.reset();
        lock(&self.plant).failing = false;
        let count = lock(&self.plant).rings() as u16;
        (0..count).for_each(|index| self.forget_ring(index));
        if let Some(control) = &mut lock(&self.plant).control {
            control.device_resets();
        }
        self.vmm.negotiate();
        let done = self.vmm.activate();
        self.look_at_first();
        done
    }
}

/// The rings of a driver that accepts `features`, and the limit that its frames pass.
fn make_driver(plant: &SharedPlant, memory: &TestMemory, profile: &Profile, features: Features) {
    let several = Features::VIRTIO_NET_F_MQ | Features::VIRTIO_NET_F_RSS;
    let several = features.intersects(several);
    let pairs = if several { profile.pairs } else { 1 };
    let mergeable = features.contains(Features::VIRTIO_NET_F_MRG_RXBUF);
    let config = ring_config(features, profile.size);
    let kinds = Kinds {
        partial: features.contains(Features::VIRTIO_NET_F_CSUM),
        ..profile.kinds
    };
    let commands = Commands::of(features, pairs);
    let moderated = commands.notf_coal;
    let queue = |index| DriverQueue::new(memory, index, config, moderated, mergeable, kinds);
    let control = || ControlQueue::new(memory, 2 * pairs, config, commands);
    let mut plant = lock(plant);
    plant.queues = (0..2 * pairs).map(queue).collect();
    if commands.steers {
        plant.deliver_together();
    }
    let commanded = features.contains(Features::VIRTIO_NET_F_CTRL_VQ);
    plant.control = commanded.then(control);
    // Frames of a group have taken their tokens before they leave.
    let alone = profile.tx_limit.filter(|_| !profile.kinds.groups);
    plant.limits = Limits::new(profile.rx_limit, alone, profile.pairs);
}
