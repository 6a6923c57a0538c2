//! Programs of the kernel's that somebody else has loaded for a device.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A program for frames (`BPF_PROG_TYPE_SOCKET_FILTER`) that was loaded before the device was made,
/// as by a process that has CAP_BPF for one that has not. To use it takes no privilege.
#[derive(Debug)]
pub enum LoadedProgram<P> {
    /// The program of this workspace, whose rules the device writes.
    WithRules(P),
    /// Any other one. It is in force as it is, as long as the device is activated, and knows
    /// nothing of what the driver wants: workers see to that for each frame that it lets pass.
    Foreign(OwnedFd),
}

impl<P: AsFd> AsFd for LoadedProgram<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::WithRules(program) => program.as_fd(),
            Self::Foreign(program) => program.as_fd(),
        }
    }
}

impl<P> LoadedProgram<P> {
    /// The program, if it has rules.
    pub(crate) fn rules(&mut self) -> Option<&mut P> {
        match self {
            Self::WithRules(program) => Some(program),
            Self::Foreign(_) => None,
        }
    }

    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }
}
