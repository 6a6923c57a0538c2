//! A device that is paused, saved and restored.

use snapshot::{
    BoxError, Migratable, MigrateError, Pausable, Snapshot, Snapshottable, Transportable,
};

use super::{NetDevice, State};
use crate::error::{ActivateError, RestoreError};
use crate::events::DeviceEvent;
use crate::shared::config_space::LinkStatus;
use crate::state::DeviceState;

impl NetDevice {
    /// What the guest can tell of the device, which is paused or was never activated.
    pub(crate) fn save(&mut self) -> Result<DeviceState, ActivateError> {
        let mut saved = DeviceState {
            acked: self.acked,
            mac: self.space.mac(),
            announce: self.space.status().contains(LinkStatus::ANNOUNCE),
            generation: self.space.saved_generation(),
            needs_reset: self.status.needs_reset(),
            // What waits for its activation stays what it is.
            ..self.restored.clone().unwrap_or_else(|| DeviceState {
                offloads: self.acked.rx_offloads(),
                ..DeviceState::default()
            })
        };
        match &mut self.state {
            State::Active(active) if !active.is_paused() => {
                return Err(ActivateError::State("not paused"));
            }
            State::Active(active) => {
                let shared = active.shared().clone();
                let policy = shared.policy();
                saved.activated = true;
                saved.offloads = policy.offloads;
                saved.tables = policy
                    .filter
                    .as_ref()
                    .map(|filter| filter.tables().clone())
                    .unwrap_or_default();
                saved.pairs = shared.chosen_pairs();
                saved.rings = active.cursors()?;
                saved.limits = active.limits()?;
            }
            State::Inactive(detached) => {
                let resources = (0..).zip(&mut detached.pairs);
                saved.limits = resources
                    .flat_map(|(pair, resources)| resources.levels(pair))
                    .collect();
            }
            State::Failed { reason, .. } => return Err(ActivateError::Failed(reason.clone())),
            State::Lost(lost) => return Err(lost.clone().into()),
        }
        Ok(saved)
    }

    /// Makes the next activation go on from `saved`.
    pub(crate) fn load(&mut self, saved: DeviceState) -> Result<(), RestoreError> {
        let detached = match &mut self.state {
            State::Inactive(detached) => detached,
            State::Active(_) | State::Failed { .. } => return Err(RestoreError::Active),
            State::Lost(lost) => return Err(lost.clone().into()),
        };
        for (queue, levels) in &saved.limits {
            if let Some(resources) = detached.pairs.get_mut(usize::from(queue / 2)) {
                resources.restore(*queue, levels);
            }
        }
        self.acked = saved.acked;
        self.space
            .restore(saved.mac, saved.announce, saved.generation);
        self.status.restore(saved.needs_reset);
        self.restored = saved.activated.then_some(saved);
        self.status.events().emit(&DeviceEvent::Restored);
        Ok(())
    }
}

impl Pausable for NetDevice {
    /// Stops every worker; a device in which none runs stays as it is.
    fn pause(&mut self) -> Result<(), MigrateError> {
        let State::Active(active) = &mut self.state else {
            return Ok(());
        };
        let was_paused = active.is_paused();
        active
            .pause()
            .map_err(|lost| MigrateError::Pause(lost.into()))?;
        if !was_paused {
            self.status.events().emit(&DeviceEvent::Paused);
        }
        Ok(())
    }

    /// Lets every worker go on. A port that is gone meanwhile fails the device (DEV-LIFE-04), not
    /// this call; a device that was restored needing a reset resumes, and does nothing before that
    /// reset.
    fn resume(&mut self) -> Result<(), MigrateError> {
        let refused = |error: ActivateError| MigrateError::Resume(error.into());
        match &mut self.state {
            State::Active(active) if active.is_paused() => active.resume().map_err(refused)?,
            State::Active(_) | State::Inactive(_) => return Ok(()),
            State::Failed { reason, .. } => {
                return Err(refused(ActivateError::Failed(reason.clone())));
            }
            State::Lost(lost) => return Err(refused(lost.clone().into())),
        }
        self.status.events().emit(&DeviceEvent::Resumed);
        Ok(())
    }
}

impl Snapshottable for NetDevice {
    fn id(&self) -> String {
        self.config().id.clone()
    }

    /// Takes the state of a paused device, or of one that no driver has activated.
    fn snapshot(&mut self) -> Result<Snapshot, MigrateError> {
        let saved = self
            .save()
            .map_err(|error| MigrateError::Snapshot(error.into()))?;
        let state = saved.to_state(self.config(), self.offered, self.queue_sizes());
        Snapshot::seal(&state).map_err(|error| MigrateError::Snapshot(error.into()))
    }

    /// Puts a state into a device that is not activated. What the saved device had activated has to be
    /// activated again by the VMM, with its memory, new descriptors, and each queue where it lay; it is paused
    /// then. A reset, or a driver that accepts other features, ends that.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), MigrateError> {
        let refused = |error: BoxError| MigrateError::Restore(error);
        let state = snapshot.open().map_err(|error| refused(error.into()))?;
        self.follow_mtu();
        let saved = DeviceState::from_state(&state, self.config(), self.offered)
            .map_err(|error| refused(error.into()))?;
        self.load(saved).map_err(|error| refused(error.into()))
    }
}

impl Transportable for NetDevice {}

/// What the device writes is marked in the bitmap of the guest memory, or in the log that was set on it.
impl Migratable for NetDevice {}
