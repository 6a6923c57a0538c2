//! Everything around the device that its callbacks reach: the driver's queues, the network, and the
//! interrupts between them. One lock holds it, so that a driver or a network can act in the middle
//! of a worker's turn.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::InterruptSource;
use net_device::net_queue::{Gather, RecvError, Scatter, SendError};
use net_queue::testing::packets::Sums;
use net_queue::testing::{GuestRing, Random};

use crate::control::ControlQueue;
use crate::fault::Fault;
use crate::frames;
use crate::limits::Limits;
use crate::network::{Arrival, Network};
use crate::passage::{Incoming, incoming};
use crate::queue::DriverQueue;
use crate::suspension::StoppedBy;

/// Driver and networks around the device.
#[derive(Debug)]
pub(crate) struct Plant {
    pub(crate) random: Random,
    pub(crate) queues: Vec<DriverQueue>,
    pub(crate) control: Option<ControlQueue>,
    /// Queues are stopped.
    pub(crate) unsteady: bool,
    pub(crate) networks: Vec<Network>,
    pub(crate) limits: Limits,
    pub(crate) now: u64,
    /// First thing that went wrong.
    pub(crate) violation: Option<String>,
    /// No new trouble: nothing is refused, and nobody acts in the middle of a turn.
    pub(crate) calm: bool,
    pub(crate) trace: bool,
    pub(crate) fault: Option<Fault>,
    /// No interrupt arrives.
    pub(crate) is_mute: bool,
    /// The device was restored: it tells the network where its guest is.
    pub(crate) restored: bool,
    /// A port is gone, or a ring is broken: the device may need a reset.
    pub(crate) failing: bool,
    /// Ring that the driver broke, until it is laid out anew.
    pub(crate) broken: Option<usize>,
    /// Sides that have stopped the device.
    pub(crate) stopped_by: StoppedBy,
    /// Queues that the driver has reset.
    pub(crate) reset: BTreeSet<u16>,
    /// The driver was interrupted for the configuration, and has not looked.
    pub(crate) config_changed: bool,
    /// Life of the device that may interrupt.
    pub(crate) life: u64,
}

pub(crate) type SharedPlant = Arc<Mutex<Plant>>;

pub(crate) fn lock(plant: &SharedPlant) -> MutexGuard<'_, Plant> {
    plant.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plant {
    /// Networks for so many pairs, and no driver yet.
    pub(crate) fn new(random: Random, pairs: u16) -> Self {
        Self {
            random,
            queues: Vec::new(),
            networks: (0..pairs).map(|_| Network::default()).collect(),
            violation: None,
            calm: false,
            trace: false,
            fault: None,
            is_mute: false,
            life: 0,
            control: None,
            unsteady: false,
            limits: Limits::default(),
            now: 0,
            failing: false,
            broken: None,
            stopped_by: StoppedBy::default(),
            reset: BTreeSet::new(),
            config_changed: false,
            restored: false,
        }
    }

    /// Returns whether a fault of one in 64 happens now.
    pub(crate) fn happens(&mut self, fault: Fault) -> bool {
        self.fault == Some(fault) && self.random.below(64) == 0
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{}", what());
        }
    }

    pub(crate) fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.say(|| format!("  VIOLATION {what}"));
            self.violation.get_or_insert(what);
        }
    }

    /// The driver acts while the device is at work, about every `often`th time.
    pub(crate) fn meanwhile(&mut self, often: u64) {
        if self.calm {
            if self.random.below(4) == 0 {
                self.post_last();
            }
            return;
        }
        if self.random.below(often) != 0 {
            return;
        }
        let count = self.rings() as u64;
        let queue = self.random.below(count) as usize;
        self.say(|| format!("  meanwhile the driver of {queue}"));
        self.step_driver(queue);
    }

    /// Lets the driver post one of its last chains; returns whether there was one.
    pub(crate) fn post_last(&mut self) -> bool {
        let (random, failing) = (&mut self.random, self.failing);
        if self.queues.iter_mut().any(|queue| queue.post_last(random)) {
            self.say(|| "  one of the last chains is posted".to_owned());
            return true;
        }
        let control = self.control.as_mut();
        let given = control.map_or(Ok(false), |control| control.step_last(random, failing));
        let gives = *given.as_ref().unwrap_or(&false);
        self.check(given.map(|_| ()));
        gives
    }

    /// Breaks ring `queue` if there is room for that.
    pub(crate) fn break_ring(&mut self, queue: usize) -> bool {
        let random = &mut self.random;
        match (self.queues.get_mut(queue), &mut self.control) {
            (Some(queue), _) => queue.break_ring(random),
            (None, Some(control)) => control.break_ring(random),
            (None, None) => false,
        }
    }

    /// Returns whether a ring is broken that the device has to have looked at once the world is at
    /// rest. Nothing is received without a frame.
    pub(crate) fn breaks_device(&self) -> bool {
        let receives = |index| self.queues.get(index).is_some_and(DriverQueue::is_rx);
        self.broken.is_some_and(|index| !receives(index))
    }

    /// The device is reset, or goes on elsewhere.
    pub(crate) fn device_ends(&self) {
        let queues = self.queues.iter();
        queues.for_each(|queue| incoming(&queue.incoming).device_ends());
    }

    /// Frames of every network may come to any pair.
    pub(crate) fn deliver_together(&mut self) {
        let together = Arc::new(Mutex::new(Incoming::together()));
        for queue in &mut self.queues {
            queue.incoming = together.clone();
        }
    }

    /// Number of rings, that of commands included.
    pub(crate) fn rings(&self) -> usize {
        self.queues.len() + usize::from(self.control.is_some())
    }

    /// The driver's end of ring `index`.
    pub(crate) fn ring(&self, index: usize) -> &GuestRing {
        match (self.queues.get(index), &self.control) {
            (None, Some(control)) => &control.ring,
            (queue, _) => &queue.expect("there is such a queue").ring,
        }
    }

    /// Takes note of a kick of ring `index` that nobody has heard of.
    pub(crate) fn take_kick(&mut self, index: usize) -> bool {
        let kicked = match (self.queues.get_mut(index), &mut self.control) {
            (Some(queue), _) => &mut queue.kicked,
            (None, Some(control)) => &mut control.kicked,
            (None, None) => return false,
        };
        std::mem::take(kicked)
    }

    /// The device may need a reset from now on, and runs no queue that is broken.
    pub(crate) fn fails(&mut self) {
        self.failing = true;
        if let Some(control) = &mut self.control {
            control.queue_stops();
        }
    }

    /// A queue stops, and is missed until it is started.
    pub(crate) fn queue_stops(&mut self) {
        self.unsteady = true;
        if let Some(control) = &mut self.control {
            control.queue_stops();
        }
    }

    /// A worker begins a turn, in which no interrupt arrives if it `is_mute`.
    pub(crate) fn turn_begins(&mut self, is_mute: bool) {
        self.is_mute = is_mute;
        let queues = self.queues.iter_mut();
        queues.for_each(|queue| queue.listener.turn_begins(&queue.ring));
        let control = self.control.iter_mut();
        control.for_each(|control| control.listener.turn_begins(&control.ring));
    }

    /// The worker of `pair`, or that of the control queue, has ended its turn. It has no queue that
    /// `stands` still.
    pub(crate) fn turn_ends(&mut self, pair: Option<usize>, stands: impl Fn(u16) -> bool) {
        let queues = self.queues.iter_mut();
        let own = queues.filter(|queue| pair == Some(usize::from(queue.index / 2)));
        let own = own.filter(|queue| !stands(queue.index));
        own.for_each(|queue| queue.listener.turn_ends());
        let control = self.control.iter_mut().filter(|_| pair.is_none());
        control.for_each(|control| control.listener.turn_ends());
    }

    /// The owner of the device has acted: it may have stood still for a moment.
    pub(crate) fn owner_acts(&mut self) {
        let queues = self.queues.iter_mut();
        queues.for_each(DriverQueue::paused);
        let control = self.control.iter_mut();
        control.for_each(|control| control.listener.owner_acts());
        self.limits_stop();
    }

    /// Looks whether all drivers of a device that is suspended were told of what was done.
    ///
    /// # Errors
    /// One was not.
    pub(crate) fn are_told(&self) -> Result<(), String> {
        let mut queues = self.queues.iter();
        queues.try_for_each(|queue| queue.listener.is_told(&queue.ring))?;
        let mut control = self.control.iter();
        control.try_for_each(|control| control.listener.is_told(&control.ring))
    }

    /// Whatever was on its way between driver and device is lost.
    pub(crate) fn forget_notifications(&mut self) {
        self.config_changed = false;
        for queue in &mut self.queues {
            (queue.kicked, queue.listener.interrupted) = (false, false);
        }
        if let Some(control) = &mut self.control {
            (control.kicked, control.listener.interrupted) = (false, false);
        }
    }

    /// A step of the driver of one queue.
    pub(crate) fn step_driver(&mut self, queue: usize) {
        let done = match (self.queues.get_mut(queue), &mut self.control) {
            (Some(queue), _) => queue.step(&mut self.random),
            (None, Some(control)) => control.step(&mut self.random, self.unsteady || self.failing),
            (None, None) => Ok(()),
        };
        self.check(done);
    }

    /// Leaves the driver of one queue a few chains to post while the world comes to rest. Most are
    /// posted in the middle of a turn, and the last one is often followed by nothing that would
    /// make up for a look which a worker has forgotten.
    pub(crate) fn leave_some(&mut self) {
        let (some, at) = (self.random.below(4), self.rings() as u64);
        let at = self.random.below(at) as usize;
        match (self.queues.get_mut(at), &mut self.control) {
            (Some(queue), _) => queue.last = some,
            (None, Some(control)) => control.last = some,
            (None, None) => {}
        }
    }

    pub(crate) fn send(&mut self, pair: usize, frame: &Gather<'_>) -> Result<(), SendError> {
        self.meanwhile(8);
        let network = &mut self.networks[pair];
        if network.is_dead() {
            return Err(SendError::Dead(gone()));
        }
        if !self.calm && self.random.below(32) == 0 || network.room == 0 {
            self.say(|| format!("  network {pair} has no room"));
            return Err(SendError::WouldBlock);
        }
        let refuses = !self.calm && self.random.below(64) == 0;
        let mut bytes = vec![0; frame.len()];
        frame.copy_to(&mut bytes)?;
        if self.restored && frames::is_announcement(&bytes) {
            self.say(|| format!("  network {pair} hears where the guest is"));
            return Ok(());
        }
        self.check(self.stopped_by.may("send"));
        if frame.frames() > 1 && refuses {
            self.say(|| format!("  network {pair} refuses frames as one"));
            return Err(SendError::Refused);
        }
        let numbers = meaning(frame, &bytes);
        self.say(|| format!("  network {pair}: {numbers:?} sent, refused: {refuses}"));
        let queue = &mut self.queues[2 * pair + 1];
        let mut numbers = match numbers {
            Ok(numbers) => numbers.into_iter(),
            Err(what) => {
                self.check(Err(what));
                return Ok(());
            }
        };
        let taken = numbers.try_for_each(|number| queue.outgoing.taken(number));
        self.check(taken.map_err(|what| format!("queue {}: {what}", 2 * pair + 1)));
        let network = &mut self.networks[pair];
        if refuses {
            network.refused += 1;
            return Err(SendError::Refused);
        }
        network.room -= 1;
        let now = self.now;
        let limit = self.limits.tx.as_mut();
        let passed = limit.map_or(Ok(()), |limit| limit.pass(now, false));
        self.check(passed);
        Ok(())
    }

    pub(crate) fn recv(&mut self, pair: usize, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.meanwhile(8);
        if self.networks[pair].is_dead() {
            return Err(RecvError::Dead(gone()));
        }
        let loses = !self.calm && self.random.below(64) == 0;
        let arrived = self.networks[pair].arriving.pop_front();
        let Arrival { numbers, len } = arrived.ok_or(RecvError::WouldBlock)?;
        self.check(self.stopped_by.may_receive());
        self.say(|| format!("  network {pair}: {numbers:?} received, lost: {loses}"));
        if loses {
            self.networks[pair].lost += 1;
            return Err(RecvError::Lost);
        }
        let control = self.control.as_ref();
        let given = control.map_or(0, |control| control.given);
        let to = |number| control.and_then(|control| control.pair_of(pair, number));
        incoming(&self.queues[2 * pair].incoming).arrive(&numbers, given, to);
        let bytes = match *numbers {
            [number] if number % 3 == 0 => frames::build(number, len, Sums::Partial),
            [number] => frames::build(number, len, Sums::Complete),
            _ => frames::build_large(&numbers, len),
        };
        Ok(room.write_at(0, &bytes)?)
    }

    pub(crate) fn interrupt(&mut self, source: InterruptSource) {
        self.say(|| format!("  interrupt {source:?}"));
        self.check(self.stopped_by.may_interrupt(source));
        let lost = self.happens(Fault::LostInterrupt) || self.is_mute;
        match source {
            InterruptSource::Config => self.config_changed |= !lost,
            InterruptSource::Queue(index) if self.reset.contains(&index) => {
                self.check(Err(format!("queue {index} is reset, and interrupts")));
            }
            InterruptSource::Queue(_) => {}
        }
        if let (InterruptSource::Queue(index), false) = (source, lost) {
            let asked = match (self.queues.get_mut(usize::from(index)), &mut self.control) {
                (Some(queue), _) => queue.listener.is_interrupted(&queue.ring),
                (None, Some(control)) => control.listener.is_interrupted(&control.ring),
                (None, None) => Ok(()),
            };
            if !self.failing {
                self.check(asked);
            }
        }
        self.meanwhile(8);
    }
}

/// Numbers of the frames that leave as `bytes`: those that the device says it put together, each in
/// its own form, and those that they mean on the wire.
fn meaning(frame: &Gather<'_>, bytes: &[u8]) -> Result<Vec<u64>, String> {
    let numbers = frames::numbers(bytes)?;
    if frame.frames() == 1 {
        return Ok(numbers);
    }
    let mut single = vec![0; bytes.len()];
    let mut alone = Vec::new();
    for index in 0..frame.frames() {
        let len = frame.copy_frame(index, &mut single);
        let len = len.map_err(|_| "a frame of a group cannot be read")?;
        alone.extend(frames::numbers(&single[..len])?);
    }
    if alone == numbers {
        Ok(numbers)
    } else {
        Err(format!("frames {alone:?} leave as {numbers:?}"))
    }
}

/// A network that is gone.
pub(crate) fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotConnected)
}
