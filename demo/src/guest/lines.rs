//! Lines between guest and device besides memory: doorbells, the interrupt, and the places of the
//! rings.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::{Activation, GuestRam, Interrupt, QueueSetup};
use virtio_queue::Queue;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::arena::Arena;
use super::interrupt::GuestInterrupt;
use super::transport_error::TransportError;

/// The lines of one device, held by the driver and by the transport inside it.
pub(super) struct Lines {
    bells: Vec<Doorbell>,
    pub(super) interrupt: Arc<GuestInterrupt>,
    /// Queues as the driver has set them up.
    queues: Mutex<Vec<(u16, Queue)>>,
    /// Reason why the device did not come up: the driver crate does not read the status back.
    failure: Mutex<Option<TransportError>>,
}

impl Lines {
    /// Lines for a device with `queues` queues.
    pub(super) fn new(queues: usize) -> io::Result<Self> {
        Ok(Self {
            bells: (0..queues)
                .map(|index| Doorbell::new(index % 2 == 1))
                .collect::<Result<_, _>>()?,
            interrupt: Arc::new(GuestInterrupt::new()?),
            queues: Mutex::new(Vec::new()),
            failure: Mutex::new(None),
        })
    }

    /// The doorbell of a queue.
    pub(super) fn bell(&self, queue: u16) -> Option<&Doorbell> {
        self.bells.get(usize::from(queue))
    }

    /// The queues that the driver has set up.
    pub(super) fn queues(&self) -> MutexGuard<'_, Vec<(u16, Queue)>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory, interrupt and queues of this guest, for a device.
    pub(super) fn activation(&self) -> Result<Activation, TransportError> {
        let arena = Arena::global().map_err(TransportError::Memory)?;
        let mut queues = Vec::new();
        for (index, queue) in &*self.queues() {
            if let Some(bell) = self.bell(*index) {
                let kick = bell.kick_event().map_err(TransportError::Doorbell)?;
                queues.push(QueueSetup::from_queue(*index, queue, kick));
            }
        }
        Ok(Activation {
            memory: GuestRam::new(arena.memory()).map_err(TransportError::Ram)?,
            interrupt: Arc::clone(&self.interrupt) as Arc<dyn Interrupt>,
            queues,
        })
    }

    /// Ends a batch: rings what is owed.
    pub(super) fn flush(&self) {
        self.bells.iter().for_each(Doorbell::flush);
    }

    /// Rings every bell, asked for or not.
    pub(super) fn ring_all(&self) {
        self.bells.iter().for_each(Doorbell::ring);
    }

    /// Notes the first failure.
    pub(super) fn fail(&self, error: TransportError) {
        self.failure().get_or_insert(error);
    }

    /// Takes the failure, if there was one.
    pub(super) fn take_failure(&self) -> Option<TransportError> {
        self.failure().take()
    }

    fn failure(&self) -> MutexGuard<'_, Option<TransportError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notification of one queue.
///
/// The driver crate rings for every buffer. Within a batch the rings of a queue are owed and one is
/// enough at the end; only the first ring of a transmit queue goes out at once, so that the device
/// sends while the batch is still being made.
pub(super) struct Doorbell {
    event: EventFd,
    eager: bool,
    rung: AtomicBool,
    owed: AtomicBool,
}

impl Doorbell {
    fn new(eager: bool) -> io::Result<Self> {
        Ok(Self {
            eager,
            event: EventFd::new(EFD_NONBLOCK)?,
            rung: AtomicBool::new(false),
            owed: AtomicBool::new(false),
        })
    }

    /// The device's end.
    fn kick_event(&self) -> io::Result<EventFd> {
        self.event.try_clone()
    }

    /// A ring by the driver, now or when the batch ends.
    pub(super) fn notify(&self) {
        if self.eager && !self.rung.swap(true, Ordering::Relaxed) {
            self.ring();
        } else {
            self.owed.store(true, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        self.rung.store(false, Ordering::Relaxed);
        if self.owed.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    fn ring(&self) {
        // Fails only on a counter that is full, and then the device is woken anyway.
        let _ = self.event.write(1);
    }
}
