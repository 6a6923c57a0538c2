//! Trial of the way in which this kernel cuts frames that are larger than a segment, by trial.
//!
//! A tap that takes an offload need not do it right: there are kernels that refuse such frames when
//! they come, change them or lose them.

mod bridge;
mod frames;
mod report;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

pub use self::bridge::ThisKernel;
pub use self::report::{GsoFault, GsoOutcome, GsoPath, GsoReport, GsoTrial, NotTried};

/// Tries how the kernel of this process cuts frames; asked again, it returns what it found.
///
/// Real frames go through two taps of their own, which a child process bridges in a network
/// namespace of its own, as root or, where an ordinary user may make them, in a user namespace. It
/// takes some milliseconds, 200 at most, loads no module and leaves nothing behind. The
/// kernel logs that a bridge `gso-probe` has had two ports.
///
/// Call it before a filter of system calls is on, or not at all: beside those of a thread it makes
/// the calls `clone`, `wait4`,
/// `openat`, `ioctl`, `socket`, `poll`, `read` and `write`.
pub fn gso_report() -> &'static GsoReport {
    static REPORT: OnceLock<GsoReport> = OnceLock::new();
    REPORT.get_or_init(|| GsoReport::of(&mut ThisKernel::default()))
}
