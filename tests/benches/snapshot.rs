//! Time that it takes to save and to restore a device, and the size of its state.
//!
//! The devices have backends in memory, so nothing here waits for the host: what is measured is the
//! work of this code. An activation starts threads, whose system calls are the host's; it has a row
//! of its own. Printed are medians, with the time that 99 of a hundred keep, beside a copy of the
//! same bytes.
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
use tests::testbed::{Rig, pause};

const ROUNDS: usize = 2000;

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
    match save_table(&rows) {
        Ok(path) => println!("\nwritten to {}", path.display()),
        Err(error) => eprintln!("snapshot: the figures cannot be written: {error}"),
    }
}
