//! The in-flight region, and rings that go on from it.

use std::os::fd::OwnedFd;

use net_device::net_queue::ring::{RingConfig, UsedElements};
use net_device::{Cursor, Features, UsedJournal, VirtioDevice};

use super::negotiation::device_features;
use super::{Session, SessionError};
use crate::protocol::inflight::InflightRegion;
use crate::protocol::vring::{RingError, State};
use crate::protocol::wire::{Answer, InflightArea};

impl Session<'_> {
    /// Descriptor that goes with the next answer.
    pub fn take_reply_fd(&mut self) -> Option<OwnedFd> {
        self.reply_fd.take()
    }

    /// GET_INFLIGHT_FD: a region that is in use once the front-end passes it back.
    pub(super) fn make_inflight(
        &mut self,
        queues: u16,
        queue_size: u16,
    ) -> Result<Answer, SessionError> {
        let sizes = self.device.queue_max_sizes();
        let largest = sizes.iter().copied().max().unwrap_or_default();
        let known = (1..=self.ring_count()).contains(&usize::from(queues));
        if !known || !(1..=largest).contains(&queue_size) {
            return Err(SessionError::NoInflight { queues, queue_size });
        }
        let (area, fd) = InflightRegion::create(self.layout(), queues, queue_size)
            .map_err(SessionError::Inflight)?;
        self.reply_fd = Some(fd);
        Ok(Answer::Inflight(area))
    }

    /// SET_INFLIGHT_FD: rings that start from now on go on from it, and keep it.
    pub(super) fn set_inflight(
        &mut self,
        area: &InflightArea,
        fd: OwnedFd,
    ) -> Result<(), SessionError> {
        if self.rings.iter().any(|it| it.state() == State::Running) {
            return Err(SessionError::InflightInUse);
        }
        self.inflight = Some(InflightRegion::map(area, fd).map_err(SessionError::Inflight)?);
        Ok(())
    }

    /// The journal of a ring whose size is known.
    pub(super) fn journal(&self, index: usize) -> Option<UsedJournal> {
        let (region, size) = (self.inflight.as_ref()?, self.rings[index].size()?);
        region.journal(index, self.layout(), size)
    }

    /// The device was reset: nothing goes on where its rings stood.
    pub(super) fn close_journals(&self) {
        for index in 0..self.rings.len() {
            if let Some(journal) = self.journal(index) {
                journal.close();
            }
        }
    }

    /// Position of the device that was lost before this front-end came, if it has left one.
    pub(super) fn recover(
        &self,
        index: usize,
        journal: &UsedJournal,
    ) -> Result<Option<Cursor>, SessionError> {
        let ring = &self.rings[index];
        if ring.has_run() {
            return Ok(None);
        }
        let failed = |source| SessionError::Ring(index as u32, source);
        let ram = self.ram(&self.memory)?.ok_or(SessionError::NotReady)?;
        let features = device_features(self.features.unwrap_or_default());
        // Queues come in pairs, of which the second one transmits.
        let transmits = index % 2 == 1;
        let config = RingConfig {
            layout: self.layout(),
            size: ring.size().unwrap_or_default(),
            addrs: ring.guest_addrs(&self.memory).map_err(failed)?,
            in_order: features.contains(Features::VIRTIO_F_IN_ORDER),
            used_elements: if transmits {
                UsedElements::PerBatch
            } else {
                UsedElements::PerChain
            },
            ..RingConfig::default()
        };
        let cursor = journal.recover(&ram, &config);
        cursor.map_err(|error| failed(RingError::Journal(error)))
    }
}
