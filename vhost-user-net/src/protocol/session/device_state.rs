//! The device's state, saved and loaded by the front-end.
//!
//! The state is what [`NetDevice`] saves, in its own format. Where rings stand is not in it: the
//! front-end has it from GET_VRING_BASE, and says it by SET_VRING_BASE.

use std::os::fd::OwnedFd;

use net_device::{MigrateError, Snapshot, Snapshottable};
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserTransferDeviceState,
};

use super::{Session, SessionError};
use crate::protocol::device_state::{Transfer, TransferError};
use crate::protocol::vring::State;

impl Session<'_> {
    /// Moves what can be moved of the device's state without a wait.
    pub fn advance_transfer(&mut self) {
        if let Some(transfer) = &mut self.transfer {
            transfer.advance();
        }
    }

    /// SET_DEVICE_STATE_FD. A transfer that was not ended is forgotten.
    pub(super) fn begin_transfer(
        &mut self,
        asked: &VhostUserTransferDeviceState,
        fd: OwnedFd,
    ) -> Result<(), SessionError> {
        self.transfer = None;
        let VhostUserTransferDeviceState { direction, phase } = *asked;
        let known = VhostTransferStateDirection::try_from(direction)
            .and_then(|direction| VhostTransferStatePhase::try_from(phase).map(|_| direction));
        let no_transfer = SessionError::NoTransfer { direction, phase };
        let direction = known.map_err(|()| no_transfer)?;
        self.require_stopped_rings()?;
        let transfer = match direction {
            VhostTransferStateDirection::SAVE => Transfer::save(self.save()?.as_bytes(), fd)?,
            VhostTransferStateDirection::LOAD => Transfer::load(fd)?,
        };
        self.transfer.insert(transfer).advance();
        Ok(())
    }

    /// CHECK_DEVICE_STATE: a state that was loaded takes effect now, or not at all.
    pub(super) fn end_transfer(&mut self) -> Result<(), SessionError> {
        let transfer = self.transfer.take().ok_or(TransferError::Nothing)?;
        let Some(state) = transfer.end()? else {
            return Ok(());
        };
        self.require_stopped_rings()?;
        let state =
            Snapshot::from_bytes(state).map_err(|error| MigrateError::Restore(error.into()))?;
        self.deactivate();
        self.device.restore(state)?;
        self.restored = true;
        Ok(())
    }

    fn require_stopped_rings(&self) -> Result<(), SessionError> {
        let runs = self.rings.iter().any(|it| it.state() == State::Running);
        (!runs).then_some(()).ok_or(SessionError::StateInUse)
    }

    fn save(&mut self) -> Result<Snapshot, SessionError> {
        // No ring runs, so nothing stops by this.
        let paused = self.device.pause();
        paused.map_err(|lost| MigrateError::Pause(lost.into()))?;
        let state = self.device.snapshot();
        self.device.resume()?;
        Ok(state?)
    }
}
