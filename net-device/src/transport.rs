//! Seam to a VMM: the device trait, and what the VMM hands in.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use net_queue::ring::{Cursor, RingAddrs};
use net_queue::{AccessPlatform, GuestRam};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

use crate::error::ActivateError;
use crate::features::FeatureError;

/// Device type of a network card. VirtIO 1.4 §5.
pub const VIRTIO_ID_NET: u32 = 1;

/// Source of an interrupt. VirtIO 1.4 §2.3 (VQ-NTF-14).
///
/// Exhaustive on purpose: a transport that does not route each of them loses interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptSource {
    /// The queue of this index has used buffers.
    Queue(u16),
    /// The configuration space or the device status changed.
    Config,
}

/// Delivers interrupts to the guest.
///
/// | called by | for |
/// |---|---|
/// | a worker's thread, several at once, under its seccomp filter | used buffers; a ring that is broken, a port that is gone, a panic |
/// | the thread that takes a turn of an [`EventWorker`](crate::EventWorker) | the same, in a device without threads |
/// | the thread that calls the device, before its call returns | link, announcement and resumption; an activation or a change of memory that fails |
///
/// So what it may do is to write to an event descriptor or a socket that is open, and to lock what
/// is held for a moment. It must not wait for any of these threads and not call or lock the device.
/// A [`DeviceHandle`](crate::DeviceHandle) tells it what it may need: whether the driver is to be
/// shown DEVICE_NEEDS_RESET is known there, with the reason, before a configuration interrupt says
/// so.
pub trait Interrupt: Send + Sync {
    /// Tells the driver.
    ///
    /// # Errors
    /// It could not be told.
    fn trigger(&self, source: InterruptSource) -> io::Result<()>;

    /// Makes calls of [`Interrupt::trigger`] that wait in other threads return.
    ///
    /// Called by a thread that has told a worker to stop, again and again until it does. One whose
    /// descriptors nobody else can make block never waits, and needs not implement it.
    fn unblock(&self) {}
}

/// One queue as the driver set it up.
#[derive(Debug)]
pub struct QueueSetup {
    /// Its index: receive queues are even, transmit queues odd, the control queue comes last.
    pub index: u16,
    /// Number of descriptors.
    pub size: u16,
    /// Addresses of its parts.
    pub addrs: RingAddrs,
    /// Position to go on at; the default for a fresh queue.
    pub cursor: Cursor,
    /// Readable when the driver kicks.
    pub kick: OwnedFd,
}

impl QueueSetup {
    /// Takes what a VMM's transport collected in a `virtio_queue::Queue`.
    #[must_use]
    pub fn from_queue(index: u16, queue: &virtio_queue::Queue, kick: EventFd) -> Self {
        Self {
            index,
            size: queue.size(),
            addrs: RingAddrs {
                desc: queue.desc_table(),
                driver: queue.avail_ring(),
                device: queue.used_ring(),
            },
            cursor: Cursor {
                avail: queue.next_avail(),
                used: Some(queue.next_used()),
                ..Cursor::default()
            },
            kick: crate::fd::into_owned(kick),
        }
    }

    /// Puts the position at which a queue was stopped back into a transport's `queue`, so that
    /// [`QueueSetup::from_queue`] goes on from there. A position in a packed ring has wrap
    /// counters, which `virtio_queue::Queue` does not hold: keep the [`Cursor`] itself.
    pub fn write_back(cursor: &Cursor, queue: &mut virtio_queue::Queue) {
        queue.set_next_avail(cursor.avail);
        queue.set_next_used(cursor.used.unwrap_or(cursor.avail));
    }
}

mod notification;
#[cfg(test)]
mod tests;

pub use notification::NotificationData;

/// Memory, interrupt and queues of an activation.
pub struct Activation {
    /// Guest memory, resolved. When it changes, see
    /// [`NetDevice::set_memory`](crate::NetDevice::set_memory).
    pub memory: GuestRam,
    /// Path of interrupts to the guest.
    pub interrupt: Arc<dyn Interrupt>,
    /// The queues that the driver enabled.
    pub queues: Vec<QueueSetup>,
}

impl std::fmt::Debug for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Activation")
            .field("memory", &self.memory)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

/// A virtio device as a VMM's transport drives it. VirtIO 1.4 §3.1.
pub trait VirtioDevice: Send {
    /// Device type id.
    fn device_type(&self) -> u32;

    /// The most descriptors of each queue; its length is the number of queues there can be.
    fn queue_max_sizes(&self) -> &[u16];

    /// Feature bits that are offered.
    fn features(&self) -> u128;

    /// Takes the whole set that the driver accepted, when it sets FEATURES_OK; a transport whose
    /// register takes it in words collects them in [`FeatureWords`](crate::FeatureWords). When it
    /// is refused, FEATURES_OK has to stay clear (NET-FEAT-02, NET-FEAT-06, NET-FEAT-07); once the
    /// device is activated nothing changes (NET-FEAT-08). A legacy driver sets no FEATURES_OK: what
    /// it has written by DRIVER_OK is its set.
    ///
    /// # Errors
    /// Names what is wrong with the set.
    fn ack_features(&mut self, features: u128) -> Result<(), FeatureError>;

    /// Feature bits that the driver accepted.
    fn acked_features(&self) -> u128;

    /// Reads the configuration space; bytes past its end are 0 (NET-CFG-16).
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Does nothing: the whole space is read-only (NET-CFG-02), but for the MAC address of a legacy
    /// driver that has no command for it.
    fn write_config(&mut self, offset: u64, data: &[u8]);

    /// Another number than at the last call if the configuration space has changed in between, also
    /// in its lowest byte, which is all that PCI shows (DEV-LIFE-08). To be called when the driver
    /// reads the register, and only then.
    fn config_generation(&self) -> u32;

    /// Returns whether DEVICE_NEEDS_RESET is to be shown in the device status (DEV-LIFE-04). Only a
    /// reset changes that, and not even a reset once a worker is lost.
    fn needs_reset(&self) -> bool;

    /// DRIVER_OK: starts the workers. When it fails, nothing has been started.
    ///
    /// A driver has no answer to DRIVER_OK but the device status: after a failure
    /// DEVICE_NEEDS_RESET is shown, a configuration interrupt says so (DEV-LIFE-05), and nothing
    /// but a reset leads to another attempt. Only a device that was restored, whose driver waits
    /// for nothing, can be activated again as it is.
    ///
    /// # Errors
    /// Names the queue or the part that cannot be used.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Back to the state before any driver; afterwards neither guest memory nor the interrupt is
    /// touched (DEV-LIFE-02). Gives the interrupt back.
    fn reset(&mut self) -> Option<Arc<dyn Interrupt>>;

    /// Counters by name, since the device was made: `rx_bytes`, `rx_frames`, `tx_bytes`,
    /// `tx_frames` and drops by direction and cause.
    fn counters(&self) -> Vec<(String, u64)>;

    /// Translates the driver's addresses from the next activation on.
    fn set_access_platform(&mut self, platform: Arc<dyn AccessPlatform>);
}
