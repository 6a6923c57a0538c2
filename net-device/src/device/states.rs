//! Belongings of a device in each of its states.

use std::sync::Arc;

use bitflags::bitflags;

use crate::active::{ActiveDevice, DetachedResources};
use crate::error::{DeviceFailed, WorkerLost};
use crate::lifecycle::{Lifecycle, StateError, Transition};
use crate::state::DeviceState;
use crate::transport::Interrupt;

bitflags! {
    /// Sides that have stopped the workers. They go on when neither has any more.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct StoppedBy: u8 {
        /// The VMM, by a pause.
        const VMM = 1;
        /// The driver, by SUSPEND.
        const DRIVER = 2;
    }
}

impl StoppedBy {
    /// Those of a device that was restored, `suspended` by its driver or not.
    pub(super) fn restored(suspended: bool) -> Self {
        let mut whom = Self::VMM;
        whom.set(Self::DRIVER, suspended);
        whom
    }
}

/// A state and its belongings; see [`Lifecycle`] for the meaning of each.
pub(super) enum State {
    Inactive(DetachedResources),
    Restored(DetachedResources, Box<DeviceState>),
    Running(Box<ActiveDevice>),
    Paused(Box<ActiveDevice>, StoppedBy),
    Failed(Failure),
}

/// An activation that has ended without a reset.
pub(super) struct Failure {
    /// Every operation is answered with it.
    pub(super) cause: DeviceFailed,
    /// Resources for the next activation; none when they went with a worker.
    pub(super) detached: Option<DetachedResources>,
    /// Interrupt of the ended activation, which its reset gives back.
    pub(super) interrupt: Option<Arc<dyn Interrupt>>,
}

impl Failure {
    pub(super) fn worker_lost(lost: WorkerLost, interrupt: Option<Arc<dyn Interrupt>>) -> Self {
        Self {
            cause: DeviceFailed::WorkerLost(lost),
            detached: None,
            interrupt,
        }
    }
}

impl State {
    pub(super) fn lifecycle(&self) -> Lifecycle {
        match self {
            Self::Inactive(_) => Lifecycle::Inactive,
            Self::Restored(..) => Lifecycle::Restored,
            Self::Running(_) => Lifecycle::Running,
            Self::Paused(_, whom) if whom.contains(StoppedBy::VMM) => Lifecycle::Paused,
            Self::Paused(..) => Lifecycle::Suspended,
            Self::Failed(_) => Lifecycle::Failed,
        }
    }

    /// The activated device.
    ///
    /// # Errors
    /// It is not activated, or has failed.
    pub(super) fn active<E>(&mut self) -> Result<&mut ActiveDevice, E>
    where
        E: From<StateError> + From<DeviceFailed>,
    {
        const NEEDED: &[Lifecycle] = &[Lifecycle::Running, Lifecycle::Paused, Lifecycle::Suspended];
        match self {
            Self::Running(active) | Self::Paused(active, _) => Ok(active),
            Self::Failed(failure) => Err(failure.cause.clone().into()),
            Self::Inactive(_) | Self::Restored(..) => {
                Err(StateError::new(self.lifecycle(), NEEDED).into())
            }
        }
    }

    /// The resources of a device that no driver has activated.
    pub(super) fn before_activation(&self) -> Option<&DetachedResources> {
        match self {
            Self::Inactive(detached) | Self::Restored(detached, _) => Some(detached),
            Self::Running(_) | Self::Paused(..) | Self::Failed(_) => None,
        }
    }

    /// The state that a device was restored to.
    pub(super) fn restored(&self) -> Option<&DeviceState> {
        match self {
            Self::Restored(_, saved) => Some(saved),
            _ => None,
        }
    }

    /// The interrupt of the driver that there is.
    pub(super) fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        match self {
            Self::Running(active) | Self::Paused(active, _) => Some(active.shared().interrupt()),
            Self::Failed(failure) => failure.interrupt.clone(),
            Self::Inactive(_) | Self::Restored(..) => None,
        }
    }

    /// Takes the state out, for a transition. Should that panic, the device `id` has failed.
    pub(super) fn take(&mut self, id: &str) -> Self {
        let lost = Failure::worker_lost(WorkerLost(id.to_owned()), None);
        std::mem::replace(self, Self::Failed(lost))
    }

    /// Puts the next state in, which follows `from` by the transition `by`.
    pub(super) fn put(&mut self, from: Lifecycle, by: Transition, next: Self) {
        let to = next.lifecycle();
        debug_assert_eq!(from.after(by), Some(to), "{from} by {by:?}");
        *self = next;
    }
}
