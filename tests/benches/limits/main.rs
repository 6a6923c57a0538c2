//! Exactness of the daemon's rate limits, with a real guest, and the cost of a limit.
//!
//! The daemon and user-mode Linux run in private namespaces. iperf3 offers more than the limit,
//! which is changed from row to row at the control socket, and what counts is what the tap counts:
//! bytes of frames, which is what a limit is about. A row is ten seconds of it, after two in which
//! the burst is spent, and fails beyond 2 %.
//!
//! ```text
//!   case      what is measured: words choose           testbed  daemon, guest, control socket
//!   traffic   what iperf3 offers                       meter    the tap's counter over a time
//!   report    the table                                cost     the engines with a limit against without
//! ```
//!
//! `cargo bench -p tests --bench limits -- [tcp] [udp] [rx] [tx] [1] [2] [1M] [100M] [1G] [cost]`:
//! words of one kind add up, words of different kinds narrow down, and no word means everything.
//! `rx` is to the guest, `1` and `2` are queue pairs. The table is written to
//! `target/bench/limits.json` too.

mod case;
mod testbed;
// Shared with the paired measurements of the data path.
mod cost;
#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/driver.rs"]
mod driver;
#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/frames.rs"]
mod frames;
#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/host.rs"]
mod host;
mod meter;
#[allow(dead_code, reason = "another benchmark uses the rest")]
#[path = "../datapath/paired.rs"]
mod paired;
mod report;
mod traffic;

use std::env;
use std::process::ExitCode;

use case::Selection;
use report::Report;
use tests::guest::{Assets, Machine, Result, daemon, namespace, packages};

fn main() -> ExitCode {
    // Options are those of the standard harness: cargo passes them to every benchmark.
    let words: Vec<_> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let selection = match Selection::of(&words) {
        Ok(selection) => selection,
        Err(word) => {
            eprintln!("limits: {word} is not a word of this benchmark");
            return ExitCode::FAILURE;
        }
    };
    if namespace::is_inside() {
        return all(&selection);
    }
    let target = daemon::target_folder();
    let assets = Assets::new(target.join("guest"));
    let rates = !selection.is_rate() || enter(&assets, &target);
    let cost = !selection.cost() || cost::run();
    if rates && cost {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prepares what needs the network or the compiler and measures inside; whether all rows are good.
fn enter(assets: &Assets, target: &std::path::Path) -> bool {
    let inside = || -> Result<bool> {
        packages::check()?;
        assets.prepare(Machine::UserMode)?;
        let variables = [(daemon::DAEMON, daemon::build(target)?)];
        Ok(namespace::run_inside(&variables)?.success())
    };
    inside().unwrap_or_else(|error| {
        eprintln!("limits: {}", error.describe());
        false
    })
}

/// Every case that is selected, with one daemon and one guest for each number of pairs.
fn all(selection: &Selection) -> ExitCode {
    let assets = Assets::new(daemon::target_folder().join("guest"));
    let mut report = Report::default();
    let mut failed = false;
    let mut measure = || -> Result<()> {
        namespace::set_up()?;
        for pairs in case::PAIRS {
            let cases: Vec<_> = selection.cases(pairs).collect();
            if !cases.is_empty() {
                testbed::measure(&assets, pairs, &cases, &mut report)?;
            }
        }
        Ok(())
    };
    if let Err(error) = measure() {
        eprintln!("limits: {}", error.describe());
        failed = true;
    }
    match report.save() {
        Ok(path) => println!("\nwritten to {}", path.display()),
        Err(error) => eprintln!("limits: the figures cannot be written: {error}"),
    }
    if failed || !report.is_good() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
