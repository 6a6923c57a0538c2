//! A virtual IOMMU at the front-end: addresses of rings and buffers are the driver's, and are
//! translated by what the front-end tells.
//!
//! ```text
//!   worker --miss--> Iotlb --event--> session --IOTLB_MSG (miss)--> front-end
//!   worker <-looks again-- session <--IOTLB_MSG (update, invalidate)--'
//! ```
//!
//! A ring runs while all of it is translated; until then it is held. Workers have nothing of a
//! range in use any more when its invalidation is answered.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net_device::GuestRam;
use net_device::net_queue::Access;
use net_device::net_queue::ring::RingConfig;

use super::{Session, SessionError};
use crate::protocol::iotlb::{ACCESS_PLATFORM, Iotlb};
use crate::protocol::vring::State;
use crate::protocol::wire::{self, IotlbMessage};

/// VIRTIO_F_EVENT_IDX. VirtIO 1.4 §6.
const EVENT_IDX: u64 = 1 << 29;

/// Time after which a front-end that did not read is tried again.
const RETRY: Duration = Duration::from_millis(5);

impl Session<'_> {
    /// The same session, which offers to have the driver's addresses translated, if `on`.
    ///
    /// # Errors
    /// No event descriptor can be made.
    pub fn offering_iommu(mut self, on: bool) -> io::Result<Self> {
        self.iotlb = on.then(Iotlb::new).transpose()?.map(Arc::new);
        Ok(self)
    }

    /// Translations of the driver's addresses, if that was negotiated.
    pub(super) fn iommu(&self) -> Option<&Arc<Iotlb>> {
        let negotiated = self.features.is_some_and(|it| it & ACCESS_PLATFORM != 0);
        self.iotlb.as_ref().filter(|_| negotiated)
    }

    /// Begins or ends with translations after features were set; no ring runs when that changes.
    pub(super) fn follow_iommu(&mut self, translated: bool) {
        if self.memory.is_behind_iotlb() != translated {
            self.iotlb.iter().for_each(|iotlb| iotlb.clear());
            let iotlb = self.iotlb.clone().filter(|_| translated);
            self.memory = std::mem::take(&mut self.memory).behind(iotlb);
        }
    }

    /// Guest memory as the device has to see it.
    pub(super) fn behind_iommu(&self, ram: GuestRam) -> GuestRam {
        match self.iommu() {
            Some(iotlb) => ram.with_access_platform(Arc::clone(iotlb) as _),
            None => ram,
        }
    }

    /// The ring's place among the driver's addresses.
    fn ring_config(&self, index: usize) -> Option<RingConfig> {
        let ring = &self.rings[index];
        Some(RingConfig {
            layout: self.layout(),
            size: ring.size()?,
            addrs: ring.guest_addrs(&self.memory).ok()?,
            event_idx: self.features.is_some_and(|it| it & EVENT_IDX != 0),
            ..RingConfig::default()
        })
    }

    /// Returns whether a ring that is to run can be found. What is not known of it is asked for.
    pub(super) fn is_translated(&self, index: usize) -> bool {
        let (Some(iotlb), Some(config)) = (self.iommu(), self.ring_config(index)) else {
            return true;
        };
        let mut all = true;
        for (addr, len, written) in config.areas() {
            let access = if written { Access::Write } else { Access::Read };
            all &= iotlb.request(addr, len, access);
        }
        all
    }

    /// IOTLB_MSG: takes translations, and lets go of them.
    pub(super) fn translate(&mut self, message: IotlbMessage) -> Result<(), SessionError> {
        let iotlb = self.iommu().cloned();
        let iotlb = iotlb.ok_or(SessionError::Iotlb("no translation was negotiated"))?;
        match message {
            IotlbMessage::Update {
                iova,
                size,
                user_addr,
                permissions,
            } => {
                let last = size.checked_sub(1).and_then(|it| iova.checked_add(it));
                let last = last.ok_or(SessionError::Iotlb("a range that is none"))?;
                let gpa = self.memory.guest_addr(user_addr, size);
                let gpa = gpa.ok_or(SessionError::Iotlb("a translation to no memory region"))?;
                let told = iotlb.insert(iova, last, gpa, permissions);
                if told.replaces {
                    self.let_go(iova, size)?;
                }
                if told.awaited {
                    self.device.mappings_added();
                }
                self.apply_targets()
            }
            IotlbMessage::Invalidate { iova, size } => {
                let last = match size {
                    0 => u64::MAX,
                    _ => iova.saturating_add(size - 1),
                };
                let iova = if size == 0 { 0 } else { iova };
                if iotlb.remove(iova, last) {
                    self.let_go(iova, (last - iova).saturating_add(1))?;
                }
                self.apply_targets()
            }
        }
    }

    /// Has the device let go of what it has translated, and of rings in this range.
    fn let_go(&mut self, iova: u64, len: u64) -> Result<(), SessionError> {
        for index in 0..self.rings.len() {
            if self
                .ring_config(index)
                .is_some_and(|it| it.overlaps(iova, len))
            {
                self.halt(index, State::Held)?;
            }
        }
        let done = self.device.mappings_removed(iova, len);
        done.map_err(|_| SessionError::Iotlb("the workers cannot go on"))
    }

    /// Event to wait for before [`Session::advance_translations`], and the time to call it at
    /// whatever happens.
    #[must_use]
    pub fn translations_wanted(&self) -> (Option<Arc<Iotlb>>, Option<Instant>) {
        let iotlb = self.iommu().cloned();
        let deadline = iotlb.as_ref().and_then(|iotlb| iotlb.deadline());
        let retry = self.unsent.then(|| Instant::now() + RETRY);
        (iotlb, deadline.into_iter().chain(retry).min())
    }

    /// Asks the front-end for what workers look for, and gives up what it did not answer.
    ///
    /// # Errors
    /// A ring could not go on.
    pub fn advance_translations(&mut self, now: Instant) -> Result<(), SessionError> {
        let Some(iotlb) = self.iommu().cloned() else {
            return Ok(());
        };
        if iotlb.give_up(now) {
            // Those who wait drop their chains, and rings are asked for once more.
            self.device.mappings_added();
            self.apply_targets()?;
        }
        let mut questions = iotlb.questions().into_iter();
        self.unsent = questions.any(|(iova, wanted)| {
            let sent = self.send(&wire::iotlb_miss(iova, wanted));
            if sent {
                iotlb.asked(iova);
            }
            !sent && self.channel.is_some()
        });
        Ok(())
    }
}
