//! One front-end's session: requests in, the device driven, answers out.
//!
//! ```text
//!   no features --SET_FEATURES--> negotiated --first ring runs--> activated --other features, reset, end--> ...
//! ```
//!
//! The device is activated without any queue as soon as one ring may run; rings then start and stop
//! one by one, as [`Vring::target`] says. Every request either takes effect as a whole or leaves
//! the session as it was, but that a ring which cannot be started stays stopped.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use net_device::{
    ActivateError, FeatureError, MemoryChangeError, MigrateError, NetDevice, ResumeError,
    StartQueueError, StopQueueError, VirtioDevice,
};
use vhost::vhost_user::message::VhostUserProtocolFeatures;

use crate::protocol::device_state::{Transfer, TransferError};
use crate::protocol::dirty_log::DirtyBitmap;
use crate::protocol::disabled_rings::DisabledRings;
use crate::protocol::inflight::InflightRegion;
use crate::protocol::interrupts::Interrupts;
use crate::protocol::iotlb::Iotlb;
use crate::protocol::memory_table::{MapError, MemoryError, MemoryTable};
use crate::protocol::vring::{RingError, Vring};

mod activation;
mod channel;
mod config;
mod device_state;
mod disabled;
mod dispatch;
mod inflight;
mod iommu;
mod memory;
mod negotiation;
mod rings;
#[cfg(test)]
mod tests;
mod watch;

/// Protocol features that are offered: each has its code in this crate.
pub const PROTOCOL_FEATURES: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::LOG_SHMFD)
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::MTU)
    .union(VhostUserProtocolFeatures::RARP)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(VhostUserProtocolFeatures::DEVICE_STATE)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD);

/// Reasons to refuse a request.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Bits that were not offered.
    #[error("{0} {1:#x} were not offered")]
    NotOffered(&'static str, u64),
    /// The set is none that a driver may accept.
    #[error("unusable features")]
    Features(#[from] FeatureError),
    /// The device would have to change under its driver.
    #[error("features cannot change while a ring runs")]
    FeaturesInUse,
    /// No such ring.
    #[error("there is no ring {ring}; with --queue-pairs {pairs} the last one is ring {last}")]
    NoRing {
        /// The ring's number.
        ring: u32,
        /// Queue pairs of the device.
        pairs: u16,
        /// Number of its last ring.
        last: usize,
    },
    /// A parameter of a ring.
    #[error("ring {0}")]
    Ring(u32, #[source] RingError),
    /// The device is not activated.
    #[error("the device refuses")]
    Activate(#[from] ActivateError),
    /// The device does not go on from the state that was loaded.
    #[error("the device refuses")]
    Resume(#[from] ResumeError),
    /// The device does not start a ring.
    #[error("the device refuses")]
    StartQueue(#[from] StartQueueError),
    /// The device does not stop a ring.
    #[error("the device refuses")]
    StopQueue(#[from] StopQueueError),
    /// The device does not go on in other memory.
    #[error("the device refuses")]
    MemoryChange(#[from] MemoryChangeError),
    /// The memory table.
    #[error("unusable memory table")]
    Memory(#[from] MemoryError),
    /// The memory table, as the device sees it.
    #[error("unusable memory table")]
    Ram(#[from] net_device::net_queue::RamError),
    /// The table does not have the memory of a running ring.
    #[error("a ring runs in memory that goes away")]
    MemoryInUse,
    /// Features or memory are missing.
    #[error("features and memory have to be known before a ring runs")]
    NotReady,
    /// The dirty log.
    #[error("unusable dirty log")]
    Log(#[source] MapError),
    /// The dirty log's memory was taken away while it was in use.
    #[error("the memory of the dirty log is not there any more")]
    LogLost,
    /// The dirty log has no bit for some of the memory.
    #[error("the dirty log ends before the guest's memory does, at {0:#x}")]
    ShortLog(u64),
    /// A write to the configuration space.
    #[error("the configuration space is read-only")]
    ReadOnly,
    /// An MTU that is none, or that comes too late.
    #[error("MTU {0} is not within 68 to 65535, or comes while a ring runs")]
    Mtu(u64),
    /// The descriptor for requests of the back-end.
    #[error("the back-end's channel is not a connected unix stream socket")]
    Channel,
    /// A descriptor cannot be made ready.
    #[error("unusable descriptor")]
    Descriptor(#[source] io::Error),
    /// The in-flight region.
    #[error("unusable in-flight region")]
    Inflight(#[source] MapError),
    /// The device has fewer rings, or smaller ones.
    #[error("no in-flight region for {queues} rings of {queue_size} descriptors")]
    NoInflight {
        /// Number of rings.
        queues: u16,
        /// Descriptors of each.
        queue_size: u16,
    },
    /// Rings would go on without their positions being kept.
    #[error("the in-flight region cannot change while a ring runs")]
    InflightInUse,
    /// A message about translations that cannot be right.
    #[error("{0}")]
    Iotlb(&'static str),
    /// The device's state cannot be transferred as asked.
    #[error("the device's state cannot be transferred")]
    Transfer(#[from] TransferError),
    /// The device's state would change under the transfer.
    #[error("the device's state cannot be transferred while a ring runs")]
    StateInUse,
    /// No transfer in this direction, or not at this time.
    #[error("no transfer of the device's state has direction {direction} and phase {phase}")]
    NoTransfer {
        /// As the front-end numbers it.
        direction: u32,
        /// Likewise.
        phase: u32,
    },
    /// The device cannot be saved, or the state is not one that it can have.
    #[error("the device refuses")]
    State(#[from] MigrateError),
}

impl SessionError {
    /// Returns whether a front-end that asked for no answer may go on: what it asked has no effect,
    /// and it need not know.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::ReadOnly)
    }
}

/// Everything that is known between one front-end's connect and its disconnect.
///
/// Dropping it resets the device, which touches nothing of the front-end's afterwards.
#[derive(Debug)]
pub struct Session<'a> {
    device: &'a mut NetDevice,
    interrupts: Arc<Interrupts>,
    /// As the front-end set them, transport bits included.
    features: Option<u64>,
    protocol: VhostUserProtocolFeatures,
    memory: MemoryTable,
    log: Option<DirtyBitmap>,
    rings: Vec<Vring>,
    disabled: DisabledRings,
    /// Descriptor to signal that a ring is broken.
    errors: Vec<Option<File>>,
    /// For requests of the back-end.
    channel: Option<UnixStream>,
    activated: bool,
    /// Memory that can shrink is refused.
    require_sealed: bool,
    /// Transfer of the device's state that the front-end has asked for last.
    transfer: Option<Transfer>,
    /// The device has a state from elsewhere.
    restored: bool,
    /// Memory in which positions of rings outlive this process.
    inflight: Option<InflightRegion>,
    /// Translations of the driver's addresses, where they are offered.
    iotlb: Option<Arc<Iotlb>>,
    /// A question about one waits until the front-end reads.
    unsent: bool,
    /// Descriptor for the next answer.
    reply_fd: Option<OwnedFd>,
}

impl<'a> Session<'a> {
    /// A session that knows nothing yet, with a device that has no driver.
    ///
    /// # Errors
    /// No event descriptor can be made.
    pub fn new(device: &'a mut NetDevice) -> io::Result<Self> {
        Self::with_call_sockets(device, true)
    }

    /// As [`Session::new`]; `sockets` says whether rings may be interrupted through sockets, see
    /// [`Interrupts::new`].
    ///
    /// # Errors
    /// As for [`Session::new`].
    pub fn with_call_sockets(device: &'a mut NetDevice, sockets: bool) -> io::Result<Self> {
        let rings = Vring::all(device.queue_max_sizes());
        Ok(Self {
            interrupts: Arc::new(Interrupts::new(rings.len(), sockets)?),
            features: None,
            protocol: VhostUserProtocolFeatures::empty(),
            memory: MemoryTable::default(),
            log: None,
            errors: rings.iter().map(|_| None).collect(),
            rings,
            disabled: DisabledRings::default(),
            channel: None,
            activated: false,
            require_sealed: false,
            transfer: None,
            restored: false,
            inflight: None,
            iotlb: None,
            unsent: false,
            reply_fd: None,
            device,
        })
    }

    /// The same session, which refuses memory that can shrink if it is so `required`.
    #[must_use]
    pub fn requiring_sealed(mut self, required: bool) -> Self {
        self.require_sealed = required;
        self
    }

    /// The events of the session; [`Interrupts::config_event`] wakes the caller to call
    /// [`Session::config_changed`].
    #[must_use]
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// The device, for what is none of the front-end's business.
    pub fn device(&mut self) -> &mut NetDevice {
        self.device
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.begin_anew();
        self.device.set_driver_mtu(None);
    }
}
