//! Everything around the device that its callbacks reach: the driver's queues, the network, and the
//! interrupts between them. One lock holds it, so that a driver or a network can act in the middle
//! of a worker's turn.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError,
};
use net_device::{Interrupt, InterruptSource, Port, PortControl};
use net_queue::testing::Random;
use tests::testbed::all_caps;

use crate::fault::Fault;
use crate::frames;
use crate::queue::DriverQueue;

/// The network behind one pair.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Frames that have arrived, by length.
    pub(crate) arriving: VecDeque<(u64, usize)>,
    next: u64,
    /// Frames that there is room for.
    pub(crate) room: u32,
    /// A frame arrived since the VMM looked.
    pub(crate) arrived: bool,
    /// Somebody asked for room when there was none.
    pub(crate) wants_room: bool,
    /// There is room again since the VMM looked, and somebody asked.
    pub(crate) has_room: bool,
    /// Frames that it refused to send: the device has to have counted them.
    pub(crate) refused: u64,
    /// Frames that it lost: likewise.
    pub(crate) lost: u64,
}

impl Network {
    pub(crate) fn arrive(&mut self, len: usize) {
        self.arriving.push_back((self.next, len));
        self.next += 1;
        self.arrived = true;
    }

    /// Makes room, and tells who waits for it as a tap does: those who asked when there was none.
    pub(crate) fn make_room(&mut self, frames: u32) {
        self.room += frames;
        self.has_room |= self.room > 0 && std::mem::take(&mut self.wants_room);
    }
}

/// Driver and networks around the device.
#[derive(Debug)]
pub(crate) struct Plant {
    pub(crate) random: Random,
    pub(crate) queues: Vec<DriverQueue>,
    pub(crate) networks: Vec<Network>,
    /// First thing that went wrong.
    pub(crate) violation: Option<String>,
    /// No new trouble: nothing is refused, and nobody acts in the middle of a turn.
    pub(crate) calm: bool,
    pub(crate) trace: bool,
    pub(crate) fault: Option<Fault>,
    /// No interrupt arrives.
    pub(crate) is_mute: bool,
    /// Pairs that receive: those below this number (NET-MQ-02).
    pub(crate) receiving: usize,
    /// Life of the device that may interrupt.
    pub(crate) life: u64,
}

pub(crate) type SharedPlant = Arc<Mutex<Plant>>;

pub(crate) fn lock(plant: &SharedPlant) -> MutexGuard<'_, Plant> {
    plant.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plant {
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

    /// The driver acts while the device is at work.
    fn meanwhile(&mut self) {
        if self.calm || self.random.below(8) != 0 {
            return;
        }
        let queue = self.random.below(self.queues.len() as u64) as usize;
        self.say(|| format!("  meanwhile the driver of {queue}"));
        self.step_driver(queue);
    }

    /// A step of the driver of one queue.
    pub(crate) fn step_driver(&mut self, queue: usize) {
        let done = self.queues[queue].step(&mut self.random);
        self.check(done);
    }

    fn send(&mut self, pair: usize, frame: &Gather<'_>) -> Result<(), SendError> {
        self.meanwhile();
        let network = &mut self.networks[pair];
        if !self.calm && self.random.below(32) == 0 || network.room == 0 {
            self.say(|| format!("  network {pair} has no room"));
            return Err(SendError::WouldBlock);
        }
        let refuses = !self.calm && self.random.below(64) == 0;
        let mut bytes = vec![0; frame.len()];
        frame.copy_to(&mut bytes)?;
        let queue = &mut self.queues[2 * pair + 1];
        let number = frames::number(&bytes);
        let taken = number.clone().and_then(|number| queue.taken(number));
        self.say(|| format!("  network {pair}: {number:?} sent, refused: {refuses}"));
        self.check(taken);
        let network = &mut self.networks[pair];
        if refuses {
            network.refused += 1;
            return Err(SendError::Refused);
        }
        network.room -= 1;
        Ok(())
    }

    fn recv(&mut self, pair: usize, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.meanwhile();
        let loses = !self.calm && self.random.below(64) == 0;
        let arrived = self.networks[pair].arriving.pop_front();
        let (number, len) = arrived.ok_or(RecvError::WouldBlock)?;
        self.say(|| format!("  network {pair}: {number} received, lost: {loses}"));
        if loses {
            self.networks[pair].lost += 1;
            return Err(RecvError::Lost);
        }
        self.queues[2 * pair].waiting.push_back(number);
        let bytes = frames::build(number, len);
        Ok(room.write_at(0, &bytes)?)
    }

    fn interrupt(&mut self, source: InterruptSource) {
        self.say(|| format!("  interrupt {source:?}"));
        let lost = self.happens(Fault::LostInterrupt) || self.is_mute;
        if let InterruptSource::Queue(index) = source
            && let Some(queue) = self.queues.get_mut(usize::from(index))
            && !lost
        {
            queue.interrupted = true;
        }
        self.meanwhile();
    }
}

/// The device's end of a network.
struct Backend {
    plant: SharedPlant,
    pair: usize,
    /// Names the backend: nothing ever happens to it.
    name: OwnedFd,
}

impl FrameBackend for Backend {
    fn caps(&self) -> Caps {
        all_caps()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        lock(&self.plant).send(self.pair, frame)
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        lock(&self.plant).recv(self.pair, room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.name.as_fd()
    }
}

struct Steered;

impl PortControl for Steered {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

/// A port into network `pair`.
pub(crate) fn port(plant: &SharedPlant, pair: usize) -> Port {
    let name = UnixDatagram::unbound().expect("a socket can be made");
    let backend = Backend {
        plant: plant.clone(),
        pair,
        name: name.into(),
    };
    Port::new(Box::new(backend), Box::new(Steered))
}

/// The path of interrupts from one life of the device.
pub(crate) struct Interrupts {
    pub(crate) plant: SharedPlant,
    pub(crate) life: u64,
}

impl Interrupt for Interrupts {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let mut plant = lock(&self.plant);
        if plant.life == self.life {
            plant.interrupt(source);
        } else {
            plant.check(Err("a device that is gone interrupts".to_owned()));
        }
        Ok(())
    }
}
