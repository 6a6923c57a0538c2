//! Frames that leave together: the same device with coalescing and without, in turn.
//!
//! ```text
//!   engine    the transmit engine on a real tap, and one `writev` a frame beside it
//!   report    the table
//! ```
//!
//! `cargo bench -p tests --bench coalesce -- [engine]`; no word means everything. The table is
//! written to `target/bench/coalesce.json` too: `what` was sent, the figure with coalescing `off`
//! and `on`, and the `ratio` of the second to the first.

#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/driver.rs"]
mod driver;
mod engine;
#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/host.rs"]
mod host;
#[path = "../datapath/paired.rs"]
mod paired;
mod report;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    // Options are those of the standard harness: cargo passes them to every benchmark.
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if let Some(word) = words.iter().find(|word| *word != "engine") {
        eprintln!("coalesce: {word} is not a word of this benchmark");
        return ExitCode::FAILURE;
    }
    let mut report = Report::default();
    if let Err(error) = host::enter_private_network() {
        eprintln!("coalesce: no private network namespace: {error}");
        return ExitCode::FAILURE;
    }
    engine::run(&mut report);
    match report.save() {
        Ok(path) => {
            println!("\nwritten to {}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("coalesce: the figures cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}
