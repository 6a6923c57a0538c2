//! Data comes through, in each direction, size and protocol.

use std::fs;
use std::time::Duration;

use super::control::{MRG_RXBUF, expect_feature};
use super::traffic::{self, Datagrams};
use crate::guest::error::require;
use crate::guest::testbed::{GUEST, HOST, NIC, TAP};
use crate::guest::{Error, Result, Testbed, host};

const HOST6: &str = "2001:db8::1";
const GUEST6: &str = "2001:db8::2";

pub(super) fn ping(bed: &mut Testbed) -> Result<String> {
    traffic::ping(&mut bed.guest)?;
    Ok("5 each way".into())
}

pub(super) fn tcp(bed: &mut Testbed) -> Result<String> {
    Ok(traffic::tcp(&mut bed.guest, "")?.to_string())
}

pub(super) fn ping_and_tcp(bed: &mut Testbed) -> Result<String> {
    traffic::ping(&mut bed.guest)?;
    Ok(traffic::tcp(&mut bed.guest, "")?.to_string())
}

/// The guest opens the connection.
pub(super) fn guest_client(bed: &mut Testbed) -> Result<String> {
    let mut server = host::start(&format!("iperf3 -s -1 -B {HOST} --forceflush"))?;
    server.read_until("listening iperf3", Duration::from_secs(60), |output| {
        String::from_utf8_lossy(output)
            .contains("listening")
            .then_some((output.len(), ()))
    })?;
    let rate = traffic::guest_tcp(&mut bed.guest, HOST, "")?;
    Ok(rate.to_string())
}

pub(super) fn echo(bed: &mut Testbed) -> Result<String> {
    const LENGTH: usize = 32 << 20;
    traffic::echo(&mut bed.guest, LENGTH)?;
    Ok(format!("{} MiB", LENGTH >> 20))
}

/// Division of the daemon's time while the shortest frames come as fast as they can.
pub(super) fn small_frames(bed: &mut Testbed) -> Result<String> {
    // With the headers of UDP, IP and Ethernet 64 bytes; long enough for hundreds of ticks, which
    // are few samples else.
    const OPTIONS: &str = "-b 0 -l 22 -t 8";
    const MOST_IN_USER_MODE: f64 = 0.25;
    let mut seen = Vec::new();
    for (direction, reverse) in [("to guest", ""), ("from guest", "-R")] {
        let before = bed.daemon.ticks()?;
        let sent = traffic::udp(&mut bed.guest, &format!("{OPTIONS} {reverse}"))?.sent;
        let after = bed.daemon.ticks()?;
        let [user, system] = [0, 1].map(|at| (after[at] - before[at]) as f64);
        let share = user / (user + system);
        let outcome = format!(
            "{direction} {sent} frames: {:.1} % of {} ticks in user mode",
            share * 100.0,
            user + system
        );
        require!(share < MOST_IN_USER_MODE, "{outcome}");
        seen.push(outcome);
    }
    Ok(seen.join(", "))
}

/// At a rate far below what the path carries almost nothing may be lost on the way.
pub(super) fn udp(bed: &mut Testbed) -> Result<String> {
    const MAX_LOST: f64 = 0.02;
    const DATAGRAMS_PER_SECOND: u32 = 1000;
    let mut seen = Vec::new();
    for (direction, options) in [("to guest", ""), ("from guest", "-R")] {
        for length in [64, 1400, 8000] {
            let bits_per_second = length * 8 * DATAGRAMS_PER_SECOND;
            let options = format!("-b {bits_per_second} -l {length} {options}");
            let Datagrams { sent, lost, unread } = traffic::udp(&mut bed.guest, &options)?;
            let outcome =
                format!("{direction} {sent} of {length} B: {lost} lost, of them {unread} not read");
            require!(sent > 0.0 && lost - unread <= MAX_LOST * sent, "{outcome}");
            seen.push(outcome);
        }
    }
    Ok(seen.join("; "))
}

pub(super) fn ipv6(bed: &mut Testbed) -> Result<String> {
    host::run(&format!("ip -6 addr add {HOST6}/64 dev {TAP} nodad"))?;
    bed.guest.expect(&format!(
        "echo 0 >/proc/sys/net/ipv6/conf/{NIC}/accept_dad; ip -6 addr add {GUEST6}/64 dev {NIC}"
    ))?;
    traffic::ping_guest(GUEST6, "-6")?;
    traffic::ping_host(&mut bed.guest, HOST6, "-6")?;
    Ok(traffic::tcp_at(&mut bed.guest, GUEST6, "-6")?.to_string())
}

/// Datagrams that only a large MTU takes in one piece.
pub(super) fn jumbo(bed: &mut Testbed) -> Result<String> {
    let mtu = bed.guest.expect(&format!("cat /sys/class/net/{NIC}/mtu"))?;
    require!(mtu == "9000", "the guest's MTU is {mtu}");
    // `-M do`: neither the host nor a router may cut the request.
    traffic::ping_guest(GUEST, "-M do -s 8972")?;
    traffic::ping_host(&mut bed.guest, HOST, "-s 8972")?;
    let table = bed.guest.expect("cat /proc/net/snmp")?;
    let cut = traffic::snmp(&table, "Ip:", "FragCreates");
    require!(cut == Some(0.0), "the guest cut fragments: {cut:?}");
    Ok(traffic::tcp(&mut bed.guest, "")?.to_string())
}

/// As fast as they return.
pub(super) fn many_pings(bed: &mut Testbed) -> Result<String> {
    let report = host::run_for(
        &format!("ping -f -q -c 20000 -W 5 {GUEST}"),
        Duration::from_secs(120),
    )?;
    traffic::expect_no_loss(&report)?;
    require!(
        report.contains("20000 received"),
        "not all came back:\n{report}"
    );
    bed.daemon.expect_alive()?;
    Ok(report.lines().last().unwrap_or_default().to_owned())
}

/// The file has the header of a capture and at least the frames of five pings each way.
pub(super) fn capture(bed: &mut Testbed) -> Result<String> {
    const MAGIC: [[u8; 4]; 4] = [
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
    ];
    const FRAMES: usize = 20;
    const FRAME_BYTES: usize = 16 + 98;
    traffic::ping(&mut bed.guest)?;
    let path = bed.folder().join("net.pcap");
    // It is complete when the daemon has ended.
    bed.reopen(&[])?;
    let bytes = fs::read(&path).map_err(Error::io("reading the capture"))?;
    require!(
        MAGIC.iter().any(|magic| bytes.starts_with(magic)),
        "no capture header in {} bytes",
        bytes.len()
    );
    require!(
        bytes.len() >= 24 + FRAMES * FRAME_BYTES,
        "{} bytes are too few for {FRAMES} frames",
        bytes.len()
    );
    Ok(format!("{} bytes", bytes.len()))
}

/// Gain of merging over a driver that posts one buffer for a whole frame. Linux without mergeable
/// buffers posts 64 KB for each, so it still gets whole segments and the rates are alike; what
/// merging saves is that memory. Frames of one MTU are the third figure. The sizes are what is
/// judged; rates are for the reader.
pub(super) fn merging(bed: &mut Testbed) -> Result<String> {
    const LARGE: f64 = 8192.0;
    let (with, with_len) = best_tcp_and_length(bed)?;
    bed.reopen(&["--no-mrg-rxbuf"])?;
    expect_feature(&mut bed.guest, MRG_RXBUF, false)?;
    let (without, without_len) = best_tcp_and_length(bed)?;
    bed.reopen(&["--no-mrg-rxbuf", "--no-guest-tso4", "--no-guest-tso6"])?;
    let (small, small_len) = best_tcp_and_length(bed)?;
    let gain = with.receive.0 / without.receive.0;
    let seen = format!(
        "to guest {gain:.1} times; with: {with}, {with_len:.0} B a frame; without: {without}, {without_len:.0} B; \
         one MTU a frame: {small}, {small_len:.0} B"
    );
    require!(
        with_len > LARGE && without_len > LARGE && small_len < LARGE,
        "{seen}"
    );
    Ok(seen)
}

/// The best of three transfers, and the bytes of a frame that the guest received, on average.
fn best_tcp_and_length(bed: &mut Testbed) -> Result<(traffic::Throughput, f64)> {
    let received = |bed: &mut Testbed| -> Result<[f64; 2]> {
        let read = format!("cd /sys/class/net/{NIC}/statistics && cat rx_bytes rx_packets");
        let report = bed.guest.expect(&read)?;
        let mut numbers = report
            .split_whitespace()
            .filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(bytes), Some(packets)) => Ok([bytes, packets]),
            _ => Err(Error::Unexpected(format!("no counters: {report}"))),
        }
    };
    let before = received(bed)?;
    // To the guest alone, so that acknowledgements of the other direction do not count.
    traffic::tcp_to_guest(&mut bed.guest)?;
    let after = received(bed)?;
    let length = (after[0] - before[0]) / (after[1] - before[1]).max(1.0);
    Ok((traffic::best_tcp(&mut bed.guest)?, length))
}
