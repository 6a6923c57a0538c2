//! A daemon with a guest, whose limits are changed while it runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use tests::guest::testbed::{NIC, TAP};
use tests::guest::{Assets, Error, Guest, Machine, Result, Setup, Testbed};

use crate::case::{Case, Direction};
use crate::meter::Meter;
use crate::report::{Report, Row};
use crate::traffic::Traffic;

/// Until a new limit's burst is spent.
const WARM_UP: Duration = Duration::from_secs(2);
/// Measurement of one row.
const WINDOW: Duration = Duration::from_secs(10);

/// Options by number of queue pairs. The largest MTU of a tap spares a user-mode guest most of its
/// calls and frames, which are what keeps it from offering 1 Gbit/s of UDP.
const OPTIONS: [&[&str]; 2] = [
    &["--control-path", "FOLDER/control.sock", "--mtu", "65521"],
    &[
        "--control-path",
        "FOLDER/control.sock",
        "--mtu",
        "65521",
        "--queue-pairs",
        "2",
    ],
];

/// Measures `cases`, which all have so many `pairs`, with one daemon and one guest.
pub(crate) fn measure(
    assets: &Assets,
    pairs: u16,
    cases: &[Case],
    report: &mut Report,
) -> Result<()> {
    let setup = Setup {
        machine: Machine::UserMode,
        options: OPTIONS[usize::from(pairs) - 1],
    };
    let mut testbed = Testbed::open(assets, setup)?;
    if pairs > 1 {
        testbed
            .guest
            .expect(&format!("ethtool -L {NIC} combined {pairs}"))?;
    }
    for case in cases {
        let row = one(&mut testbed, case).map_err(|error| testbed.explain(&error))?;
        report.add(case, &row);
    }
    testbed.close()
}

fn one(testbed: &mut Testbed, case: &Case) -> Result<Row> {
    let mut control = Control::connect(testbed)?;
    // iperf3's own messages take the same way, so there is no limit while it starts and ends.
    control.ask("limits rx=off tx=off")?;
    let traffic = Traffic::start(&mut testbed.guest, case)?;
    let Case {
        direction, limit, ..
    } = case;
    control.ask(&format!("limits {direction}={limit}bit"))?;
    sleep(WARM_UP);
    let (throttled, packets) = (
        control.throttled(*direction)?,
        packets(&mut testbed.guest, case)?,
    );
    let rate = Meter::open(TAP, *direction)?.rate(WINDOW)?;
    let row = Row {
        measured: rate,
        throttled: control.throttled(*direction)? - throttled,
        packets: packets_since(&packets, &self::packets(&mut testbed.guest, case)?),
    };
    control.ask("limits rx=off tx=off")?;
    traffic.stop(&mut testbed.guest)?;
    Ok(row)
}

/// Counters of the driver on each of its queues in this direction.
fn packets(guest: &mut Guest, case: &Case) -> Result<Vec<u64>> {
    let report = guest.expect(&format!("ethtool -S {NIC}"))?;
    let count = |pair| {
        let name = format!("{}_queue_{pair}_packets: ", case.direction);
        let mut lines = report.lines();
        lines
            .find_map(|line| line.trim().strip_prefix(&name)?.parse().ok())
            .ok_or_else(|| Error::Unexpected(format!("no {name}in:\n{report}")))
    };
    (0..case.pairs).map(count).collect()
}

fn packets_since(before: &[u64], after: &[u64]) -> Vec<u64> {
    let pairs = before.iter().zip(after);
    pairs
        .map(|(before, after)| after.saturating_sub(*before))
        .collect()
}

/// A client at the daemon's control socket.
struct Control(BufReader<UnixStream>);

impl Control {
    fn connect(testbed: &Testbed) -> Result<Self> {
        let path = testbed.folder().join("control.sock");
        let socket = UnixStream::connect(path).map_err(Error::io("connecting to the daemon"))?;
        Ok(Self(BufReader::new(socket)))
    }

    /// Answer of the daemon to one command, which it has to obey.
    fn ask(&mut self, command: &str) -> Result<String> {
        let failed = || Error::io("talking to the daemon");
        writeln!(self.0.get_mut(), "{command}").map_err(failed())?;
        let mut answer = String::new();
        loop {
            let start = answer.len();
            let count = self.0.read_line(&mut answer).map_err(failed())?;
            if &answer[start..] == "ok\n" {
                answer.truncate(start);
                return Ok(answer);
            }
            if count == 0 || answer[start..].starts_with("error") {
                return Err(Error::Unexpected(format!("{command}: {answer}")));
            }
        }
    }

    /// Number of times that the limiter of this direction said no so far.
    fn throttled(&mut self, direction: Direction) -> Result<u64> {
        let counters = self.ask("counters")?;
        let name = format!("{direction}_limited ");
        let mut lines = counters.lines();
        lines
            .find_map(|line| line.strip_prefix(&name)?.parse().ok())
            .ok_or_else(|| Error::Unexpected(format!("no {name}in:\n{counters}")))
    }
}
