//! A guest that moves from QEMU to QEMU and from daemon to daemon while a stream goes through it.
//!
//! Each daemon has a tap on one bridge of the host, as two hosts would be on one network. The guest
//! goes to and fro; wherever it was, the next QEMU finds a daemon that has served its guest before.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stream::Stream;
use super::{control, traffic};
use crate::guest::error::require;
use crate::guest::qemu::Movable;
use crate::guest::qmp::Monitor;
use crate::guest::testbed::{GUEST, HOST, MAC, NIC, SECOND, TAP};
use crate::guest::{Assets, Daemon, Error, Guest, Result, host};

/// Number of moves in place of [`MOVES`].
const TIMES: &str = "LINUX_GUEST_MIGRATIONS";
const MOVES: u32 = 3;

const BRIDGE: &str = "br0";
/// Longest time of one move; a few seconds are usual.
const LIMIT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(10);
/// Bytes of the stream that have to come back between two moves.
const BETWEEN: u64 = 1 << 20;

/// A driver of split rings.
pub(super) fn split_rings(assets: &Assets) -> Result<String> {
    under_load(assets, false)
}

/// A driver of packed rings.
pub(super) fn packed_rings(assets: &Assets) -> Result<String> {
    under_load(assets, true)
}

/// The guest moves as often as the environment says, three times by default.
fn under_load(assets: &Assets, packed: bool) -> Result<String> {
    let times = match env::var(TIMES) {
        Ok(text) => text
            .parse()
            .map_err(|_| Error::Unexpected(format!("{TIMES}={text} is not a number")))?,
        Err(_) => MOVES,
    };
    let folder = tempfile::tempdir().map_err(Error::io("creating a temporary folder"))?;
    let mut journey = Journey::begin(assets, folder.path(), packed)?;
    let seen = journey
        .travel(times)
        .map_err(|error| journey.explain(&error))?;
    journey.end()?;
    Ok(seen)
}

/// Times of one move.
#[derive(Debug, Clone, Copy)]
struct Move {
    /// Time in which the guest ran nowhere, as QEMU tells it.
    down: Duration,
    /// Time in which none of the stream came back.
    silent: Duration,
    total: Duration,
}

/// The guest, and the daemons between which it goes to and fro. The guest is dropped first.
struct Journey<'a> {
    guest: Guest,
    monitor: Monitor,
    daemons: [Daemon; 2],
    assets: &'a Assets,
    folder: PathBuf,
    packed: bool,
    /// Number of moves so far.
    moves: u32,
}

impl<'a> Journey<'a> {
    fn begin(assets: &'a Assets, folder: &Path, packed: bool) -> Result<Self> {
        host::run(&format!("ip link add {BRIDGE} type bridge"))?;
        host::run(&format!("ip addr add {HOST}/24 dev {BRIDGE}"))?;
        let daemons = [serve(folder, 0)?, serve(folder, 1)?];
        for tap in [TAP, SECOND.tap] {
            host::run(&format!("ip link set {tap} master {BRIDGE} up"))?;
        }
        host::run(&format!("ip link set {BRIDGE} up"))?;
        let machine = machine(folder, packed, 0);
        let mut guest = assets.boot_movable(&machine)?;
        guest.expect(&format!(
            "ip link set {NIC} up && ip addr add {GUEST}/24 dev {NIC}"
        ))?;
        control::expect_feature(&mut guest, control::RING_PACKED, packed)?;
        traffic::await_link()?;
        Ok(Self {
            guest,
            monitor: Monitor::connect(&machine.monitor)?,
            daemons,
            assets,
            folder: folder.to_owned(),
            packed,
            moves: 0,
        })
    }

    fn travel(&mut self, times: u32) -> Result<String> {
        let stream = Stream::open(&mut self.guest)?;
        let mut moves = Vec::new();
        for _ in 0..times {
            stream.await_more(BETWEEN)?;
            let _quiet = stream.take_pause();
            let (down, total) = self.go_over()?;
            stream.await_more(BETWEEN)?;
            let silent = stream.take_pause();
            moves.push(Move {
                down,
                silent,
                total,
            });
        }
        let bytes = stream.finish()?;
        traffic::ping(&mut self.guest)?;
        Ok(format!(
            "{times} moves, {} MiB of the stream came back as they were sent; {}",
            bytes >> 20,
            summary(&moves)
        ))
    }

    /// Moves the guest to the other daemon; the time that it was down, and that of the whole move.
    fn go_over(&mut self) -> Result<(Duration, Duration)> {
        self.moves += 1;
        let next = machine(&self.folder, self.packed, self.moves);
        let mut guest = self.assets.receive(&next, &self.guest)?;
        let mut monitor = Monitor::connect(&next.monitor)?;
        let limits = json!({ "max-bandwidth": 1_u64 << 32, "downtime-limit": 300 });
        self.monitor.execute("migrate-set-parameters", &limits)?;
        let uri = format!("unix:{}", next.incoming.display());
        self.monitor.execute("migrate", &json!({ "uri": uri }))?;
        let begin = Instant::now();
        let took = loop {
            let state = self.monitor.execute("query-migrate", &json!({}))?;
            match state["status"].as_str() {
                Some("completed") => {
                    break (time(&state, "downtime")?, time(&state, "total-time")?);
                }
                Some("failed" | "cancelled") => {
                    return Err(Error::Unexpected(format!("QEMU does not move: {state}")));
                }
                _ => {}
            }
            require!(begin.elapsed() < LIMIT, "the guest does not move: {state}");
            thread::sleep(TICK);
        };
        while monitor.execute("query-status", &json!({}))?["running"] != true {
            require!(begin.elapsed() < LIMIT, "the guest does not go on");
            thread::sleep(TICK);
        }
        // What the machine that was left says last is of no interest: it may hang up first.
        let _answer = self.monitor.execute("quit", &json!({}));
        self.guest.wait_exit()?;
        std::mem::swap(&mut self.guest, &mut guest);
        self.monitor = monitor;
        self.daemons.iter_mut().try_for_each(Daemon::expect_alive)?;
        Ok(took)
    }

    fn explain(&self, error: &Error) -> Error {
        let [first, second] = &self.daemons;
        Error::Unexpected(format!(
            "move {}: {}\nthe first daemon's log ends:\n{}\nthe second daemon's log ends:\n{}",
            self.moves,
            error.describe(),
            first.log(),
            second.log()
        ))
    }

    fn end(&mut self) -> Result<()> {
        self.guest.power_off()?;
        for daemon in &mut self.daemons {
            daemon.expect_alive()?;
            daemon.stop()?;
        }
        host::run(&format!("ip link del {BRIDGE}")).map(drop)
    }
}

fn device(folder: &Path, place: u32) -> PathBuf {
    folder.join(format!("net{place}.sock"))
}

/// The machine in which the guest is after so many moves.
fn machine(folder: &Path, packed: bool, moves: u32) -> Movable {
    Movable {
        packed,
        device: device(folder, moves % 2),
        monitor: folder.join(format!("monitor{moves}")),
        incoming: folder.join(format!("incoming{moves}")),
    }
}

fn serve(folder: &Path, place: u32) -> Result<Daemon> {
    let tap = [TAP, SECOND.tap][place as usize];
    let options = ["--tap", tap, "--mac", MAC].map(str::to_owned);
    Daemon::serve(&device(folder, place), &options)
}

fn time(state: &Value, name: &str) -> Result<Duration> {
    let ms = state[name].as_u64();
    ms.map(Duration::from_millis)
        .ok_or_else(|| Error::Unexpected(format!("QEMU tells no {name}: {state}")))
}

fn summary(moves: &[Move]) -> String {
    let figures = [
        ("down-time", moves.iter().map(|it| it.down).collect()),
        ("silence", moves.iter().map(|it| it.silent).collect()),
        ("whole move", moves.iter().map(|it| it.total).collect()),
    ];
    let row = |(name, mut times): (&str, Vec<Duration>)| {
        times.sort();
        let at = |place: usize| times.get(place).map_or(0, Duration::as_millis);
        let (middle, last) = (at(times.len() / 2), at(times.len().saturating_sub(1)));
        format!("{name} {middle} ms (median), {last} ms (longest)")
    };
    figures.map(row).join(", ")
}
