//! A driver from outside the kernel sends frames of every length back.

use crate::guest::error::require;
use crate::guest::probe::{self, Probe};
use crate::guest::testbed::{MAC, TAP};
use crate::guest::testpmd::{self, LONGEST, Rings};
use crate::guest::{Assets, Daemon, Error, Result};

const SHORTEST: usize = 60;
/// Frames under way together.
const WINDOW: usize = 16;

/// Every layout of the rings, with one daemon for those with indirect tables and one for those
/// without.
pub(super) fn every_length(_assets: &Assets) -> Result<String> {
    let mut rows = Vec::new();
    let mut whole = true;
    for indirect in [true, false] {
        let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
        let socket = folder.path().join("net.sock");
        let mut options = vec!["--tap", TAP, "--mac", MAC, "--mtu", "9000"];
        if !indirect {
            options.push("--no-indirect-desc");
        }
        let options: Vec<_> = options.into_iter().map(str::to_owned).collect();
        let mut daemon = Daemon::serve(&socket, &options)?;
        let mut probe = Probe::on(TAP, LONGEST)?;
        let layouts = Rings::all()
            .into_iter()
            .filter(|it| it.indirect == indirect);
        for (round, rings) in (0..).zip(layouts) {
            let mut driver = testpmd::start(&socket, rings)?;
            let outcome = there_and_back(&mut probe, round)?;
            testpmd::stop(&mut driver)?;
            daemon.expect_alive()?;
            whole &= outcome.is_none();
            rows.push(row(rings, outcome.as_deref()));
        }
        probe.close()?;
        daemon.stop()?;
    }
    let table = rows.join("\n");
    require!(whole, "frames changed on their way:\n{table}");
    Ok(format!("{SHORTEST} to {LONGEST} bytes\n{table}\n"))
}

/// Sends a frame of each length; says what came of the first ones that did not come back as they
/// were.
fn there_and_back(probe: &mut Probe, round: u8) -> Result<Option<String>> {
    let lengths: Vec<_> = (SHORTEST..=LONGEST).collect();
    for lengths in lengths.chunks(WINDOW) {
        let sent: Vec<_> = lengths
            .iter()
            .map(|len| probe::frame(*len, round))
            .collect();
        let back = probe.exchange(&sent)?;
        if let Some(at) = (0..sent.len()).find(|at| back.get(*at) != sent.get(*at)) {
            let came = match back.get(at) {
                None => "did not come back".into(),
                Some(frame) if frame.len() == lengths[at] => "came back changed".into(),
                Some(frame) => format!("came back as one of {}", frame.len()),
            };
            return Ok(Some(format!("a frame of {} bytes {came}", lengths[at])));
        }
    }
    Ok(None)
}

fn row(rings: Rings, fault: Option<&str>) -> String {
    let word = |holds: bool, yes: &'static str, no: &'static str| if holds { yes } else { no };
    format!(
        "  {:6} {:12} {:11} {}",
        word(rings.packed, "packed", "split"),
        word(rings.in_order, "in order", "not in order"),
        word(rings.indirect, "indirect", "no indirect"),
        fault.unwrap_or("every frame came back as it was sent")
    )
}
