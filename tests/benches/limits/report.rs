//! The table of the rates.

use std::path::PathBuf;
use std::{fs, io};

use serde_json::{Value, json};

use crate::case::Case;

/// Largest distance of a rate from the limit, as a share of it.
const TOLERANCE: f64 = 0.02;

/// Outcome of one case.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Bits per second of frames.
    pub(crate) measured: f64,
    /// Number of times that the limiter said no: without that, the sender was slower than the
    /// limit.
    pub(crate) throttled: u64,
    /// Traffic through each queue.
    pub(crate) packets: Vec<u64>,
}

impl Row {
    /// Reason for a failure of the row.
    fn fault(&self, error: f64) -> &'static str {
        if self.packets.contains(&0) {
            "not all queues were used"
        } else if error.abs() <= TOLERANCE {
            ""
        } else if self.throttled == 0 {
            "the sender was slower than the limit"
        } else {
            "beyond 2 %"
        }
    }
}

/// Rows as they come, printed at once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Value>,
    failed: usize,
}

impl Report {
    /// Returns whether something was measured and all of it was good.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && !self.rows.is_empty()
    }

    /// Prints and keeps one row.
    pub(crate) fn add(&mut self, case: &Case, row: &Row) {
        if self.rows.is_empty() {
            println!(
                "{:<5} {:<3} {:>5} {:>12} {:>14} {:>8} {:>9}  packets by queue",
                "proto", "dir", "pairs", "asked bit/s", "measured bit/s", "error %", "throttled"
            );
        }
        let asked = case.limit.bits();
        let error = row.measured / f64::from(asked) - 1.0;
        let fault = row.fault(error);
        self.failed += usize::from(!fault.is_empty());
        println!(
            "{:<5} {:<3} {:>5} {asked:>12} {:>14.0} {:>+8.3} {:>9}  {:?} {fault}",
            case.proto,
            case.direction,
            case.pairs,
            row.measured,
            error * 100.0,
            row.throttled,
            row.packets
        );
        self.rows.push(json!({
            "proto": case.proto.to_string(),
            "dir": case.direction.to_string(),
            "pairs": case.pairs,
            "asked": asked,
            "measured": row.measured.round(),
            "error": error.abs(),
        }));
    }

    /// Writes all rows to `target/bench/limits.json` of the workspace.
    pub(crate) fn save(&self) -> io::Result<PathBuf> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
        fs::create_dir_all(&folder)?;
        let path = folder.canonicalize()?.join("limits.json");
        fs::write(&path, serde_json::to_string_pretty(&self.rows)?)?;
        Ok(path)
    }
}
