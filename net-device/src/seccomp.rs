//! System calls that a worker thread may make.
//!
//! Each kind of thread has one list, each system call in it a reason; what is not listed ends the
//! process (or is logged). Of `ioctl` only the tap requests of the control thread pass, of `fcntl`
//! only the question whether a descriptor is open. The filter covers the thread that installs it
//! and those it starts, so a VMM's own threads stay free; but what a VMM does in its interrupt
//! callback runs here, so it should be an event descriptor, or what it needs is added to the list
//! by [`NetDeviceBuilder::more_system_calls`](crate::NetDeviceBuilder::more_system_calls).
//!
//! A device is made before a VMM's own filter is on. At that time the kernel's segmentation is
//! tried (see [`tap::gso_report`]), for which a child process is made; [`CALLER`] covers what comes
//! later.
//!
//! No file can be opened, but to try does not end the process: libraries do so on their own
//! account and can do without. The backtrace of a panic (`RUST_BACKTRACE`) lacks its names.
//!
//! Without the cargo feature `seccomp` the lists are there, for a VMM's own filter, and no filter
//! is: a configuration that asks for one is refused.

#[cfg(feature = "seccomp")]
mod filter;
mod lists;
#[cfg(all(test, feature = "seccomp"))]
mod tests;

pub use lists::{
    CALLER, CALLER_IOCTLS, CALLER_THREADS, SeccompAction, SeccompError, ThreadKind, allowed,
    allowed_ioctls, refused,
};

/// Puts the calling thread, and those it will start, under the filter of its kind. System calls in
/// `more` pass as well, whatever their arguments.
///
/// # Errors
/// The thread must not serve a guest then.
#[cfg_attr(
    not(feature = "seccomp"),
    expect(unused_variables, reason = "no filter, nothing to let pass")
)]
pub fn install(kind: ThreadKind, action: SeccompAction, more: &[i64]) -> Result<(), SeccompError> {
    match action {
        SeccompAction::Allow => Ok(()),
        #[cfg(feature = "seccomp")]
        SeccompAction::Trap => filter::trap(kind, more),
        #[cfg(feature = "seccomp")]
        SeccompAction::Log => filter::log(kind, more),
        #[cfg(not(feature = "seccomp"))]
        SeccompAction::Trap | SeccompAction::Log => Err(SeccompError::NotBuilt(kind)),
    }
}
