//! States of a device and the transitions between them.

use std::fmt;

#[cfg(test)]
mod tests;

/// State of a device. [`NetDevice::lifecycle`](crate::NetDevice::lifecycle) tells it.
///
/// Whether DEVICE_NEEDS_RESET is shown is another matter: a device whose driver broke one ring goes
/// on running the others until it is reset.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// No driver, or one that negotiates. Nothing runs and no guest memory is held.
    Inactive,
    /// As `Inactive`, with a saved state that the next activation goes on from.
    Restored,
    /// DRIVER_OK: the workers of all queues that were started run.
    Running,
    /// All workers are stopped, between two frames, until the VMM lets them go on.
    Paused,
    /// The driver has set SUSPEND: all workers are stopped, between two frames, until it sets
    /// DRIVER_OK again.
    Suspended,
    /// The activation has ended without a reset: guest memory could not be changed, or a worker has
    /// panicked. Nothing runs and no guest memory is held. The worker of a pair is lost for good,
    /// and its port with it.
    Failed,
}

/// An event that leads from one state to another, or leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The driver set DRIVER_OK, and the device could follow.
    Activate,
    /// The driver accepted other features than the saved one had.
    Renegotiate,
    /// The state of an activated device was put in.
    Restore,
    /// The state of a device that was never activated was put in.
    RestoreInactive,
    Pause,
    Resume,
    /// The VMM lets a device go on that its driver has suspended.
    ResumeSuspended,
    /// The driver set SUSPEND.
    Suspend,
    /// The driver set DRIVER_OK in a device that it had suspended.
    Unsuspend,
    /// A change of guest memory failed.
    LoseMemory,
    /// A worker turned out to be lost when the activation was to end.
    LoseWorker,
    Reset,
}

use Lifecycle::{Failed, Inactive, Paused, Restored, Running, Suspended};

/// All transitions. What is not listed cannot happen, and an operation that would need it is
/// refused or does nothing.
const TRANSITIONS: &[(Lifecycle, Transition, Lifecycle)] = &[
    (Inactive, Transition::Activate, Running),
    (Restored, Transition::Activate, Paused),
    (Restored, Transition::Renegotiate, Inactive),
    (Inactive, Transition::Restore, Restored),
    (Restored, Transition::Restore, Restored),
    (Inactive, Transition::RestoreInactive, Inactive),
    (Restored, Transition::RestoreInactive, Inactive),
    (Running, Transition::Pause, Paused),
    (Paused, Transition::Resume, Running),
    (Running, Transition::Suspend, Suspended),
    (Suspended, Transition::Unsuspend, Running),
    // Each of the two stops and lets go for itself.
    (Suspended, Transition::Pause, Paused),
    (Paused, Transition::ResumeSuspended, Suspended),
    (Paused, Transition::Suspend, Paused),
    (Paused, Transition::Unsuspend, Paused),
    (Running, Transition::LoseMemory, Failed),
    (Paused, Transition::LoseMemory, Failed),
    (Suspended, Transition::LoseMemory, Failed),
    (Running, Transition::LoseWorker, Failed),
    (Paused, Transition::LoseWorker, Failed),
    (Suspended, Transition::LoseWorker, Failed),
    // An activation that could not be completed, after some of its workers ran.
    (Inactive, Transition::LoseWorker, Failed),
    (Restored, Transition::LoseWorker, Failed),
    // A reset does not bring a worker back.
    (Failed, Transition::LoseWorker, Failed),
    (Inactive, Transition::Reset, Inactive),
    (Restored, Transition::Reset, Inactive),
    (Running, Transition::Reset, Inactive),
    (Paused, Transition::Reset, Inactive),
    (Suspended, Transition::Reset, Inactive),
    (Failed, Transition::Reset, Inactive),
];

impl Lifecycle {
    /// State after `transition`, or `None` where there is no such transition.
    pub(crate) fn after(self, transition: Transition) -> Option<Self> {
        let row = TRANSITIONS
            .iter()
            .find(|(from, by, _)| (*from, *by) == (self, transition));
        row.map(|(_, _, to)| *to)
    }

    /// Returns whether a driver has activated the device and nothing has ended that.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Running | Paused | Suspended)
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Inactive => "inactive",
            Restored => "restored",
            Running => "running",
            Paused => "paused",
            Suspended => "suspended",
            Failed => "failed",
        })
    }
}

/// An operation was called in a state in which the device cannot do it. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device is {state}; {}", Needed(self.needed))]
#[non_exhaustive]
pub struct StateError {
    /// State of the device.
    pub state: Lifecycle,
    /// States in which the operation is possible.
    pub needed: &'static [Lifecycle],
}

impl StateError {
    pub(crate) fn new(state: Lifecycle, needed: &'static [Lifecycle]) -> Self {
        Self { state, needed }
    }
}

/// "the operation needs one that is running or paused".
struct Needed(&'static [Lifecycle]);

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operation needs one that is ")?;
        for (at, state) in self.0.iter().enumerate() {
            let or = if at == 0 { "" } else { " or " };
            write!(f, "{or}{state}")?;
        }
        Ok(())
    }
}
