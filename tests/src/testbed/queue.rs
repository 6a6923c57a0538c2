//! One virtqueue as the driver holds it.

use net_device::net_queue::ring::RingConfig;
use net_device::{Cursor, QueueSetup};
use net_queue::testing::{GuestRing, Interrupts, Piece, TestMemory, Used};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::testbed::Irq;

/// A ring, and the event that tells the device of it.
#[derive(Debug)]
pub struct Queue {
    /// Its index.
    pub index: u16,
    /// The driver's end.
    pub ring: GuestRing,
    kick: EventFd,
    /// Chains that came back and were not asked for yet.
    pub used: Vec<Used>,
}

/// Use of interrupts by a wait for used chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupting {
    /// It does: the driver asks for them and looks only then.
    Yes,
    /// The driver wants none, and looks now.
    No,
}

impl Queue {
    /// Lays a ring out in `memory`; of `config` all but the addresses counts.
    #[must_use]
    pub fn new(memory: &TestMemory, index: u16, config: RingConfig) -> Self {
        Self {
            index,
            ring: GuestRing::new(memory, config),
            kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made"),
            used: Vec::new(),
        }
    }

    /// Set-up that the VMM hands to the device.
    #[must_use]
    pub fn setup(&self) -> QueueSetup {
        self.setup_at(self.ring.config().cursor)
    }

    /// The same, for a device that goes on at `cursor`.
    #[must_use]
    pub fn setup_at(&self, cursor: Cursor) -> QueueSetup {
        let kick = self.kick.try_clone().expect("an eventfd can be duplicated");
        let config = self.ring.config();
        let any = virtio_queue::Queue::default();
        QueueSetup {
            size: config.size,
            addrs: config.addrs,
            cursor,
            ..QueueSetup::from_queue(self.index, &any, kick)
        }
    }

    /// Gives the queue an event of its own in another VMM; what the old one holds is lost.
    pub fn rewire(&mut self) {
        self.kick = EventFd::new(EFD_NONBLOCK).expect("an eventfd can be made");
    }

    /// Tells the device, whether or not it asked for it.
    pub fn kick(&self) {
        self.kick.write(1).expect("a kick does not overflow");
    }

    /// Adds a chain and shows it to the device, which is told if it asked for that.
    pub fn post(&mut self, pieces: &[Piece]) {
        self.ring.add(pieces);
        self.publish();
    }

    /// Shows the device all chains added, and tells it if it asked for that.
    pub fn publish(&mut self) {
        if self.ring.publish() {
            self.kick();
        }
    }

    /// Waits until `count` more chains were used, and takes all there are.
    pub fn wait_used(&mut self, irq: &Irq, count: usize) -> Vec<Used> {
        let what = format!("{count} used chains of queue {}", self.index);
        irq.wait_until(&what, || self.look(count, Interrupting::Yes));
        std::mem::take(&mut self.used)
    }

    /// Collects what was used; whether that makes `count` chains.
    pub fn look(&mut self, count: usize, interrupting: Interrupting) -> bool {
        self.used.extend(self.ring.poll_all());
        if self.used.len() < count && interrupting == Interrupting::Yes {
            self.ring.ask(Interrupts::Always);
            // Some may have come before the device could see the wish.
            self.used.extend(self.ring.poll_all());
        }
        self.used.len() >= count
    }
}
