//! Guests and daemons come and go.

use std::fs;
use std::time::Duration;

use super::traffic;
use crate::guest::error::require;
use crate::guest::testbed::{GUEST, TAP};
use crate::guest::{Guest, Process, Result, Testbed, host};

/// The harness by itself: commands, their output and status, a command that hangs, the contents of
/// the image.
pub(super) fn shell(guest: &mut Guest) -> Result<String> {
    let reply = guest.run("echo one; echo two >&2; exit 3")?;
    require!(
        (reply.status, reply.output.as_str()) == (3, "one\ntwo"),
        "the shell answered {reply:?}"
    );
    let hang = guest.run_for("sleep 3; echo late", Duration::from_millis(300));
    require!(hang.is_err(), "a command that hangs came to {hang:?}");
    // What the late command prints is not taken for the output of the next.
    let reply = guest.run("echo next")?;
    require!(
        reply.output.ends_with("next") && reply.status == 0,
        "the shell answered {reply:?}"
    );
    for tool in ["ethtool --version", "iperf3 --version"] {
        guest.expect(tool)?;
    }
    let modules = guest.expect("lsmod")?;
    require!(
        modules.contains("virtio_net") && modules.contains("8021q"),
        "the modules are not loaded:\n{modules}"
    );
    guest.expect("uname -r")
}

pub(super) fn next_guest(bed: &mut Testbed) -> Result<String> {
    const GUESTS: u32 = 3;
    for _ in 1..GUESTS {
        traffic::ping(&mut bed.guest)?;
        bed.next_guest()?;
        bed.daemon.expect_alive()?;
    }
    traffic::ping(&mut bed.guest)?;
    Ok(format!(
        "{GUESTS} guests, the last one {}",
        traffic::tcp(&mut bed.guest, "")?
    ))
}

/// The daemon dies in the middle of a transfer; another one takes its place for the next guest.
pub(super) fn crash(bed: &mut Testbed) -> Result<String> {
    let mut seen = Vec::new();
    for options in ["", "-R"] {
        let _load = load(&mut bed.guest, options)?;
        bed.crash()?;
        traffic::ping(&mut bed.guest)?;
        seen.push(traffic::tcp(&mut bed.guest, "")?.to_string());
    }
    Ok(seen.join("; "))
}

/// An endless transfer, already under way. It ends when dropped.
pub(super) fn load(guest: &mut Guest, options: &str) -> Result<Process> {
    const UNDER_WAY_BYTES: u64 = 1 << 20;
    traffic::serve(guest)?;
    let before = tap_bytes();
    let mut process = host::start(&format!(
        "iperf3 -c {GUEST} -t 600 --connect-timeout 5000 {options}"
    ))?;
    process.wait_until("traffic", Duration::from_secs(20), || {
        tap_bytes() > before + UNDER_WAY_BYTES
    })?;
    Ok(process)
}

/// Bytes that went over the tap, both ways. Not from `/sys`, which shows the interfaces of whoever
/// mounted it.
pub(super) fn tap_bytes() -> u64 {
    const RECEIVED: usize = 0;
    const SENT: usize = 8;
    let table = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let name = format!("{TAP}:");
    let Some(line) = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(name.as_str()))
    else {
        return 0;
    };
    let counters: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    [RECEIVED, SENT]
        .iter()
        .filter_map(|column| counters.get(*column))
        .sum()
}
