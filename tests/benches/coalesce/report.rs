//! The table of what coalescing gains and costs.

use std::path::PathBuf;
use std::{fs, io};

use serde_json::{Value, json};

use crate::paired::Score;

/// Rows as they come, printed at once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Value>,
}

impl Report {
    /// Prints and keeps what an engine costs: with coalescing against without it, and against a
    /// bare loop of system calls.
    pub(crate) fn add_engine(&mut self, what: &str, off: &Score, bare: &Score) {
        if self.rows.is_empty() {
            println!(
                "{:<62} {:>7} {:>7} {:>7} {:>6}   {:<13} {:>7}",
                "what", "ns bare", "ns off", "ns on", "ratio", "quartiles", "to bare"
            );
        }
        let ([low, ratio, high], [_, to_bare, _]) = (off.ratio, bare.ratio);
        println!(
            "{what:<62} {:>7.0} {:>7.0} {:>7.0} {ratio:>6.3}   {low:.3}-{high:.3}   {to_bare:>7.3}",
            bare.bare, off.bare, off.device,
        );
        self.rows.push(json!({
            "what": what,
            "off": off.bare,
            "on": off.device,
            "ratio": ratio,
            "unit": "ns/frame",
            "bare": bare.bare,
            "to_bare": to_bare,
        }));
    }

    /// Writes all rows to `target/bench/coalesce.json` of the workspace.
    pub(crate) fn save(&self) -> io::Result<PathBuf> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
        fs::create_dir_all(&folder)?;
        let path = folder.canonicalize()?.join("coalesce.json");
        fs::write(&path, serde_json::to_string_pretty(&self.rows)?)?;
        Ok(path)
    }
}
