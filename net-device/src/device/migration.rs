//! A device that is saved and restored, and the traits by which a VMM does that.

use snapshot::{
    BoxError, Migratable, MigrateError, Pausable, Snapshot, Snapshottable, Transportable,
};

use super::NetDevice;
use super::states::{Failure, State, StoppedBy};
use crate::error::{DeviceFailed, RestoreError, SaveError};
use crate::events::DeviceEvent;
use crate::lifecycle::{Lifecycle, StateError, Transition};
use crate::shared::config_space::LinkStatus;
use crate::state::DeviceState;

impl NetDevice {
    /// State that the guest can tell of the device, which is paused or was never activated.
    pub(crate) fn save(&mut self) -> Result<DeviceState, SaveError> {
        let mut saved = DeviceState {
            acked: self.acked,
            mac: self.space.mac(),
            announce: self.space.status().contains(LinkStatus::ANNOUNCE),
            generation: self.space.saved_generation(),
            needs_reset: self.status.needs_reset(),
            // What waits for its activation stays what it is.
            ..self
                .state
                .restored()
                .cloned()
                .unwrap_or_else(|| DeviceState {
                    offloads: self.acked.rx_offloads(),
                    ..DeviceState::default()
                })
        };
        match &mut self.state {
            State::Running(_) => {
                const NEEDED: &[Lifecycle] =
                    &[Lifecycle::Inactive, Lifecycle::Restored, Lifecycle::Paused];
                return Err(StateError::new(Lifecycle::Running, NEEDED).into());
            }
            State::Paused(active, whom) => {
                let shared = active.shared().clone();
                let policy = shared.policy();
                saved.activated = true;
                let suspended = whom.contains(StoppedBy::DRIVER);
                saved.suspended = suspended.then(|| self.space.shown_status());
                saved.offloads = policy.offloads;
                saved.tables = policy
                    .filter
                    .as_ref()
                    .map(|filter| filter.tables().clone())
                    .unwrap_or_default();
                saved.pairs = shared.chosen_pairs();
                saved.rss = shared.rss();
                saved.notf_coal = shared.notf_coal.state();
                saved.rings = active.cursors();
                saved.limits = active.limits()?;
            }
            State::Inactive(detached) | State::Restored(detached, _) => {
                let resources = (0..).zip(&mut detached.pairs);
                saved.limits = resources
                    .flat_map(|(pair, resources)| resources.levels(pair))
                    .collect();
            }
            State::Failed(failure) => return Err(failure.cause.clone().into()),
        }
        Ok(saved)
    }

    /// Makes the next activation go on from `saved`.
    pub(crate) fn load(&mut self, saved: DeviceState) -> Result<(), RestoreError> {
        let from = self.lifecycle();
        let detached = match &mut self.state {
            State::Inactive(detached) | State::Restored(detached, _) => detached,
            State::Failed(Failure {
                cause: DeviceFailed::WorkerLost(lost),
                ..
            }) => return Err(lost.clone().into()),
            State::Running(_) | State::Paused(..) | State::Failed(_) => {
                const NEEDED: &[Lifecycle] = &[Lifecycle::Inactive, Lifecycle::Restored];
                return Err(StateError::new(from, NEEDED).into());
            }
        };
        for (queue, levels) in &saved.limits {
            if let Some(resources) = detached.pairs.get_mut(usize::from(queue / 2)) {
                resources.restore(*queue, levels);
            }
        }
        self.acked = saved.acked;
        self.space
            .restore(saved.mac, saved.announce, saved.generation);
        if let Some(status) = saved.suspended {
            self.space.freeze_with(status);
        }
        self.status.restore(saved.needs_reset);
        match self.state.take(&self.config.id) {
            State::Inactive(detached) | State::Restored(detached, _) if saved.activated => {
                let next = State::Restored(detached, Box::new(saved));
                self.state.put(from, Transition::Restore, next);
            }
            State::Inactive(detached) | State::Restored(detached, _) => {
                let next = State::Inactive(detached);
                self.state.put(from, Transition::RestoreInactive, next);
            }
            other => self.state = other,
        }
        self.status.events().emit(&DeviceEvent::Restored);
        Ok(())
    }
}

impl Pausable for NetDevice {
    fn pause(&mut self) -> Result<(), MigrateError> {
        Self::pause(self).map_err(|lost| MigrateError::Pause(lost.into()))
    }

    fn resume(&mut self) -> Result<(), MigrateError> {
        Self::resume(self).map_err(|error| MigrateError::Resume(error.into()))
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

    /// Puts a state into a device that is not activated. What the saved device had activated has to
    /// be activated again by the VMM, with its memory, new descriptors, and each queue where it
    /// lay; it is paused then. A reset, or a driver that accepts other features, ends that.
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

/// Writes of the device are marked in the bitmap of the guest memory, or in the log that was set on
/// it, while logging is [switched on](NetDevice::set_dirty_logging), as it is from the beginning.
impl Migratable for NetDevice {
    fn start_dirty_log(&mut self) -> Result<(), MigrateError> {
        let done = self.set_dirty_logging(true);
        done.map_err(|error| MigrateError::DirtyLog(error.into()))
    }

    /// Switches marks off. What was marked stays in the bitmap or log, which belongs to the VMM.
    fn stop_dirty_log(&mut self) -> Result<(), MigrateError> {
        let done = self.set_dirty_logging(false);
        done.map_err(|error| MigrateError::DirtyLog(error.into()))
    }
}
