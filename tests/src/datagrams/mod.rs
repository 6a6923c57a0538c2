//! The program `datagrams`: sends numbered datagrams over several flows with few system calls, or
//! receives them and checks each byte.
//!
//! One sender has one socket, and each flow a port of the receiver: so datagrams of all flows leave
//! in one `sendmmsg`, in any order. A [`content`] says by itself which datagram it is and how it
//! has to look.

mod command;
pub mod content;
mod receive;
mod report;
mod send;

pub use command::{Command, USAGE};
pub use report::{Received, Sent};
pub use send::Until;

/// Datagrams for each system call.
const BATCH: usize = 64;
/// Longest datagram that is sent or received, in bytes.
pub const LONGEST: usize = 9000;
