//! The device at work, without a virtual machine.
//!
//! The program makes a private network namespace, opens a tap in it, runs the device on the tap as a VMM
//! would, and drives it with the [embedded guest](guest). Then it measures: echo requests to the kernel's
//! own stack for latency, one TCP stream each way for throughput, every byte compared.
//!
//! ```text
//!   guest thread                     device workers            Linux, this process
//!   smoltcp - virtio-drivers = rings = virtio-net - tap device - IP stack - sink, source
//! ```
//!
//! [`run`] ends with an error, and so the process with a non-zero status, when traffic does not flow.

pub mod guest;
mod host;
mod latency;
mod netns;
mod options;
mod pattern;
mod ping;
mod progress;
mod report;
mod session;
mod transfer;
mod units;

use std::io;

use thiserror::Error;

pub use options::Options;

/// Why the demonstration did not come to its end.
#[derive(Debug, Error)]
pub enum DemoError {
    /// No private network namespace.
    #[error("a private network namespace is needed")]
    Namespace(#[from] netns::NetnsError),
    /// No tap.
    #[error("a tap is needed")]
    Tap(#[from] session::TapError),
    /// The tap's address is none.
    #[error("the network of the demonstration")]
    Address(#[from] net_device::config::CidrParseError),
    /// The device cannot be made.
    #[error("the device cannot be made")]
    Device(#[from] net_device::NewError),
    /// The guest failed, or nothing moved.
    #[error("traffic does not flow")]
    Guest(#[from] guest::GuestError),
    /// The kernel's end failed.
    #[error("the kernel's end of the connection")]
    Host(#[from] host::HostError),
    /// The bytes that arrived are not those that were sent.
    #[error("the {direction} stream arrived damaged")]
    Damaged {
        /// Which one.
        direction: transfer::Direction,
        /// Where.
        #[source]
        source: pattern::Mismatch,
    },
    /// Less arrived than was sent.
    #[error("{sent} bytes were sent {direction} and {received} arrived")]
    Short {
        /// Which way.
        direction: transfer::Direction,
        /// Bytes sent.
        sent: u64,
        /// Bytes received.
        received: u64,
    },
    /// Echo requests stayed without an answer.
    #[error("{lost} of {sent} echo requests stayed without an answer")]
    Lost {
        /// Requests without an answer.
        lost: u32,
        /// Requests sent.
        sent: u32,
    },
    /// The result cannot be printed.
    #[error("the result cannot be printed")]
    Print(#[from] io::Error),
}

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
