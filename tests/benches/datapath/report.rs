//! The table of the paired measurements on the tap.

use std::path::PathBuf;
use std::{fs, io};

use net_device::Layout;
use serde_json::{Value, json};

use crate::frames::Kind;
use crate::paired::Score;
use crate::{alloc, host};

/// Subject of one measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// `TX` or `RX`, as the driver sees it.
    pub(crate) dir: &'static str,
    /// Kind of frames.
    pub(crate) kind: Kind,
    /// The ring's layout.
    pub(crate) layout: Layout,
    /// Chains per batch.
    pub(crate) batch: u16,
}

/// Counts per frame while a case ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Reads and writes, as the kernel counted them.
    pub(crate) calls: f64,
    /// Heap allocations.
    pub(crate) allocations: f64,
}

impl Cost {
    /// Cost of `work` in this thread for each of `frames`.
    pub(crate) fn of(frames: u32, work: impl FnOnce()) -> Self {
        // Counting calls takes calls, as many each time.
        let counting = (host::calls(), host::calls());
        let before = (host::calls(), alloc::count());
        work();
        let after = (alloc::count(), host::calls());
        let calls = after.1 - before.0 - (counting.1 - counting.0);
        Self {
            calls: calls as f64 / f64::from(frames),
            allocations: (after.0 - before.1) as f64 / f64::from(frames),
        }
    }
}

/// Rows as they come, printed at once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Value>,
}

/// The name of a layout in tables.
pub(crate) fn layout_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Split => "split",
        Layout::Packed => "packed",
    }
}

impl Report {
    /// Returns whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints and keeps one row.
    pub(crate) fn add(&mut self, case: Case, score: Score, cost: Cost) {
        if self.rows.is_empty() {
            println!(
                "{:<3} {:<14} {:<6} {:>5} {:>10} {:>10} {:>7}   {:<13} {:>11} {:>11}",
                "dir",
                "frame",
                "ring",
                "batch",
                "ns device",
                "ns bare",
                "ratio",
                "quartiles",
                "calls/frame",
                "alloc/frame"
            );
        }
        let [low, ratio, high] = score.ratio;
        println!(
            "{:<3} {:<14} {:<6} {:>5} {:>10.1} {:>10.1} {:>7.3}   {:.3}-{:.3}   {:>11.3} {:>11.3}",
            case.dir,
            case.kind.name(),
            layout_name(case.layout),
            case.batch,
            score.device,
            score.bare,
            ratio,
            low,
            high,
            cost.calls,
            cost.allocations
        );
        self.rows.push(json!({
            "dir": case.dir,
            "frame": case.kind.name(),
            "ring": layout_name(case.layout),
            "batch": case.batch,
            "ns_device": score.device,
            "ns_syscall": score.bare,
            "ratio": ratio,
        }));
    }

    /// Writes all rows to `target/bench/datapath.json` of the workspace.
    pub(crate) fn save(&self) -> io::Result<PathBuf> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
        fs::create_dir_all(&folder)?;
        let path = folder.canonicalize()?.join("datapath.json");
        fs::write(&path, serde_json::to_string_pretty(&self.rows)?)?;
        Ok(path)
    }
}
