//! Programs at the host's end of the tap.

use std::process::Command;
use std::time::Duration;

use super::{Error, Process, Result};

const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Runs a command, given as words separated by spaces, that has to succeed; gives its output.
///
/// # Errors
/// [`Error::Failed`] when its status is not zero, [`Error::Timeout`] when it does not end.
pub fn run(command: &str) -> Result<String> {
    run_for(command, COMMAND_LIMIT)
}

/// Like [`run`] for a command that may take longer.
///
/// # Errors
/// As [`run`].
pub fn run_for(command: &str, limit: Duration) -> Result<String> {
    let mut process = start(command)?;
    let status = process.wait_exit(limit)?;
    let output = process.take_output();
    if status.success() {
        return Ok(output);
    }
    Err(Error::Failed {
        command: command.to_owned(),
        status: status.to_string(),
        output,
    })
}

/// Starts a command and leaves it running.
///
/// # Errors
/// [`Error::Io`] when it cannot be started.
pub fn start(command: &str) -> Result<Process> {
    let mut words = command.split_whitespace();
    Process::spawn(Command::new(words.next().unwrap_or_default()).args(words))
}
