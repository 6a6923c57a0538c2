//! A daemon that is killed again and again while a stream goes through its guest, and the daemons
//! that take its place.
//!
//! The tap is persistent, as one is that a supervisor makes, and keeps its address. QEMU hands
//! in no in-flight region for a network device: rings go on at their used index, TCP repairs the
//! frames of the last batch.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::stream::Stream;
use super::{lifecycle, traffic};
use crate::guest::qemu::FrontEnd;
use crate::guest::testbed::{GUEST, HOST, MAC, NIC, TAP};
use crate::guest::{Assets, Daemon, Error, Guest, Result, host};

/// Number of times in place of [`KILLS`].
const TIMES: &str = "LINUX_GUEST_KILLS";
const KILLS: u32 = 10;
/// Bytes of the stream that have to come back between two kills.
const BETWEEN: u64 = 1 << 20;

/// The daemon connects to QEMU as soon as it is there.
pub(super) fn connecting(assets: &Assets) -> Result<String> {
    under_load(assets, FrontEnd::Listens)
}

/// QEMU connects to the daemon, and looks for it ten times a second.
pub(super) fn listening(assets: &Assets) -> Result<String> {
    under_load(assets, FrontEnd::Connects)
}

fn under_load(assets: &Assets, front_end: FrontEnd) -> Result<String> {
    let times = match env::var(TIMES) {
        Ok(text) => text
            .parse()
            .map_err(|_| Error::Unexpected(format!("{TIMES}={text} is not a number")))?,
        Err(_) => KILLS,
    };
    let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
    make_tap()?;
    let mut pair = Pair::begin(assets, folder.path(), front_end)?;
    let seen = pair.survive(times).map_err(|error| pair.explain(&error))?;
    pair.end()?;
    Ok(seen)
}

/// A tap that outlives those who open it.
fn make_tap() -> Result<()> {
    host::run(&format!("ip tuntap add dev {TAP} mode tap vnet_hdr"))?;
    host::run(&format!("ip addr add {HOST}/24 dev {TAP}"))?;
    host::run(&format!("ip link set {TAP} up")).map(drop)
}

/// The guest and its present daemon. The guest is dropped first.
struct Pair {
    guest: Guest,
    daemon: Daemon,
    front_end: FrontEnd,
    socket: PathBuf,
}

impl Pair {
    fn begin(assets: &Assets, folder: &Path, front_end: FrontEnd) -> Result<Self> {
        let socket = folder.join("net.sock");
        let daemon = serve(front_end, &socket)?;
        let mut guest = assets.boot_behind(front_end, &socket)?;
        guest.expect(&format!(
            "ip link set {NIC} up && ip addr add {GUEST}/24 dev {NIC}"
        ))?;
        traffic::await_link()?;
        Ok(Self {
            guest,
            daemon,
            front_end,
            socket,
        })
    }

    fn survive(&mut self, times: u32) -> Result<String> {
        let stream = Stream::open(&mut self.guest)?;
        let mut pauses = Vec::new();
        stream.await_more(BETWEEN)?;
        let _start = stream.take_pause();
        for _ in 0..times {
            self.daemon.kill()?;
            let before = lifecycle::tap_bytes();
            self.daemon = serve(self.front_end, &self.socket)?;
            // What comes back first may be what the host has received already. Each byte passes the
            // tap twice.
            while lifecycle::tap_bytes() < before + 2 * BETWEEN {
                stream.await_more(1)?;
            }
            stream.await_more(BETWEEN)?;
            pauses.push(stream.take_pause());
            self.daemon.expect_alive()?;
        }
        let bytes = stream.finish()?;
        traffic::ping(&mut self.guest)?;
        Ok(format!(
            "killed {times} times, {} MiB of the stream came back as they were sent; {}",
            bytes >> 20,
            summary(pauses)
        ))
    }

    fn explain(&self, error: &Error) -> Error {
        Error::Unexpected(format!(
            "{}\nthe guest's console ends:\n{}\nthe daemon's log ends:\n{}",
            error.describe(),
            self.guest.console(),
            self.daemon.log()
        ))
    }

    fn end(&mut self) -> Result<()> {
        self.guest.power_off()?;
        self.daemon.expect_alive()?;
        self.daemon.stop()?;
        host::run(&format!("ip link del {TAP}")).map(drop)
    }
}

fn serve(front_end: FrontEnd, socket: &Path) -> Result<Daemon> {
    let options = ["--tap", TAP, "--mac", MAC].map(str::to_owned);
    match front_end {
        FrontEnd::Listens => Daemon::connect(socket, &options),
        FrontEnd::Connects => Daemon::serve(socket, &options),
    }
}

/// Times in which none of the stream came back.
fn summary(mut pauses: Vec<Duration>) -> String {
    pauses.sort();
    let at = |place: usize| pauses.get(place).map_or(0, Duration::as_millis);
    let short = pauses.iter().filter(|it| it.as_millis() < 1000).count();
    format!(
        "silence {} ms (shortest), {} ms (median), {} ms (longest), {short} of {} below a second",
        at(0),
        at(pauses.len() / 2),
        at(pauses.len().saturating_sub(1)),
        pauses.len()
    )
}
