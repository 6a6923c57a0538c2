//! A device whose workers stop, for its VMM or for its driver, and go on.

use super::NetDevice;
use super::states::{State, StoppedBy};
use crate::error::{ResumeError, WorkerLost};
use crate::events::DeviceEvent;
use crate::lifecycle::Transition;

impl NetDevice {
    /// Stops every worker; a device in which none runs stays as it is.
    ///
    /// # Errors
    /// A worker is lost; the others are stopped.
    pub fn pause(&mut self) -> Result<(), WorkerLost> {
        if self.stop_workers(StoppedBy::VMM, Transition::Pause)? {
            self.status.events().emit(&DeviceEvent::Paused);
        }
        Ok(())
    }

    /// Lets every worker go on; in a device that its driver has suspended, once that lets it go on
    /// as well. A port that is gone meanwhile fails the device (DEV-LIFE-04), not this call; a
    /// device that was restored needing a reset resumes, and does nothing before that reset.
    ///
    /// # Errors
    /// A worker cannot be prepared or is lost, or the device has failed.
    pub fn resume(&mut self) -> Result<(), ResumeError> {
        self.let_workers_go(StoppedBy::VMM)
    }

    /// Stops every worker for `whom`. Returns whether it had not done so before; a device in which
    /// none runs stays as it is.
    ///
    /// # Errors
    /// A worker is lost; the others are stopped.
    pub(super) fn stop_workers(
        &mut self,
        whom: StoppedBy,
        by: Transition,
    ) -> Result<bool, WorkerLost> {
        let from = self.lifecycle();
        let (mut active, before) = match self.state.take(&self.config.id) {
            State::Running(active) => (active, StoppedBy::empty()),
            State::Paused(active, before) => (active, before),
            other => {
                self.state = other;
                return Ok(false);
            }
        };
        let parked = active.park();
        let next = State::Paused(active, before | whom);
        let first = !before.contains(whom);
        if first {
            self.state.put(from, by, next);
        } else {
            self.state = next;
        }
        parked.map(|()| first)
    }

    /// Lets every worker go on that `whom` has stopped, unless somebody else has, too.
    ///
    /// # Errors
    /// As for [`NetDevice::resume`].
    pub(super) fn let_workers_go(&mut self, whom: StoppedBy) -> Result<(), ResumeError> {
        let others = match &self.state {
            State::Paused(_, before) if before.contains(whom) => *before - whom,
            State::Failed(failure) => return Err(failure.cause.clone().into()),
            _ => return Ok(()),
        };
        let elsewhere = others.is_empty() && self.resumes_elsewhere();
        if elsewhere {
            self.ask_driver();
        }
        let from = self.lifecycle();
        if let State::Paused(active, _) = &mut self.state
            && others.is_empty()
        {
            active.resume()?;
        }
        let (by, event) = match (whom, others) {
            (StoppedBy::DRIVER, _) => (Transition::Unsuspend, DeviceEvent::Unsuspended),
            (_, StoppedBy::DRIVER) => (Transition::ResumeSuspended, DeviceEvent::Resumed),
            _ => (Transition::Resume, DeviceEvent::Resumed),
        };
        if let State::Paused(active, _) = self.state.take(&self.config.id) {
            let next = match others.is_empty() {
                true => State::Running(active),
                false => State::Paused(active, others),
            };
            self.state.put(from, by, next);
        }
        self.status.events().emit(&event);
        if elsewhere {
            self.announce();
        }
        Ok(())
    }
}
