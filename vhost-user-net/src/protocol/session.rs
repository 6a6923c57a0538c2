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
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use net_device::{
    ActivateError, Activation, FeatureError, Features, Layout, MemoryChangeError, MigrateError,
    NetDevice, ResumeError, StartQueueError, StopQueueError, VirtioDevice,
};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};

use crate::protocol::device_state::{Transfer, TransferError};
use crate::protocol::dirty_log::DirtyBitmap;
use crate::protocol::disabled_rings::DisabledRings;
use crate::protocol::inflight::InflightRegion;
use crate::protocol::interrupts::Interrupts;
use crate::protocol::iotlb::{ACCESS_PLATFORM, Iotlb};
use crate::protocol::memory_table::{MAX_SLOTS, MapError, MemoryError, MemoryTable, check_sealed};
use crate::protocol::vring::{RingError, State, Vring};
use crate::protocol::wire::{Answer, Request, RingFd, RingValue};

mod channel;
mod config;
mod disabled;
mod inflight;
mod iommu;
mod memory;
mod rings;
#[cfg(test)]
mod tests;
mod transfer;
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

/// Feature bits that belong to the transport, and never reach the device.
const TRANSPORT_FEATURES: VhostUserVirtioFeatures = VhostUserVirtioFeatures::all();

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

    /// Makes sure that memory which comes with `request` may be used.
    fn check_seals(&self, request: &Request) -> Result<(), SessionError> {
        let check = |gpa: u64, fd: &OwnedFd| {
            check_sealed(fd.as_fd()).map_err(|source| MemoryError::Region { gpa, source })
        };
        match request {
            _ if !self.require_sealed => {}
            Request::SetMemTable(regions) => {
                for (region, fd) in regions {
                    check(region.guest_phys_addr, fd)?;
                }
            }
            Request::AddMemReg(region, fd) => check(region.guest_phys_addr, fd)?,
            Request::SetLogBase(_, fd) => check_sealed(fd.as_fd()).map_err(SessionError::Log)?,
            Request::SetInflightFd(_, fd) => {
                check_sealed(fd.as_fd()).map_err(SessionError::Inflight)?
            }
            _ => {}
        }
        Ok(())
    }

    /// Feature bits that are offered: the device's and the transport's.
    #[must_use]
    pub fn offered_features(&self) -> u64 {
        // The protocol has no place for those above 63.
        let iommu = self.iotlb.as_ref().map_or(0, |_| ACCESS_PLATFORM);
        self.device.features() as u64 | TRANSPORT_FEATURES.bits() | iommu
    }

    /// Returns whether a request that is refused may be answered with the refusal.
    #[must_use]
    pub fn answers_refusals(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK)
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

    /// Does what a request asks.
    ///
    /// # Errors
    /// The reason for a refusal.
    pub fn handle(&mut self, request: Request) -> Result<Answer, SessionError> {
        self.check_seals(&request)?;
        match request {
            Request::GetFeatures => return Ok(Answer::Number(self.offered_features())),
            Request::GetProtocolFeatures => return Ok(Answer::Number(PROTOCOL_FEATURES.bits())),
            Request::GetQueueNum => return Ok(Answer::Number(self.ring_count() as u64)),
            Request::GetMaxMemSlots => return Ok(Answer::Number(MAX_SLOTS as u64)),
            Request::GetConfig(config) => return Ok(self.read_config(&config)),
            Request::GetVringBase(ring) => return self.stop_ring(ring),
            Request::SetLogBase(log, fd) => {
                self.set_log(DirtyBitmap::new(&log, fd).map_err(SessionError::Log)?)?;
                // The front-end waits for this one, whether it asked for an answer or not.
                let (size, offset) = (log.mmap_size, log.mmap_offset);
                return Ok(Answer::Log { size, offset });
            }
            // RESET_OWNER is deprecated and to be ignored; that pages were marked is never
            // announced.
            Request::SetOwner | Request::ResetOwner | Request::SetLogFd => {}
            Request::ResetDevice => self.reset(),
            Request::SetFeatures(features) => self.set_features(features)?,
            Request::SetProtocolFeatures(features) => self.set_protocol_features(features)?,
            Request::SetMemTable(regions) => self.change_memory(MemoryTable::new(regions)?)?,
            Request::AddMemReg(region, fd) => self.change_memory(self.memory.with(&region, fd)?)?,
            Request::RemMemReg(region) => self.change_memory(self.memory.without(&region)?)?,
            Request::SetVringNum(RingValue { ring, value }) => {
                self.update_ring(ring, |it| it.set_size(value))?
            }
            Request::SetVringBase(RingValue { ring, value }) => {
                self.update_ring(ring, |it| it.set_base(value))?
            }
            Request::SetVringAddr(addrs) => self.set_addrs(&addrs)?,
            Request::SetVringKick(RingFd { ring, fd }) => self.set_kick(ring, fd)?,
            Request::SetVringCall(RingFd { ring, fd }) => self.set_call(ring, fd)?,
            Request::SetVringErr(RingFd { ring, fd }) => self.set_err(ring, fd)?,
            Request::SetVringEnable(ring, on) => self.set_enabled(ring, on)?,
            Request::SetBackendReqFd(fd) => self.set_channel(fd)?,
            Request::SetConfig(..) => return Err(SessionError::ReadOnly),
            Request::NetSetMtu(mtu) => self.set_mtu(mtu)?,
            Request::SendRarp(mac) => self.device.send_rarp(mac.into()),
            Request::SetDeviceStateFd(asked, fd) => {
                self.begin_transfer(&asked, fd)?;
                return Ok(Answer::TRANSFER_BEGINS);
            }
            Request::GetInflightFd(rings, size) => return self.make_inflight(rings, size),
            Request::SetInflightFd(area, fd) => self.set_inflight(&area, fd)?,
            Request::Iotlb(message) => self.translate(message)?,
            Request::CheckDeviceState => {
                self.end_transfer()?;
                return Ok(Answer::Number(0));
            }
        }
        Ok(Answer::Done)
    }

    fn has(&self, feature: VhostUserVirtioFeatures) -> bool {
        self.features
            .is_some_and(|features| features & feature.bits() != 0)
    }

    /// Returns whether the driver gets its buffers back in their order.
    fn is_in_order(&self) -> bool {
        let features = self.features.map(device_features);
        features.is_some_and(|features| features.contains(Features::VIRTIO_F_IN_ORDER))
    }

    fn layout(&self) -> Layout {
        match self.features {
            Some(features) if features & RING_PACKED != 0 => Layout::Packed,
            _ => Layout::Split,
        }
    }
}

/// Translates a front-end's features for the device.
///
/// A front-end that serves the control queue itself accepts features that need one, but not the
/// queue: they are its own affair then, and the device does without.
fn device_features(features: u64) -> Features {
    let features = features & !(TRANSPORT_FEATURES.bits() | ACCESS_PLATFORM);
    Features::from_bits_truncate(features.into()).closure()
}

/// VIRTIO_F_RING_PACKED. VirtIO 1.4 §6.
const RING_PACKED: u64 = 1 << 34;

/// Negotiation.
impl Session<'_> {
    fn set_protocol_features(&mut self, features: u64) -> Result<(), SessionError> {
        let extra = features & !PROTOCOL_FEATURES.bits();
        if extra != 0 {
            return Err(SessionError::NotOffered("protocol features", extra));
        }
        self.protocol = VhostUserProtocolFeatures::from_bits_truncate(features);
        Ok(())
    }

    /// Comes once per queue pair, and again when logging is switched: only what changed has an
    /// effect.
    fn set_features(&mut self, features: u64) -> Result<(), SessionError> {
        let extra = features & !self.offered_features();
        if extra != 0 {
            return Err(SessionError::NotOffered("features", extra));
        }
        let logged = self.logging().is_some();
        let translated = features & ACCESS_PLATFORM != 0;
        if self.features.map(device_features) != Some(device_features(features))
            || translated != self.iommu().is_some()
        {
            if self.rings.iter().any(|ring| ring.state() == State::Running) {
                return Err(SessionError::FeaturesInUse);
            }
            self.deactivate();
            self.device.ack_features(device_features(features).bits())?;
        }
        self.features = Some(features);
        self.follow_iommu(translated);
        if logged != self.logging().is_some() {
            self.renew_memory()?;
        }
        self.apply_targets()
    }

    /// Leaves protocol features, memory, and the descriptors to tell the front-end by; all else
    /// starts anew.
    fn reset(&mut self) {
        self.begin_anew();
        self.close_journals();
        self.transfer = None;
        self.end_all_discarding();
        self.rings = Vring::all(self.device.queue_max_sizes());
        self.features = None;
        self.follow_iommu(false);
    }

    fn deactivate(&mut self) {
        if std::mem::take(&mut self.activated) {
            self.restored = false;
            self.device.reset();
        }
    }

    /// Leaves nothing of a state that was loaded, either.
    fn begin_anew(&mut self) {
        self.deactivate();
        if std::mem::take(&mut self.restored) {
            self.device.reset();
        }
    }

    fn activate(&mut self) -> Result<(), SessionError> {
        if !self.activated {
            let memory = self.ram(&self.memory)?.ok_or(SessionError::NotReady)?;
            let features = self.features.ok_or(SessionError::NotReady)?;
            self.device.ack_features(device_features(features).bits())?;
            let interrupt = Arc::clone(&self.interrupts) as _;
            let activated = self.device.activate(Activation {
                memory,
                interrupt,
                queues: Vec::new(),
            });
            // One that goes on from a loaded state is paused; no ring of it runs yet.
            let activated = activated
                .map_err(SessionError::from)
                .and_then(|()| self.device.resume().map_err(SessionError::from));
            if let Err(error) = activated {
                // The front-end learns of it now; the next session's driver knows nothing of this
                // one.
                self.device.reset();
                return Err(error);
            }
            self.activated = true;
        }
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.begin_anew();
        self.device.set_driver_mtu(None);
    }
}
