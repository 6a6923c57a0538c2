//! The program around the library: arguments, the log, the exit code.

use std::error::Error;
use std::io::{self, Write};
use std::iter;
use std::process::ExitCode;

use clap::{ArgAction, Parser};
use virtio_net_demo::Options;

/// Runs a virtio-net device with a guest inside this process, and measures its latency and
/// throughput.
#[derive(Debug, Parser)]
#[command(version, about)]
struct CommandLine {
    /// Log more: informational messages; twice: debug messages
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Measurements to make.
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let level = ["warn", "info", "debug"][usize::from(line.verbose.min(2))];
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match virtio_net_demo::run(&line.options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = iter::successors(Some(&error as &dyn Error), |&error| error.source());
            let texts: Vec<_> = causes.map(ToString::to_string).collect();
            let _ = writeln!(io::stderr(), "virtio-net-demo: {}", texts.join(": "));
            ExitCode::FAILURE
        }
    }
}
