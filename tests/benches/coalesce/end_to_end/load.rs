//! Loads of the guest's transmit queue.

use std::time::Duration;

use tests::guest::testbed::{GUEST, NIC};
use tests::guest::{Error, Guest, Result, datagrams, host};

/// Length of a measurement, in seconds.
const SECONDS: u32 = 2;
/// Longest time that one may take with all that belongs to it.
const LIMIT: Duration = Duration::from_secs(30);
/// Datagrams that are counted rather than their bytes, and those that fill a frame.
const SHORT: u32 = 200;
const LONG: u32 = 1472;
/// Echo requests, one after the other.
const PINGS: u32 = 3000;

/// Traffic through the device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Datagrams of one flow, so many bytes each, by `sendmmsg`.
    Udp { size: u32 },
    /// TCP from the guest, whose stack segments or leaves that to the host.
    Tcp { segmented_by_guest: bool },
    /// Round trips of one short frame.
    Ping,
}

impl Load {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 5] = [
        Self::Udp { size: LONG },
        Self::Udp { size: SHORT },
        Self::Tcp {
            segmented_by_guest: true,
        },
        Self::Tcp {
            segmented_by_guest: false,
        },
        Self::Ping,
    ];

    /// Its name, and the unit of its figure.
    pub(crate) fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Udp { size: SHORT } => ("guest UDP 200 B", "Mpps"),
            Self::Udp { .. } => ("guest UDP 1472 B", "Gbit/s"),
            Self::Tcp {
                segmented_by_guest: true,
            } => ("guest TCP without TSO and GSO", "Gbit/s"),
            Self::Tcp {
                segmented_by_guest: false,
            } => ("guest TCP with TSO", "Gbit/s"),
            Self::Ping => ("ping, a round trip", "ms"),
        }
    }

    /// Runs it once for its figure.
    pub(crate) fn measure(self, guest: &mut Guest) -> Result<f64> {
        match self {
            Self::Udp { size } => udp(guest, size),
            Self::Tcp { segmented_by_guest } => {
                let state = if segmented_by_guest { "off" } else { "on" };
                guest.expect(&format!("ethtool -K {NIC} tso {state} gso {state}"))?;
                tcp(guest)
            }
            Self::Ping => ping(),
        }
    }
}

/// Gigabits of long datagrams that arrive in a second, or millions of short ones.
fn udp(guest: &mut Guest, size: u32) -> Result<f64> {
    let options = format!("--size {size} --seconds {SECONDS}");
    let outcome = datagrams::to_host(guest, 1, &options)?;
    let received = outcome.received;
    if received.wrong + received.reordered > 0 {
        return Err(Error::Unexpected(outcome.to_string()));
    }
    let seconds = received.time.as_secs_f64();
    Ok(if size == SHORT {
        received.datagrams as f64 / seconds / 1e6
    } else {
        received.bytes as f64 * 8.0 / seconds / 1e9
    })
}

/// Gigabits that arrive in a second.
fn tcp(guest: &mut Guest) -> Result<f64> {
    guest.expect(
        "killall -9 iperf3 2>/dev/null; while pidof iperf3; do :; done; \
         iperf3 -s -1 -D && until netstat -lnt | grep -q :5201; do :; done",
    )?;
    let command = format!("iperf3 -J -c {GUEST} -t {SECONDS} -R --connect-timeout 5000");
    let output = host::run_for(&command, LIMIT)?;
    let unreadable = || Error::Unexpected(format!("iperf3 reports no rate:\n{output}"));
    // Warnings stand before the report.
    let report = &output[output.find('{').ok_or_else(unreadable)?..];
    let report: serde_json::Value = serde_json::from_str(report).map_err(|_| unreadable())?;
    let rate = report
        .pointer("/end/sum_received/bits_per_second")
        .and_then(serde_json::Value::as_f64)
        .ok_or_else(unreadable)?;
    Ok(rate / 1e9)
}

/// Milliseconds from a request to its answer, on average.
fn ping() -> Result<f64> {
    let report = host::run_for(&format!("ping -f -q -c {PINGS} {GUEST}"), LIMIT)?;
    // rtt min/avg/max/mdev = 0.041/0.068/…
    let average = report
        .lines()
        .find_map(|line| line.strip_prefix("rtt ")?.split('/').nth(4)?.parse().ok());
    average.ok_or_else(|| Error::Unexpected(format!("ping reports no time:\n{report}")))
}
