//! Numbered datagrams, sent as fast as they go and checked byte by byte: `datagrams help`.

use std::env;
use std::process::ExitCode;

use tests::datagrams::{Command, USAGE};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let command = match Command::parse(&words) {
        Ok(command) => command,
        Err(word) => {
            eprintln!("datagrams: {word}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match command.run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("datagrams: {error}");
            ExitCode::FAILURE
        }
    }
}
