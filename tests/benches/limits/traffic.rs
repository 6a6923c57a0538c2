//! More than the limit lets through.

use std::time::Duration;

use tests::guest::testbed::GUEST;
use tests::guest::{Guest, Process, Result, host};

use crate::case::{Case, Direction, Limit, Proto};

/// Far longer than a row takes.
const SECONDS: u32 = 300;
/// Longest time that it may take to flow.
const LIMIT: Duration = Duration::from_secs(30);
/// Connections: enough that there is always a frame for a single queue, and some for each of two.
const FLOWS: [u32; 2] = [4, 8];
/// A datagram that fills a frame of the usual MTU, one that fills a jumbo frame, and one that fills
/// a frame of the MTU in use here. A user-mode guest is slow at each call and each frame.
const DATAGRAM: u32 = 1472;
const LARGE_DATAGRAM: u32 = 8972;
const HUGE_DATAGRAM: u32 = 65_493;

/// iperf3 on the host, with its other half in the guest.
#[derive(Debug)]
pub(crate) struct Traffic(Process);

impl Traffic {
    /// Starts it and waits until it flows.
    pub(crate) fn start(guest: &mut Guest, case: &Case) -> Result<Self> {
        guest.expect(
            "killall -9 iperf3 2>/dev/null; while pidof iperf3; do :; done; \
             iperf3 -s -1 -D && until netstat -lnt | grep -q :5201; do :; done",
        )?;
        let command = format!(
            "iperf3 -c {GUEST} -t {SECONDS} -i 0.5 --forceflush --connect-timeout 5000 {}",
            options(case)
        );
        let mut process = host::start(&command)?;
        process.read_until("traffic", LIMIT, |output| {
            String::from_utf8_lossy(output)
                .contains("bits/sec")
                .then_some((output.len(), ()))
        })?;
        Ok(Self(process))
    }

    /// Ends both halves.
    pub(crate) fn stop(mut self, guest: &mut Guest) -> Result<()> {
        self.0.kill()?;
        guest.run("killall -9 iperf3").map(drop)
    }
}

fn options(case: &Case) -> String {
    let flows = FLOWS[usize::from(case.pairs > 1)];
    let reverse = match case.direction {
        Direction::Rx => "",
        Direction::Tx => "-R",
    };
    let load = match (case.proto, case.limit) {
        // A frame of 64 KB takes half a second then: one more or less in the window would be 5 % of
        // the row.
        (Proto::Tcp, Limit::Mega) => "-w 16K".to_owned(),
        (Proto::Tcp, _) => String::new(),
        (Proto::Udp, _) => datagrams(case, flows),
    };
    format!("-P {flows} {reverse} {load}")
}

fn datagrams(case: &Case, flows: u32) -> String {
    let bits = case.limit.bits();
    // From the guest as fast as the device takes them: a pace of its own would be that of its
    // coarse clock.
    let (length, rate) = match (case.direction, case.limit) {
        (Direction::Rx, Limit::Giga) => (LARGE_DATAGRAM, bits / 10 * 13),
        (Direction::Rx, _) => (DATAGRAM, bits * 2),
        (Direction::Tx, Limit::Mega) => (DATAGRAM, 0),
        (Direction::Tx, Limit::HundredMega | Limit::Giga) => (HUGE_DATAGRAM, 0),
    };
    format!("-u -l {length} -b {}", rate / flows)
}
