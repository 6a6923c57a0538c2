//! The program `datagrams` at both ends of the tap.

use std::fmt;
use std::time::Duration;

use super::testbed::HOST;
use super::{Error, Guest, Process, Result, host, packages};
use crate::datagrams::{Received, Sent};

/// First port of the receiver.
const PORT: u16 = 7100;
/// Longest time that a receiver may take to start, and to notice the end.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest time that a sender may take.
const SENDER_LIMIT: Duration = Duration::from_secs(120);

/// Reports of both ends.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The guest's.
    pub sent: Sent,
    /// The host's.
    pub received: Received,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.sent, self.received)
    }
}

/// Sends datagrams from the guest to the host over `flows`, with the program's other `options`.
///
/// # Errors
/// When either end fails or does not end.
pub fn to_host(guest: &mut Guest, flows: u16, options: &str) -> Result<Outcome> {
    // While an address is not resolved, the guest's kernel drops what its queue has no room for.
    guest.expect(&format!("ping -c 1 -w 10 {HOST}"))?;
    let mut receiver = receive(flows)?;
    let command = format!("datagrams send {HOST}:{PORT} --flows {flows} {options}");
    let printed = guest.expect_for(&command, SENDER_LIMIT)?;
    let sent = Sent::parse(&printed).ok_or_else(|| unreadable(&printed))?;
    receiver.wait_exit(LIMIT)?;
    let printed = receiver.take_output();
    let received = Received::parse(&printed).ok_or_else(|| unreadable(&printed))?;
    Ok(Outcome { sent, received })
}

/// A receiver on the host that listens.
fn receive(flows: u16) -> Result<Process> {
    let program = packages::own("datagrams")?;
    let command = format!("{} receive {PORT} --flows {flows}", program.display());
    let mut receiver = host::start(&command)?;
    receiver.read_until("listening", LIMIT, |output| {
        let printed = String::from_utf8_lossy(output);
        let end = printed.find("listening\n")?;
        Some((end + "listening\n".len(), ()))
    })?;
    Ok(receiver)
}

fn unreadable(printed: &str) -> Error {
    Error::Unexpected(format!("datagrams reports:\n{printed}"))
}
