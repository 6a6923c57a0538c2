//! Frames that leave together: the same device with coalescing and without, in turn.
//!
//! ```text
//!   end_to_end   a guest sends to a program of the host, through the daemon
//!   engine       the transmit engine on a real tap, and one `writev` a frame beside it
//!   report       the table
//! ```
//!
//! `cargo bench -p tests --bench coalesce -- [guest] [engine]`; no word means everything. The table
//! is written to `target/bench/coalesce.json` too: `what` was measured, the figure with coalescing
//! `off` and `on` and their `unit`, and the `ratio` of the second to the first.

#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/driver.rs"]
mod driver;
mod end_to_end;
mod engine;
#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/host.rs"]
mod host;
#[path = "../datapath/paired.rs"]
mod paired;
mod report;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;
use tests::guest::{Error, Result, namespace};

/// Parts of the table that words choose.
#[derive(Clone, Copy, Debug)]
struct Selection {
    guest: bool,
    engine: bool,
}

impl Selection {
    /// Parts that `words` choose, or the word that chooses nothing.
    fn of(words: &[String]) -> std::result::Result<Self, &str> {
        let chosen = |part| words.is_empty() || words.iter().any(|word| word == part);
        match words
            .iter()
            .find(|word| *word != "guest" && *word != "engine")
        {
            Some(word) => Err(word),
            None => Ok(Self {
                guest: chosen("guest"),
                engine: chosen("engine"),
            }),
        }
    }
}

fn main() -> ExitCode {
    // Options are those of the standard harness: cargo passes them to every benchmark.
    let words: Vec<_> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let selection = match Selection::of(&words) {
        Ok(selection) => selection,
        Err(word) => {
            eprintln!("coalesce: {word} is not a word of this benchmark");
            return ExitCode::FAILURE;
        }
    };
    let outcome = if namespace::is_inside() {
        end_to_end::run().and_then(|report| save(&report).map(drop))
    } else {
        measure(selection)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coalesce: {}", error.describe());
            ExitCode::FAILURE
        }
    }
}

fn measure(selection: Selection) -> Result<()> {
    let mut report = Report::default();
    if selection.guest {
        // In a process of its own, which leaves its rows in the file.
        end_to_end::enter()?;
        report = Report::load().map_err(Error::io("reading the guest's figures"))?;
    }
    if selection.engine {
        let network = host::enter_private_network();
        network.map_err(Error::io("making a private network namespace"))?;
        engine::run(&mut report);
    }
    let path = save(&report)?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

fn save(report: &Report) -> Result<PathBuf> {
    report.save().map_err(Error::io("writing the figures"))
}
