//! The program's words.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::content::HEADER;
use super::send::Until;
use super::{LONGEST, receive, send};

/// Help.
pub const USAGE: &str = "\
usage: datagrams send ADDRESS:PORT [--flows N] [--size BYTES|LEAST-MOST] (--count N | --seconds S)
       datagrams receive PORT [--flows N]

`send` spreads numbered datagrams over the ports from PORT on, one for each flow, and ends each flow with
a mark. `receive` takes them until every flow has ended, or nothing has come for a while.";

/// Most flows.
const FLOWS: RangeInclusive<u16> = 1..=64;

/// Work that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sends.
    Send {
        /// The receiver's address, with the port of its first flow.
        to: SocketAddrV4,
        /// Number of flows.
        flows: u16,
        /// Lengths of the datagrams.
        sizes: RangeInclusive<usize>,
        /// When it ends.
        until: Until,
    },
    /// Receives.
    Receive {
        /// Port of the first flow.
        port: u16,
        /// Number of flows.
        flows: u16,
    },
}

impl Command {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// The reason for which they are refused.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let [verb, place, options @ ..] = words else {
            return Err("a verb and a place are needed".into());
        };
        let mut flows = *FLOWS.start();
        let mut sizes = 1472..=1472;
        let mut until = Until::Count(1);
        for pair in options.chunks(2) {
            let [option, value] = pair else {
                return Err(format!("{} takes a value", pair[0]));
            };
            match option.as_str() {
                "--flows" => flows = within(parse(option, value)?, &FLOWS, option)?,
                "--size" => sizes = range(option, value)?,
                "--count" => until = Until::Count(parse(option, value)?),
                "--seconds" => until = Until::Time(Duration::from_secs(parse(option, value)?)),
                _ => return Err(format!("there is no option {option}")),
            }
        }
        match verb.as_str() {
            "send" => Ok(Self::Send {
                to: parse("the address", place)?,
                flows,
                sizes,
                until,
            }),
            "receive" => Ok(Self::Receive {
                port: parse("the port", place)?,
                flows,
            }),
            _ => Err(format!("there is no verb {verb}")),
        }
    }

    /// Does the work and reports it in one line.
    ///
    /// # Errors
    /// When a socket refuses.
    pub fn run(&self) -> io::Result<String> {
        match self {
            Self::Send {
                to,
                flows,
                sizes,
                until,
            } => Ok(send::run(*to, *flows, sizes, *until)?.to_string()),
            Self::Receive { port, flows } => Ok(receive::run(*port, *flows)?.to_string()),
        }
    }
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(what: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|error| format!("{what} {value}: {error}"))
}

fn range(option: &str, value: &str) -> Result<RangeInclusive<usize>, String> {
    let (least, most) = value.split_once('-').unwrap_or((value, value));
    let allowed = HEADER..=LONGEST;
    let least = within(parse(option, least)?, &allowed, option)?;
    let most = within(parse(option, most)?, &(least..=LONGEST), option)?;
    Ok(least..=most)
}

fn within<T: PartialOrd + fmt::Debug>(
    value: T,
    allowed: &RangeInclusive<T>,
    option: &str,
) -> Result<T, String> {
    if allowed.contains(&value) {
        Ok(value)
    } else {
        Err(format!("{option} {value:?} is not in {allowed:?}"))
    }
}

#[cfg(test)]
mod tests;
