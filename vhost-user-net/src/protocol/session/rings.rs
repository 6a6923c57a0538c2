//! Requests about one ring, and the one place where rings start and stop.

use std::error::Error;
use std::os::fd::OwnedFd;

use net_device::{Cursor, QueueSetup, VirtioDevice};
use vhost::vhost_user::message::{VhostUserVirtioFeatures, VhostUserVringAddr};

use super::{Session, SessionError};
use crate::protocol::interrupts::{self, event_file};
use crate::protocol::vring::{Gate, RingError, State, Vring};
use crate::protocol::wire::{Answer, MAX_RINGS, RingValue};

impl Session<'_> {
    /// Rings that can be told of: with most queue pairs the control queue is beyond what messages
    /// can number.
    pub(super) fn ring_count(&self) -> usize {
        self.rings.len().min(usize::from(MAX_RINGS))
    }

    /// A ring's index, if there is such a ring.
    fn index(&self, ring: u32) -> Result<usize, SessionError> {
        let count = self.ring_count();
        let index = usize::try_from(ring).ok().filter(|index| *index < count);
        index.ok_or_else(|| SessionError::NoRing {
            ring,
            pairs: self.device.config().queue_pairs,
            last: count.saturating_sub(1),
        })
    }

    /// Records something about a ring, and lets it take effect.
    pub(super) fn update_ring(
        &mut self,
        ring: u32,
        tell: impl FnOnce(&mut Vring) -> Result<(), RingError>,
    ) -> Result<(), SessionError> {
        let index = self.index(ring)?;
        self.end_discarding(index);
        tell(&mut self.rings[index]).map_err(|source| SessionError::Ring(ring, source))?;
        self.apply_target(index)
    }

    pub(super) fn set_enabled(&mut self, ring: u32, enabled: bool) -> Result<(), SessionError> {
        let index = self.index(ring)?;
        if enabled {
            self.end_discarding(index);
        }
        self.rings[index].set_enabled(enabled);
        self.apply_target(index)
    }

    /// A running ring goes on at the same position, with the new descriptor.
    pub(super) fn set_kick(&mut self, ring: u32, fd: Option<OwnedFd>) -> Result<(), SessionError> {
        let index = self.index(ring)?;
        self.rings[index]
            .set_kick(fd)
            .map_err(|source| SessionError::Ring(ring, source))?;
        self.end_discarding(index);
        self.halt(index, State::Held)?;
        self.apply_target(index)
    }

    pub(super) fn set_call(&mut self, ring: u32, fd: Option<OwnedFd>) -> Result<(), SessionError> {
        let index = self.index(ring)?;
        self.interrupts
            .set_call(index, fd)
            .map_err(SessionError::Descriptor)?;
        // An interrupt may have gone to the old descriptor in vain; drivers take a spurious one.
        if self.rings[index].state() == State::Running {
            self.interrupt(index);
        }
        Ok(())
    }

    pub(super) fn interrupt(&self, index: usize) {
        if let Err(error) = self.interrupts.trigger_in_time(index) {
            net_device::log_limited!(
                self.device.log_limit(),
                Debug,
                "ring {index}: interrupt not delivered: {error}"
            );
        }
    }

    pub(super) fn set_err(&mut self, ring: u32, fd: Option<OwnedFd>) -> Result<(), SessionError> {
        let index = self.index(ring)?;
        let fd = fd.map(event_file).transpose();
        self.errors[index] = fd.map_err(SessionError::Descriptor)?;
        Ok(())
    }

    /// A running ring goes on at the same position in its new place; the same place means that
    /// logging of the used ring is switched.
    pub(super) fn set_addrs(&mut self, addrs: &VhostUserVringAddr) -> Result<(), SessionError> {
        let ring = addrs.index;
        let index = self.index(ring)?;
        let (moved, log_changed) = self.rings[index].set_addrs(addrs);
        if moved {
            self.end_discarding(index);
            self.halt(index, State::Held)?;
        }
        if log_changed && self.logging().is_some() {
            self.renew_memory()?;
        }
        self.apply_target(index)
    }

    /// GET_VRING_BASE: whatever state the ring is in, it is stopped afterwards.
    pub(super) fn stop_ring(&mut self, ring: u32) -> Result<Answer, SessionError> {
        let index = self.index(ring)?;
        self.end_discarding(index);
        self.halt(index, State::Stopped)?;
        // From now on the front-end knows it better.
        if let Some(journal) = self.journal(index) {
            journal.close();
        }
        self.rings[index].forget_kick();
        self.apply_target(index)?;
        // A driver that begins anew begins so when the front-end has no request for it. A fault of
        // its next life is another one, and is told again.
        let at_rest = self.rings.iter().all(|it| it.state() == State::Stopped);
        if at_rest && self.device.needs_reset() {
            self.deactivate();
        }
        Ok(Answer::RingBase(RingValue {
            ring,
            value: self.rings[index].base(),
        }))
    }

    fn gate(&self) -> Gate {
        Gate {
            open: self.features.is_some() && !self.memory.is_empty(),
            enabled_by_default: !self.has(VhostUserVirtioFeatures::PROTOCOL_FEATURES),
        }
    }

    /// Takes each ring where it should be.
    pub(super) fn apply_targets(&mut self) -> Result<(), SessionError> {
        (0..self.rings.len()).try_for_each(|index| self.apply_target(index))
    }

    /// Takes a ring where it should be.
    fn apply_target(&mut self, index: usize) -> Result<(), SessionError> {
        match (
            self.rings[index].state(),
            self.rings[index].target(self.gate()),
        ) {
            (State::Running, State::Running) => Ok(()),
            (State::Running, target) => self.halt(index, target),
            (_, State::Running) => self.start(index),
            (_, target) => {
                self.rings[index].entered(target);
                Ok(())
            }
        }
    }

    /// All that the device needs to run a ring; the device is activated with the first one.
    fn set_up(&mut self, index: usize) -> Result<QueueSetup, SessionError> {
        self.activate()?;
        let journal = self.journal(index);
        let recovered = journal
            .as_ref()
            .map(|it| self.recover(index, it))
            .transpose()?;
        self.ring_setup(index, recovered.flatten())
    }

    /// The set-up of a ring for the device: it goes on where its base says or at `recovered`.
    pub(super) fn ring_setup(
        &self,
        index: usize,
        recovered: Option<Cursor>,
    ) -> Result<QueueSetup, SessionError> {
        let setup = self.rings[index].setup(
            index as u16,
            self.layout(),
            self.is_in_order(),
            &self.memory,
            recovered,
            &self.device.log_limit(),
        );
        setup.map_err(|source| SessionError::Ring(index as u32, source))
    }

    /// A ring that cannot be started stays stopped until it gets a new kick descriptor.
    fn start(&mut self, index: usize) -> Result<(), SessionError> {
        if !self.is_translated(index) {
            self.rings[index].entered(State::Held);
            return Ok(());
        }
        let started = self.set_up(index).and_then(|setup| {
            let cursor = setup.cursor;
            let journal = self.journal(index);
            let started = self
                .device
                .start_queue_with_journal(setup, journal)
                .map(|()| cursor);
            started.map_err(SessionError::StartQueue)
        });
        let ring = &mut self.rings[index];
        match started {
            Err(SessionError::Ring(_, error @ (RingError::Lost | RingError::Journal(_)))) => {
                // Other rings can go on, and the front-end did nothing wrong.
                ring.failed();
                let why = error
                    .source()
                    .map(|why| format!(": {why}"))
                    .unwrap_or_default();
                let log = self.device.log_limit();
                net_device::log_limited!(log, Warn, "ring {index}: {error}{why}");
                if let Err(error) = interrupts::signal_in_time(&mut self.errors[index]) {
                    ::log::debug!("ring {index}: error not delivered: {error}");
                }
                Ok(())
            }
            Err(error) => {
                ring.failed();
                Err(error)
            }
            Ok(cursor) => {
                let went_on = ring.entered_running() || cursor != Cursor::default();
                // A ring that goes on may have used buffers of which the driver was not told. A
                // fresh one does not, and its driver may not be ready for interrupts.
                if went_on {
                    self.interrupt(index);
                }
                Ok(())
            }
        }
    }

    /// Takes a running ring out of the device's hands, and keeps where it stood.
    pub(super) fn halt(&mut self, index: usize, into: State) -> Result<(), SessionError> {
        if self.rings[index].state() == State::Running {
            self.rings[index].entered(into);
            if let Some(cursor) = self.device.stop_queue(index as u16)? {
                let layout = self.layout();
                self.rings[index].stopped_at(layout, &cursor);
                if into == State::Held && self.rings[index].is_disabled() {
                    self.begin_discarding(index, cursor);
                }
            }
        }
        Ok(())
    }
}
