//! The table of what coalescing gains and costs.

use std::path::PathBuf;
use std::{fs, io};

use serde_json::{Value, json};

use crate::paired::Score;

/// Rows as they come, printed at once.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Value>,
    titled: Option<&'static str>,
}

const FILE: &str = "coalesce.json";

/// `target/bench` of the workspace.
fn folder() -> io::Result<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
    fs::create_dir_all(&folder)?;
    folder.canonicalize()
}

impl Report {
    /// The rows of the last table that was written, by another process.
    pub(crate) fn load() -> io::Result<Self> {
        let text = fs::read(folder()?.join(FILE))?;
        let rows = serde_json::from_slice(&text)?;
        Ok(Self {
            rows,
            ..Self::default()
        })
    }

    /// Prints and keeps what a guest gets through a daemon. `unit` says whether more is better: it
    /// is for a rate, and less is for a time. The ratio is `on / off` in either case.
    pub(crate) fn add(&mut self, what: &str, unit: &str, off: f64, on: f64) {
        if self.title("guest") {
            println!(
                "{:<46} {:<8} {:>9} {:>9} {:>6}",
                "what", "unit", "off", "on", "ratio"
            );
        }
        let ratio = on / off;
        println!("{what:<46} {unit:<8} {off:>9.3} {on:>9.3} {ratio:>6.3}");
        self.rows.push(json!({
            "what": what,
            "off": off,
            "on": on,
            "ratio": ratio,
            "unit": unit,
        }));
    }

    /// Prints and keeps what an engine costs: with coalescing against without it, and against a
    /// bare loop of system calls.
    pub(crate) fn add_engine(&mut self, what: &str, off: &Score, bare: &Score) {
        if self.title("engine") {
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
        let path = folder()?.join(FILE);
        fs::write(&path, serde_json::to_string_pretty(&self.rows)?)?;
        Ok(path)
    }

    /// Returns whether the next row is the first of this part of the table.
    fn title(&mut self, part: &'static str) -> bool {
        self.titled.replace(part) != Some(part)
    }
}
