//! A device that is paused, saved and restored.

use super::{NetDevice, State};
use crate::error::ActivateError;
use crate::events::DeviceEvent;
use crate::persist::{RestoreError, Saved};
use crate::space::LinkStatus;

impl NetDevice {
    /// What the guest can tell of the device, which is paused or was never activated.
    pub(crate) fn save(&mut self) -> Result<Saved, ActivateError> {
        let mut saved = Saved {
            acked: self.acked,
            mac: self.space.mac(),
            announce: self.space.status().contains(LinkStatus::ANNOUNCE),
            generation: self.space.saved_generation(),
            needs_reset: self.health.needs_reset(),
            // What waits for its activation stays what it is.
            ..self.restored.clone().unwrap_or_else(|| Saved {
                offloads: self.acked.rx_offloads(),
                ..Saved::default()
            })
        };
        match &mut self.state {
            State::Active(runtime) if !runtime.is_paused() => {
                return Err(ActivateError::State("not paused"));
            }
            State::Active(runtime) => {
                let live = runtime.live().clone();
                let policy = live.policy();
                saved.activated = true;
                saved.offloads = policy.offloads;
                saved.tables = policy
                    .filter
                    .as_ref()
                    .map(|filter| filter.tables().clone())
                    .unwrap_or_default();
                saved.pairs = live.chosen_pairs();
                saved.rings = runtime.cursors()?;
                saved.limits = runtime.limits()?;
            }
            State::Inactive(remains) => {
                let parts = (0..).zip(&mut remains.parts);
                saved.limits = parts.flat_map(|(pair, parts)| parts.levels(pair)).collect();
            }
            State::Failed { reason, .. } => return Err(ActivateError::Failed(reason.clone())),
            State::Lost(lost) => return Err(lost.clone().into()),
        }
        Ok(saved)
    }

    /// Makes the next activation go on from `saved`.
    pub(crate) fn load(&mut self, saved: Saved) -> Result<(), RestoreError> {
        let remains = match &mut self.state {
            State::Inactive(remains) => remains,
            State::Active(_) | State::Failed { .. } => return Err(RestoreError::Active),
            State::Lost(lost) => return Err(lost.clone().into()),
        };
        for (queue, levels) in &saved.limits {
            if let Some(parts) = remains.parts.get_mut(usize::from(queue / 2)) {
                parts.restore(*queue, levels);
            }
        }
        self.acked = saved.acked;
        self.space
            .restore(saved.mac, saved.announce, saved.generation);
        self.health.restore(saved.needs_reset);
        self.restored = saved.activated.then_some(saved);
        self.health.events().emit(&DeviceEvent::Restored);
        Ok(())
    }
}

impl snapshot::Pausable for NetDevice {
    /// Stops every worker; a device in which none runs stays as it is.
    fn pause(&mut self) -> Result<(), snapshot::MigrateError> {
        let State::Active(runtime) = &mut self.state else {
            return Ok(());
        };
        let was_paused = runtime.is_paused();
        runtime
            .pause()
            .map_err(|lost| snapshot::MigrateError::Pause(lost.into()))?;
        if !was_paused {
            self.health.events().emit(&DeviceEvent::Paused);
        }
        Ok(())
    }

    /// Lets every worker go on. A port that is gone meanwhile fails the device (DEV-LIFE-04), not
    /// this call; a device that was restored needing a reset resumes, and does nothing before that
    /// reset.
    fn resume(&mut self) -> Result<(), snapshot::MigrateError> {
        let refused = |error: ActivateError| snapshot::MigrateError::Resume(error.into());
        match &mut self.state {
            State::Active(runtime) if runtime.is_paused() => runtime.resume().map_err(refused)?,
            State::Active(_) | State::Inactive(_) => return Ok(()),
            State::Failed { reason, .. } => {
                return Err(refused(ActivateError::Failed(reason.clone())));
            }
            State::Lost(lost) => return Err(refused(lost.clone().into())),
        }
        self.health.events().emit(&DeviceEvent::Resumed);
        Ok(())
    }
}
