//! Reasons for which the demonstration does not come to its end.

use std::io;

use thiserror::Error;

use super::direction::Direction;
use super::tun::TapError;
use super::{guest, host, netns, pattern};

/// Reason why the demonstration did not come to its end.
#[derive(Debug, Error)]
pub enum DemoError {
    /// No private network namespace.
    #[error("a private network namespace is needed")]
    Namespace(#[from] netns::NetnsError),
    /// No tap.
    #[error("a tap is needed")]
    Tap(#[from] TapError),
    /// The tap's address is none.
    #[error("the network of the demonstration")]
    Address(#[from] net_device::config::CidrParseError),
    /// The device cannot be made.
    #[error("the device cannot be made")]
    Device(#[from] net_device::NewError),
    /// The device cannot be saved or restored.
    #[error("the device does not move to another tap")]
    Migration(#[from] net_device::snapshot::MigrateError),
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
        direction: Direction,
        /// Place of the damage.
        #[source]
        source: pattern::Mismatch,
    },
    /// Less arrived than was sent.
    #[error("{sent} bytes were sent {direction} and {received} arrived")]
    Short {
        /// Which way.
        direction: Direction,
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
