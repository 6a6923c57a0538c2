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
/// Rounds in which QEMU copies the memory before it may stop the guest. A mark that is lost shows
/// only if its page was copied after it was written and before the last round.
const ROUNDS: u64 = 4;
/// Bytes of memory that are copied in a second.
const BANDWIDTH: u64 = 200 << 20;
/// Longest time in milliseconds for which the guest may stand still in the end, as QEMU reckons.
const DOWN_TIME: u64 = 300;
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
    /// Rounds in which the memory was copied.
    rounds: u64,
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
            let state = self.go_over()?;
            stream.await_more(BETWEEN)?;
            moves.push(Move {
                down: time(&state, "downtime")?,
                silent: stream.take_pause(),
                total: time(&state, "total-time")?,
                rounds: rounds(&state),
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

    /// Moves the guest to the other daemon; what QEMU tells of it.
    fn go_over(&mut self) -> Result<Value> {
        self.moves += 1;
        let next = machine(&self.folder, self.packed, self.moves);
        let mut guest = self.assets.receive(&next, &self.guest)?;
        let mut monitor = Monitor::connect(&next.monitor)?;
        let begin = Instant::now();
        let state = self.hand_over(&next)?;
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
        Ok(state)
    }

    /// Has QEMU copy the machine to `next`, in several rounds; what it tells of that at its end.
    fn hand_over(&mut self, next: &Movable) -> Result<Value> {
        // What is left is too much for so short a time as long as a stream goes on.
        let limits = json!({ "max-bandwidth": BANDWIDTH, "downtime-limit": 1 });
        self.monitor.execute("migrate-set-parameters", &limits)?;
        let uri = format!("unix:{}", next.incoming.display());
        self.monitor.execute("migrate", &json!({ "uri": uri }))?;
        let begin = Instant::now();
        let mut may_stop = false;
        loop {
            let state = self.monitor.execute("query-migrate", &json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(state),
                Some("failed" | "cancelled") => {
                    return Err(Error::Unexpected(format!("QEMU does not move: {state}")));
                }
                _ => {}
            }
            if !may_stop && rounds(&state) >= ROUNDS {
                may_stop = true;
                let limits = json!({ "downtime-limit": DOWN_TIME });
                self.monitor.execute("migrate-set-parameters", &limits)?;
            }
            require!(begin.elapsed() < LIMIT, "the guest does not move: {state}");
            thread::sleep(TICK);
        }
    }

    fn explain(&self, error: &Error) -> Error {
        let [first, second] = &self.daemons;
        Error::Unexpected(format!(
            "move {}: {}\nthe guest's console ends:\n{}\nthe first daemon's log ends:\n{}\nthe \
             second daemon's log ends:\n{}",
            self.moves,
            error.describe(),
            self.guest.console(),
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

/// Rounds so far: each begins with a look at the marks.
fn rounds(state: &Value) -> u64 {
    state["ram"]["dirty-sync-count"].as_u64().unwrap_or(0)
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
    let fewest = moves.iter().map(|it| it.rounds).min().unwrap_or(0);
    format!(
        "{}, at least {fewest} rounds each",
        figures.map(row).join(", ")
    )
}
