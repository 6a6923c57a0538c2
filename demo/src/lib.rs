//! The device at work, without a virtual machine.
//!
//! The program makes a private network namespace, opens a tap in it, runs the device on the tap as
//! a VMM would, and drives it with the [embedded guest](guest). Then it measures: echo requests to
//! the kernel's own stack for latency, one TCP stream each way for throughput, every byte compared.
//!
//! ```text
//!   guest thread                     device workers            Linux, this process
//!   smoltcp - virtio-drivers = rings = virtio-net - tap device - IP stack - sink, source
//! ```
//!
//! With [`Options::snapshot`] the device moves to another tap in the middle of each stream: it is
//! saved, and another one that was restored from the bytes finishes the stream.
//!
//! [`run`] ends with an error, and so the process with a non-zero status, when traffic does not
//! flow.

mod counters;
mod direction;
mod error;
pub mod guest;
mod host;
mod latency;
mod migration;
mod netns;
mod network;
mod options;
mod pattern;
mod ping;
mod progress;
mod report;
mod session;
mod transfer;
mod tun;
mod units;

use std::io;

pub use error::DemoError;
pub use options::Options;

/// Runs the demonstration and prints its result on standard output.
///
/// Call it before the process starts a thread: a user namespace is entered alone.
///
/// # Errors
/// The reason why traffic did not flow, or could not be tried.
pub fn run(options: &Options) -> Result<(), DemoError> {
    let namespace = netns::enter_private()?;
    let report = session::Session::open(namespace)?.measure(options)?;
    report.print(&mut io::stdout().lock())?;
    Ok(())
}
