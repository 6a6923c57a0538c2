//! Reports in one line of `key=value`, written by the program and read by who started it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Report of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// Datagrams.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// From the first system call to the end of the last one.
    pub time: Duration,
}

/// Report of a receiver, over all flows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Received {
    /// Datagrams that came as they were sent.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Numbers left out, below the highest of their flow.
    pub lost: u64,
    /// Datagrams behind one of their flow that was sent later, and repeated ones.
    pub reordered: u64,
    /// Datagrams with other bytes, another length or another flow than they were sent with.
    pub wrong: u64,
    /// Datagrams that the receiver's own sockets had no room for.
    pub full: u64,
    /// From the first datagram to the last one.
    pub time: Duration,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            datagrams,
            bytes,
            time,
        } = self;
        write!(f, "sent={datagrams} bytes={bytes} ns={}", time.as_nanos())
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            datagrams,
            bytes,
            lost,
            reordered,
            wrong,
            full,
            time,
        } = self;
        write!(
            f,
            "received={datagrams} bytes={bytes} lost={lost} reordered={reordered} wrong={wrong} \
             full={full} ns={}",
            time.as_nanos()
        )
    }
}

/// Values of the line in `output` that begins with `first`.
fn values<'a>(output: &'a str, first: &str) -> Option<HashMap<&'a str, u64>> {
    let line = output.lines().find(|line| line.starts_with(first))?;
    line.split_whitespace()
        .map(|word| {
            let (key, value) = word.split_once('=')?;
            Some((key, value.parse().ok()?))
        })
        .collect()
}

impl Sent {
    /// The report in what the program printed.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let values = values(output, "sent=")?;
        let value = |key| values.get(key).copied();
        Some(Self {
            datagrams: value("sent")?,
            bytes: value("bytes")?,
            time: Duration::from_nanos(value("ns")?),
        })
    }
}

impl Received {
    /// The report in what the program printed.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let values = values(output, "received=")?;
        let value = |key| values.get(key).copied();
        Some(Self {
            datagrams: value("received")?,
            bytes: value("bytes")?,
            lost: value("lost")?,
            reordered: value("reordered")?,
            wrong: value("wrong")?,
            full: value("full")?,
            time: Duration::from_nanos(value("ns")?),
        })
    }

    /// Datagrams in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.datagrams as f64 / self.time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests;
