//! A device that is paused and goes on.

use super::NetDevice;
use super::states::State;
use crate::error::{ResumeError, WorkerLost};
use crate::events::DeviceEvent;
use crate::lifecycle::Transition;

impl NetDevice {
    /// Stops every worker; a device in which none runs stays as it is.
    ///
    /// # Errors
    /// A worker is lost; the others are stopped.
    pub fn pause(&mut self) -> Result<(), WorkerLost> {
        let from = self.lifecycle();
        match self.state.take(&self.config.id) {
            State::Running(mut active) => {
                let parked = active.park();
                self.state
                    .put(from, Transition::Pause, State::Paused(active));
                parked?;
            }
            State::Paused(mut active) => {
                let parked = active.park();
                self.state = State::Paused(active);
                return parked;
            }
            other => {
                self.state = other;
                return Ok(());
            }
        }
        self.status.events().emit(&DeviceEvent::Paused);
        Ok(())
    }

    /// Lets every worker go on. A port that is gone meanwhile fails the device (DEV-LIFE-04), not
    /// this call; a device that was restored needing a reset resumes, and does nothing before that
    /// reset.
    ///
    /// # Errors
    /// A worker cannot be prepared or is lost, or the device has failed.
    pub fn resume(&mut self) -> Result<(), ResumeError> {
        let from = self.lifecycle();
        let elsewhere = self.resumes_elsewhere();
        if elsewhere {
            self.ask_driver();
        }
        match &mut self.state {
            State::Paused(active) => active.resume()?,
            State::Running(_) | State::Inactive(_) | State::Restored(..) => return Ok(()),
            State::Failed(failure) => return Err(failure.cause.clone().into()),
        }
        if let State::Paused(active) = self.state.take(&self.config.id) {
            self.state
                .put(from, Transition::Resume, State::Running(active));
        }
        self.status.events().emit(&DeviceEvent::Resumed);
        if elsewhere {
            self.announce();
        }
        Ok(())
    }
}
