//! Ports of a device, each into a network of the plant, and the way of its interrupts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError,
};
use net_device::{Interrupt, InterruptSource, Port, PortControl};
use tests::testbed::all_caps;

use crate::frames;
use crate::plant::{SharedPlant, gone, lock};

/// The device's end of a network.
struct Backend {
    plant: SharedPlant,
    pair: usize,
    groups: bool,
    /// Names the backend, and hangs up when the network is gone.
    end: UnixStream,
}

impl FrameBackend for Backend {
    fn caps(&self) -> Caps {
        let kinds = [Offloads::TSO4, Offloads::TSO6, Offloads::USO4];
        let coalesce = kinds.into_iter().filter(|_| self.groups).collect();
        Caps {
            coalesce,
            ..all_caps()
        }
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
        self.end.as_fd()
    }

    fn check(&self) -> io::Result<()> {
        if lock(&self.plant).networks[self.pair].is_dead() {
            return Err(gone());
        }
        Ok(())
    }
}

struct Steered {
    plant: SharedPlant,
    pair: usize,
}

impl PortControl for Steered {
    fn attach(&self, on: bool) -> io::Result<()> {
        let mut plant = lock(&self.plant);
        plant.say(|| format!("  network {} delivers: {on}", self.pair));
        plant.networks[self.pair].attach(on);
        let flow = frames::flow_into(self.pair, frames::PLAIN);
        if on && !plant.calm && plant.random.below(2) == 0 {
            plant.networks[self.pair].arrive(flow, frames::SHORTEST, 1);
        }
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

/// A port into network `pair`.
pub(crate) fn port(plant: &SharedPlant, pair: usize, groups: bool) -> Port {
    let (end, far) = UnixStream::pair().expect("a socket can be made");
    lock(plant).networks[pair].end = Some(far);
    let (plant, shared) = (plant.clone(), plant.clone());
    let control = Steered { plant, pair };
    let backend = Backend {
        plant: shared,
        pair,
        groups,
        end,
    };
    Port::new(Box::new(backend), Box::new(control))
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
