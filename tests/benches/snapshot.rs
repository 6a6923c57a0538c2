//! Time that it takes to save and to restore a device, and the size of its state.
//!
//! The devices have backends in memory, so nothing here waits for the host: what is measured is the
//! work of this code. An activation starts threads, whose system calls are the host's; it has a row
//! of its own. Printed are medians, with the time that 99 of a hundred keep, beside a copy of the
//! same bytes. States that somebody changed come last: the slowest of each kind.
//!
//! `cargo bench -p tests --bench snapshot`; the table is written to `target/bench/snapshot.json`,
//! too.

use std::cell::Cell;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io};

use net_device::{Features, Snapshot, Snapshottable, VirtioDevice};
use serde_json::{Value, json};
use snapshot::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use snapshot::state::{MAX_QUEUE_SIZE, NetState, QueueState};
use tests::testbed::{Rig, lists, overlong, pause, reseal};

const ROUNDS: usize = 2000;

/// Times that a changed state is restored: what else the host does makes some of them longer.
const REPEATS: usize = 5;

/// Numbers that a list has not, where its length stands.
const FORGED: [u64; 4] = [u64::MAX, 1 << 32, 10 << 20, 1 << 16];

/// Rounds of what starts threads.
const FEW: usize = 50;

/// Median and 99th percentile.
struct Times(Duration, Duration);

impl Times {
    /// Times of `measured`, each behind a `set_up` that does not count.
    fn of<S, T>(
        rounds: usize,
        mut set_up: impl FnMut() -> S,
        mut measured: impl FnMut(S) -> T,
    ) -> Self {
        let mut times: Vec<_> = (0..rounds)
            .map(|_| {
                let prepared = set_up();
                let start = Instant::now();
                let done = black_box(measured(prepared));
                let time = start.elapsed();
                drop(done);
                time
            })
            .collect();
        times.sort_unstable();
        Self(times[rounds / 2], times[rounds * 99 / 100])
    }
}

/// A device of `pairs` pairs in the middle of its work, with full tables if so.
fn saved(pairs: u16, full: bool) -> Rig {
    let mut rig = Rig::new(Rig::config(pairs));
    rig.start(Features::empty());
    if full {
        let list = |count: u32, first: u8| {
            let macs = (0..count as u8).map(|n| [first, 0, 0, 0, 0, n]);
            [
                &count.to_le_bytes()[..],
                macs.collect::<Vec<_>>().as_flattened(),
            ]
            .concat()
        };
        let lists = [list(64, 2), list(64, 3)].concat();
        assert_eq!(rig.command(1, 0, &lists), 0, "the tables have room");
        for id in 1_u16..64 {
            assert_eq!(rig.command(2, 0, &id.to_le_bytes()), 0, "a VLAN");
        }
    }
    for pair in 0..pairs {
        rig.post(pair, &[2048; 8]);
    }
    pause(&mut rig);
    rig
}

/// Rows of one device.
fn measure(name: &str, pairs: u16, full: bool, rows: &mut Vec<Value>) {
    let mut rig = saved(pairs, full);
    let snapshot = rig.device.snapshot().expect("it is paused");
    let bytes = snapshot.as_bytes().to_vec();
    let copy = Times::of(ROUNDS, || (), |()| bytes.clone());
    let save = Times::of(ROUNDS, || (), |()| rig.device.snapshot());
    let open = Times::of(ROUNDS, || bytes.clone(), Snapshot::from_bytes);
    let mut next = Rig::new(Rig::config(pairs));
    let restore = Times::of(
        ROUNDS,
        || snapshot.clone(),
        |snapshot| next.device.restore(snapshot).expect("a device alike"),
    );
    let next = Cell::new(Some(rig.move_to(next)));
    let activate = Times::of(
        FEW,
        || {
            let mut rig = next.take().expect("it comes back");
            rig.device.reset();
            let restored = rig.device.restore(snapshot.clone());
            restored.expect("a device alike");
            let setups = rig.setups();
            (rig, setups)
        },
        |(mut rig, setups)| {
            rig.try_activate(setups).expect("where it lay");
            next.set(Some(rig));
        },
    );
    println!("\n{name}: {} bytes", bytes.len());
    let times = [
        ("copy of the bytes", copy),
        ("save", save),
        ("check of bytes that arrived", open),
        ("restore", restore),
        ("activation, with its system calls", activate),
    ];
    for (what, Times(median, slow)) in times {
        let [median, slow] = [median, slow].map(|time| time.as_secs_f64() * 1e6);
        println!("  {what:36} {median:9.1} us   99 % within {slow:9.1} us");
        rows.push(json!({
            "device": name, "bytes": bytes.len(), "what": what, "median_us": median, "p99_us": slow,
        }));
    }
}

/// Shortest time of a few in which `file` is refused, or restored.
fn refusal(next: &mut Rig, file: &[u8]) -> Duration {
    let times = (0..REPEATS).map(|_| {
        let start = Instant::now();
        let restored =
            Snapshot::read_from(&mut &*file).map(|snapshot| next.device.restore(snapshot));
        let time = start.elapsed();
        drop(black_box(restored));
        time
    });
    times.min().unwrap_or_default()
}

/// A state that is nothing but chains in flight.
fn many_chains() -> Vec<u8> {
    let flying = QueueState {
        in_flight: vec![0; MAX_QUEUE_SIZE].into(),
        ..QueueState::default()
    };
    let state = NetState {
        queues: vec![flying; MAX_PAYLOAD_LEN / (2 * MAX_QUEUE_SIZE) - 1].into(),
        ..NetState::default()
    };
    let chains = Snapshot::seal(&state).expect("within bounds");
    chains.into_bytes()
}

/// Rows of what somebody changed: the slowest of each kind.
fn measure_hostile(rows: &mut Vec<Value>) {
    let good = saved(2, true).device.snapshot().expect("it is paused");
    let (good, mut next) = (good.into_bytes(), Rig::new(Rig::config(2)));
    println!("\nchanged states of two pairs, full tables: the slowest of each kind");
    let flipped = |at: usize, bit: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        bad
    };
    let forged = |at: usize, len: u64| {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&len.to_le_bytes());
        reseal(bad)
    };
    let all = HEADER_LEN..good.len();
    let cuts: Vec<_> = (0..good.len()).map(|at| good[..at].to_vec()).collect();
    let resealed = all.clone().map(|at| reseal(good[..at].to_vec()));
    let flips = (0..8 * good.len()).map(|bit| flipped(bit / 8, bit % 8));
    let under = (8 * HEADER_LEN..8 * good.len()).map(|bit| reseal(flipped(bit / 8, bit % 8)));
    let lengths = all
        .skip(8)
        .flat_map(|end| FORGED.map(|len| forged(end - 8, len)));
    let long = [0, 1, 0xff].map(|byte| {
        let mut file = good[..HEADER_LEN].to_vec();
        file.resize(HEADER_LEN + MAX_PAYLOAD_LEN, byte);
        reseal(file)
    });
    let beyond = |present: fn(usize) -> usize| {
        lists().into_iter().map(move |(_, max, fill)| {
            let present = present(max);
            overlong(fill, max, present as u64, present)
        })
    };
    let mut row = |what: &str, files: &mut dyn Iterator<Item = Vec<u8>>| {
        let (mut slowest, mut count) = (Duration::ZERO, 0);
        for file in files {
            slowest = slowest.max(refusal(&mut next, &file));
            count += 1;
        }
        let slowest = slowest.as_secs_f64() * 1e6;
        println!("  {what:36} {slowest:9.1} us   of {count}");
        rows.push(json!({ "what": what, "count": count, "slowest_us": slowest }));
    };
    row("truncations", &mut cuts.into_iter());
    row("truncations, checksum good", &mut resealed.into_iter());
    row("bit flips", &mut flips.into_iter());
    row("bit flips, checksum good", &mut under.into_iter());
    row("forged lengths of lists", &mut lengths.into_iter());
    row("longest payload, of one byte", &mut long.into_iter());
    row("lists, one beyond the bound", &mut beyond(|max| max + 1));
    row("lists, longest payload", &mut beyond(|_| MAX_PAYLOAD_LEN));
    row("most chains in flight", &mut std::iter::once(many_chains()));
}

fn save_table(rows: &[Value]) -> io::Result<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
    fs::create_dir_all(&folder)?;
    let path = folder.canonicalize()?.join("snapshot.json");
    fs::write(&path, serde_json::to_string_pretty(rows)?)?;
    Ok(path)
}

fn main() {
    let mut rows = Vec::new();
    measure("two pairs", 2, false, &mut rows);
    measure("two pairs, full tables", 2, true, &mut rows);
    measure("64 pairs, full tables", 64, true, &mut rows);
    measure_hostile(&mut rows);
    match save_table(&rows) {
        Ok(path) => println!("\nwritten to {}", path.display()),
        Err(error) => eprintln!("snapshot: the figures cannot be written: {error}"),
    }
}
