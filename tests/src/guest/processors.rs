//! Processors, and the processes that run on each.
//!
//! A guest has the last processor, everything else the others. Left alone, the scheduler puts a
//! guest, the daemon and the program that talks to the guest on the processor where one woke the
//! other, or apart, and changes its mind every few seconds: rates of one and the same device
//! differed by a factor of three.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, process};

use super::{Result, host};

/// Lists of processors as the kernel writes them.
#[derive(Debug)]
struct Shares {
    guest: String,
    rest: String,
}

/// Keeps this process and all that it starts from now on, but for guests, off the guests'
/// processor.
///
/// # Errors
/// When `taskset` fails.
pub fn share_out() -> Result<()> {
    let Some(Shares { rest, .. }) = shares() else {
        return Ok(());
    };
    host::run(&format!("taskset -p -c {rest} {}", process::id())).map(drop)
}

/// A command that runs `program` where guests run.
pub fn guest_command(program: impl AsRef<OsStr>) -> Command {
    let Some(Shares { guest, .. }) = shares() else {
        return Command::new(program);
    };
    let mut command = Command::new("taskset");
    command.args(["-c", guest]).arg(program);
    command
}

/// The guests' processor, for programs that choose theirs by themselves.
#[must_use]
pub fn of_guests() -> String {
    shares().map_or_else(|| "0".into(), |shares| shares.guest.clone())
}

/// Processors that were allowed before any was shared out; `None` for a single processor.
fn shares() -> Option<&'static Shares> {
    static SHARES: OnceLock<Option<Shares>> = OnceLock::new();
    let read = || split(allowed_in(&fs::read_to_string("/proc/self/status").ok()?)?);
    SHARES.get_or_init(read).as_ref()
}

fn allowed_in(status: &str) -> Option<&str> {
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map(str::trim)
}

/// Splits the last processor off a list like `0-3,8`.
fn split(list: &str) -> Option<Shares> {
    let (before, last) = match list.rsplit_once(',') {
        Some((before, last)) => (Some(before), last),
        None => (None, list),
    };
    let (first, guest) = match last.split_once('-') {
        Some((first, guest)) => (Some(first.parse::<u32>().ok()?), guest),
        None => (None, last),
    };
    let guest: u32 = guest.parse().ok()?;
    let range = first.map(|first| format!("{first}-{}", guest.saturating_sub(1)));
    let rest: Vec<_> = before.into_iter().chain(range.as_deref()).collect();
    (!rest.is_empty()).then(|| Shares {
        guest: guest.to_string(),
        rest: rest.join(","),
    })
}

#[cfg(test)]
mod tests;
