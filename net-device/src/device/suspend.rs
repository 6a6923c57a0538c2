//! A device that its driver suspends. VirtIO 1.4 §3.4.

use super::NetDevice;
use super::states::{State, StoppedBy};
use crate::error::{ResumeError, SuspendError};
use crate::events::DeviceEvent;
use crate::features::Features;
use crate::lifecycle::{Lifecycle, StateError, Transition};

impl NetDevice {
    /// Suspends the device, as its driver asks the transport to by SUSPEND in the device status.
    /// VirtIO 1.4 §3.4.2 (DEV-LIFE-17).
    ///
    /// When this returns what was begun is finished, the driver was interrupted for it
    /// (DEV-LIFE-18), and the transport shows SUSPEND without DRIVER_OK. Until
    /// [`unsuspend`](Self::unsuspend) no queue is touched, no interrupt comes, and the
    /// configuration space stays what it is (DEV-LIFE-19, DEV-LIFE-21), whatever happens to the
    /// link. The VMM pauses and resumes a suspended device as any other, and saves it.
    ///
    /// # Errors
    /// VIRTIO_F_SUSPEND was not negotiated or the driver has not set DRIVER_OK, and nothing has
    /// changed (DEV-LIFE-16); a worker is lost, or the device has failed: it shows
    /// DEVICE_NEEDS_RESET and no SUSPEND. The other workers are stopped.
    pub fn suspend(&mut self) -> Result<(), SuspendError> {
        if !self.acked.contains(Features::VIRTIO_F_SUSPEND) {
            return Err(SuspendError::NotNegotiated);
        }
        const NEEDED: &[Lifecycle] = &[Lifecycle::Running, Lifecycle::Paused];
        match &self.state {
            State::Running(_) | State::Paused(..) => {}
            State::Failed(failure) => return Err(failure.cause.clone().into()),
            State::Inactive(_) | State::Restored(..) => {
                return Err(StateError::new(self.lifecycle(), NEEDED).into());
            }
        }
        let first = self.stop_workers(StoppedBy::DRIVER, Transition::Suspend)?;
        if let State::Paused(active, _) = &self.state
            && let Some(lost) = active.lost()
        {
            return Err(lost.clone().into());
        }
        if first {
            self.space.freeze();
            self.status.events().emit(&DeviceEvent::Suspended);
        }
        Ok(())
    }

    /// Lets a suspended device go on where it stood, as its driver asks by DRIVER_OK. VirtIO 1.4
    /// §3.4.2 (DEV-LIFE-22). One that the VMM has paused goes on once that resumes it.
    ///
    /// If the configuration has changed meanwhile, or the device has failed, the driver is told now
    /// (DEV-LIFE-21).
    ///
    /// # Errors
    /// As for [`resume`](Self::resume). The transport then shows DEVICE_NEEDS_RESET.
    pub fn unsuspend(&mut self) -> Result<(), ResumeError> {
        let resumed = self.let_workers_go(StoppedBy::DRIVER);
        if let Err(error) = &resumed
            && self.status.fail(error)
        {
            self.config_changed();
        }
        if self.space.thaw() {
            self.config_changed();
        }
        resumed
    }

    /// Returns whether the driver has suspended the device, which a restored one may be, too.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        match &self.state {
            State::Paused(_, whom) => whom.contains(StoppedBy::DRIVER),
            State::Restored(_, saved) => saved.suspended.is_some(),
            State::Inactive(_) | State::Running(_) | State::Failed(_) => false,
        }
    }
}
