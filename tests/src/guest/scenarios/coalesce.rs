//! Frames of a guest that leave together arrive as the guest sent them.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use super::traffic;
use crate::guest::error::require;
use crate::guest::testbed::NIC;
use crate::guest::{Error, Result, Testbed, datagrams};

/// Datagrams over all numbers of flows.
const DATAGRAMS: u64 = 1_000_000;
const FLOWS: [u16; 3] = [1, 4, 16];

/// Every datagram of changing length arrives in its order, byte by byte.
pub(super) fn datagrams_of_flows(bed: &mut Testbed) -> Result<String> {
    let mut seen = Vec::new();
    let each = DATAGRAMS.div_ceil(FLOWS.len() as u64);
    for flows in FLOWS {
        let before = Merged::read(bed)?;
        // Runs of one length, as programs send them, and lengths that change with each datagram.
        let fixed = datagrams::to_host(
            &mut bed.guest,
            flows,
            &format!("--count {} --size 1200", each / 2),
        )?;
        let options = format!("--count {} --size 16-1472", each - each / 2);
        let changing = datagrams::to_host(&mut bed.guest, flows, &options)?;
        for outcome in [fixed, changing] {
            let received = outcome.received;
            require!(
                received.wrong == 0 && received.reordered == 0,
                "{flows} flows: {outcome}"
            );
            // What finds a full socket on the host has passed the device.
            require!(
                received.datagrams + received.full == outcome.sent.datagrams,
                "{flows} flows: {outcome}"
            );
        }
        let merged = Merged::read(bed)?.since(before);
        require!(
            merged.groups > 0 && merged.frames > merged.groups,
            "{flows} flows: nothing left together: {merged:?}"
        );
        seen.push(format!(
            "{flows} flows: {} datagrams, {} of them in {} groups, {} found a full socket",
            fixed.received.datagrams + changing.received.datagrams,
            merged.frames,
            merged.groups,
            fixed.received.full + changing.received.full
        ));
    }
    Ok(seen.join("; "))
}

/// A stream that the guest's stack segments comes back as it was, while offloads are switched.
pub(super) fn segments(bed: &mut Testbed) -> Result<String> {
    const LENGTH: usize = 32 << 20;
    let before = Merged::read(bed)?;
    bed.guest
        .expect(&format!("ethtool -K {NIC} tso off gso off"))?;
    traffic::echo(&mut bed.guest, LENGTH)?;
    let merged = Merged::read(bed)?.since(before);
    require!(
        merged.groups > 0 && merged.frames > merged.groups,
        "no segments left together: {merged:?}"
    );
    // As often as the guest gets to while data flows.
    bed.guest.expect(&format!(
        "(n=0; while :; do for state in on off; do \
         ethtool -K {NIC} tso $state gso $state && ethtool -K {NIC} tx $state || exit; \
         n=$((n + 1)); echo $n >/tmp/switches; done; done) >/dev/null 2>&1 & echo $! >/tmp/switching"
    ))?;
    let outcome = traffic::echo(&mut bed.guest, LENGTH);
    let switches = bed
        .guest
        .expect("kill $(cat /tmp/switching) && cat /tmp/switches")?;
    outcome?;
    require!(
        number(&switches)? >= 4,
        "offloads were switched {switches} times"
    );
    Ok(format!(
        "2 x {} MiB; {} segments in {} groups, then offloads switched {switches} times",
        LENGTH >> 20,
        merged.frames,
        merged.groups
    ))
}

/// The daemon's counters of what left together.
#[derive(Clone, Copy, Debug)]
struct Merged {
    groups: u64,
    frames: u64,
}

impl Merged {
    /// Asks the daemon, whose control socket is in the test bed's folder.
    fn read(bed: &Testbed) -> Result<Self> {
        let failed = || Error::io("asking the daemon for its counters");
        let path = bed.folder().join("control.sock");
        let mut socket = UnixStream::connect(path).map_err(failed())?;
        writeln!(socket, "counters").map_err(failed())?;
        let mut merged = Self {
            groups: 0,
            frames: 0,
        };
        for line in BufReader::new(socket).lines() {
            let line = line.map_err(failed())?;
            match line.split_once(' ') {
                Some(("tx_groups", value)) => merged.groups = number(value)?,
                Some(("tx_grouped", value)) => merged.frames = number(value)?,
                _ if line == "ok" => return Ok(merged),
                _ => {}
            }
        }
        Err(Error::Unexpected("the daemon told no counters".into()))
    }

    fn since(self, before: Self) -> Self {
        Self {
            groups: self.groups - before.groups,
            frames: self.frames - before.frames,
        }
    }
}

fn number(value: &str) -> Result<u64> {
    let parsed = value.parse();
    parsed.map_err(|_| Error::Unexpected(format!("a counter is {value}")))
}
