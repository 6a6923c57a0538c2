//! Traffic between the host and the guest.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::stream::Noise;
use crate::guest::error::require;
use crate::guest::testbed::{GUEST, HOST};
use crate::guest::{Error, Guest, Result, host};

/// Longest time that an iperf3 run may take; it measures for [`SECONDS`].
const LIMIT: Duration = Duration::from_secs(30);
const SECONDS: u32 = 2;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Rate(pub(super) f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} Gbit/s", self.0 / 1e9)
    }
}

/// TCP throughput by direction, seen from the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Throughput {
    /// Host to guest.
    pub(super) receive: Rate,
    /// Guest to host.
    pub(super) transmit: Rate,
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to guest {}, from guest {}", self.receive, self.transmit)
    }
}

/// Five pings each way, none lost.
pub(super) fn ping(guest: &mut Guest) -> Result<()> {
    ping_guest(GUEST, "")?;
    ping_host(guest, HOST, "")
}

/// Pings the guest until it answers: a link comes up in its own time, and what is sent meanwhile is
/// lost.
pub(super) fn await_link() -> Result<()> {
    host::run(&format!("ping -q -c 1 -w 10 {GUEST}")).map(drop)
}

/// Five pings from the host, none lost.
pub(super) fn ping_guest(address: &str, options: &str) -> Result<()> {
    expect_five(&host::run(&format!(
        "ping -c 5 -w 30 -i 0.05 {options} {address}"
    ))?)
}

/// Five pings from the guest, none lost.
pub(super) fn ping_host(guest: &mut Guest, address: &str, options: &str) -> Result<()> {
    expect_five(&guest.expect(&format!("ping -c 5 -w 30 -A {options} {address}"))?)
}

/// The first five pings were answered. With a deadline `ping` sends more while answers are late,
/// and without one it gives up on those that take twice as long as the ones before.
fn expect_five(report: &str) -> Result<()> {
    // BusyBox, which a guest has, counts from zero.
    let first = u32::from(report.contains("icmp_seq="));
    let answered = |number: u32| report.contains(&format!("seq={number} ttl="));
    require!(
        (first..first + 5).all(answered),
        "packets were lost:\n{report}"
    );
    Ok(())
}

pub(super) fn expect_no_loss(report: &str) -> Result<()> {
    require!(
        report.contains(" 0% packet loss"),
        "packets were lost:\n{report}"
    );
    Ok(())
}

/// TCP both ways, from the host to a server in the guest.
pub(super) fn tcp(guest: &mut Guest, options: &str) -> Result<Throughput> {
    tcp_at(guest, GUEST, options)
}

/// TCP from the host to the guest alone.
pub(super) fn tcp_to_guest(guest: &mut Guest) -> Result<()> {
    iperf(guest, GUEST, "").map(|_report| ())
}

/// The best of three measurements for each direction: other work on the machine only ever takes
/// away.
pub(super) fn best_tcp(guest: &mut Guest) -> Result<Throughput> {
    let mut best = tcp(guest, "")?;
    for _ in 1..3 {
        let next = tcp(guest, "")?;
        best.receive.0 = best.receive.0.max(next.receive.0);
        best.transmit.0 = best.transmit.0.max(next.transmit.0);
    }
    Ok(best)
}

/// TCP both ways, with another address of the guest.
pub(super) fn tcp_at(guest: &mut Guest, address: &str, options: &str) -> Result<Throughput> {
    let mut rate = |direction: &str| {
        let report = iperf(guest, address, &format!("{direction} {options}"))?;
        let rate = number(&report, "/end/sum_received/bits_per_second")?;
        require!(rate > 0.0, "iperf3 {direction} {options}: nothing arrived");
        Ok(Rate(rate))
    };
    Ok(Throughput {
        receive: rate("")?,
        transmit: rate("-R")?,
    })
}

/// TCP to a server, by the guest's own client, as the receiver counts it.
pub(super) fn guest_tcp(guest: &mut Guest, address: &str, options: &str) -> Result<Rate> {
    let command = format!("iperf3 -c {address} -t {SECONDS} -f m {options}");
    let report = guest.expect_for(&command, LIMIT)?;
    let line = report
        .lines()
        .rfind(|line| line.ends_with("receiver"))
        .unwrap_or_default();
    let rate = rate_in(line).ok_or_else(|| {
        Error::Unexpected(format!("iperf3 in the guest reports no rate:\n{report}"))
    })?;
    require!(rate.0 > 0.0, "nothing arrived:\n{report}");
    Ok(rate)
}

/// The rate in a line of iperf3's report: the word before "Mbits/sec".
fn rate_in(line: &str) -> Option<Rate> {
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Mbits/sec")?;
    let megabits: f64 = words.get(unit.checked_sub(1)?)?.parse().ok()?;
    Some(Rate(megabits * 1e6))
}

/// Outcome of the datagrams of one measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagrams {
    pub(super) sent: f64,
    /// Lost anywhere.
    pub(super) lost: f64,
    /// Lost at the end, because the program that receives did not get to run.
    pub(super) unread: f64,
}

/// UDP at a fixed rate.
pub(super) fn udp(guest: &mut Guest, options: &str) -> Result<Datagrams> {
    let unread_before = unread_datagrams(guest)?;
    let report = iperf(guest, GUEST, &format!("-u {options}"))?;
    Ok(Datagrams {
        sent: number(&report, "/end/sum/packets")?,
        lost: number(&report, "/end/sum/lost_packets")?,
        unread: unread_datagrams(guest)? - unread_before,
    })
}

/// Datagrams that came but found a full socket, on the host and in the guest.
fn unread_datagrams(guest: &mut Guest) -> Result<f64> {
    const TABLE: &str = "/proc/net/snmp";
    let here = fs::read_to_string(TABLE).map_err(Error::io(format!("reading {TABLE}")))?;
    let there = guest.expect(&format!("cat {TABLE}"))?;
    Ok([here, there]
        .iter()
        .filter_map(|table| snmp(table, "Udp:", "RcvbufErrors"))
        .sum())
}

/// A counter of the kernel's table: a line of names stands above each line of values.
pub(super) fn snmp(table: &str, protocol: &str, counter: &str) -> Option<f64> {
    let mut lines = table.lines().filter(|line| line.starts_with(protocol));
    let column = lines
        .next()?
        .split_whitespace()
        .position(|name| name == counter)?;
    lines.next()?.split_whitespace().nth(column)?.parse().ok()
}

/// Sends data to an echo in the guest and compares what comes back, byte by byte.
pub(super) fn echo(guest: &mut Guest, length: usize) -> Result<()> {
    const PORT: u16 = 7007;
    guest.expect(&format!(
        "nc -l -p {PORT} -e cat >/dev/null 2>&1 &\nuntil netstat -lnt | grep -q :{PORT}; do :; done"
    ))?;
    let mut sent = vec![0; length];
    Noise::default().fill(&mut sent);
    let mut stream =
        TcpStream::connect((GUEST, PORT)).map_err(Error::io("connecting to the guest"))?;
    stream
        .set_read_timeout(Some(LIMIT))
        .map_err(Error::io("setting a timeout"))?;
    let mut sender = stream.try_clone().map_err(Error::io("cloning a socket"))?;
    let (received, outcome) = thread::scope(|scope| {
        scope.spawn(|| {
            sender
                .write_all(&sent)
                .and_then(|()| sender.shutdown(Shutdown::Write))
        });
        let mut received = Vec::with_capacity(length);
        let outcome = stream.read_to_end(&mut received);
        // A sender that still waits for room gives up.
        let _ended = stream.shutdown(Shutdown::Both);
        (received, outcome)
    });
    outcome.map_err(Error::io(format!(
        "reading the echo: {} of {length} bytes came",
        received.len()
    )))?;
    let same = sent
        .iter()
        .zip(&received)
        .take_while(|(sent, received)| sent == received)
        .count();
    require!(
        received == sent,
        "{} of {length} bytes came back, the first {same} as they were sent",
        received.len()
    );
    Ok(())
}

/// Starts the iperf3 server in the guest, for one client, in place of one that may still run. It
/// would serve one client after another, but refuses those that come while it turns from one to the
/// next.
pub(super) fn serve(guest: &mut Guest) -> Result<()> {
    guest.expect(
        "killall -9 iperf3 2>/dev/null; while pidof iperf3; do :; done; \
         iperf3 -s -1 -D && until netstat -lnt | grep -q :5201; do :; done",
    )?;
    Ok(())
}

fn iperf(guest: &mut Guest, address: &str, options: &str) -> Result<serde_json::Value> {
    serve(guest)?;
    let command = format!("iperf3 -J -c {address} -t {SECONDS} --connect-timeout 5000 {options}");
    report(&host::run_for(&command, LIMIT)?)
}

/// Count of the receiver, in iperf3's report.
pub(super) fn received(output: &str) -> Result<Rate> {
    number(&report(output)?, "/end/sum_received/bits_per_second").map(Rate)
}

fn report(output: &str) -> Result<serde_json::Value> {
    // Warnings stand before the report.
    let report = &output[output.find('{').unwrap_or_default()..];
    serde_json::from_str(report)
        .map_err(|error| Error::Unexpected(format!("iperf3's report: {error}:\n{output}")))
}

fn number(report: &serde_json::Value, path: &str) -> Result<f64> {
    report
        .pointer(path)
        .and_then(serde_json::Value::as_f64)
        .ok_or_else(|| {
            let reason = report
                .get("error")
                .and_then(serde_json::Value::as_str)
                .unwrap_or("no reason given");
            Error::Unexpected(format!("iperf3 reports no {path}: {reason}"))
        })
}
