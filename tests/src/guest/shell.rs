//! The guest's shell, driven over its serial console.

use std::process::Command;
use std::time::Duration;

use super::{Error, Process, Result};

/// Line that `tests/guest/init` prints when its shell reads commands.
const READY: &str = "guest is ready";

/// Longest time that a command may take that needs no traffic.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A booted guest.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    commands: u32,
}

/// Outcome of a command in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its exit status.
    pub status: i32,
    /// Its output and its errors.
    pub output: String,
}

impl Guest {
    /// Starts the machine and waits for its shell.
    ///
    /// # Errors
    /// When it cannot be started, ends early or is not up within the limit.
    pub fn boot(machine: &mut Command, limit: Duration) -> Result<Self> {
        let mut process = Process::spawn(machine)?;
        process.read_until("shell prompt", limit, |output| {
            find(output, READY).map(|at| (at + READY.len(), ()))
        })?;
        Ok(Self {
            process,
            commands: 0,
        })
    }

    /// The same guest in another machine, once that is `ready` to take it over. Its commands are
    /// for the machine in which it runs.
    ///
    /// # Errors
    /// When it cannot be started, ends early or is not ready within the limit.
    pub fn moved_to(
        &self,
        machine: &mut Command,
        limit: Duration,
        ready: impl FnMut() -> bool,
    ) -> Result<Self> {
        let mut process = Process::spawn(machine)?;
        process.wait_until("machine that waits for its state", limit, ready)?;
        Ok(Self {
            process,
            commands: self.commands,
        })
    }

    /// Waits for the end of the machine, which was asked for elsewhere.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait_exit(&mut self) -> Result<()> {
        self.process.wait_exit(COMMAND_LIMIT).map(drop)
    }

    /// Runs a shell command in the guest.
    ///
    /// # Errors
    /// When the command does not end within a minute or the guest ends.
    pub fn run(&mut self, command: &str) -> Result<Reply> {
        self.run_for(command, COMMAND_LIMIT)
    }

    /// Runs a shell command in the guest that may take longer.
    ///
    /// # Errors
    /// When the command does not end within the limit or the guest ends.
    pub fn run_for(&mut self, command: &str, limit: Duration) -> Result<Reply> {
        self.start(command)?;
        let marker = self.marker();
        self.process
            .read_until(&format!("end of `{command}`"), limit, |output| {
                let end = find(output, &marker)?;
                let rest = &output[end + marker.len()..];
                let line = rest.iter().position(|byte| *byte == b'\n')?;
                let status = String::from_utf8_lossy(&rest[..line]).trim().parse().ok()?;
                let output = String::from_utf8_lossy(&output[..end])
                    .replace('\r', "")
                    .trim()
                    .to_owned();
                Some((end + marker.len() + line + 1, Reply { status, output }))
            })
    }

    /// Runs a shell command that has to succeed, and gives its output.
    ///
    /// # Errors
    /// As [`Guest::run`], and [`Error::Failed`] when the status is not zero.
    pub fn expect(&mut self, command: &str) -> Result<String> {
        self.expect_for(command, COMMAND_LIMIT)
    }

    /// Like [`Guest::expect`] for a command that may take longer.
    ///
    /// # Errors
    /// As [`Guest::expect`].
    pub fn expect_for(&mut self, command: &str, limit: Duration) -> Result<String> {
        let reply = self.run_for(command, limit)?;
        match reply.status {
            0 => Ok(reply.output),
            status => Err(Error::Failed {
                command: format!("guest: {command}"),
                status: format!("exit status {status}"),
                output: reply.output,
            }),
        }
    }

    /// Switches the machine off in the orderly way and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn power_off(&mut self) -> Result<()> {
        self.process.write("poweroff -f\n")?;
        self.process.wait_exit(COMMAND_LIMIT).map(drop)
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// The end of the console's output.
    #[must_use]
    pub fn console(&self) -> String {
        self.process.tail()
    }

    /// Types a command. Its end shows by a marker, which is put together only by the guest's shell:
    /// it does not stand in what was typed, nor does it occur twice.
    fn start(&mut self, command: &str) -> Result<()> {
        self.commands += 1;
        let number = self.commands;
        self.process.write(&format!(
            "( {command}\n) </dev/null 2>&1; echo \"<end\"\" of {number}> $?\"\n"
        ))
    }

    fn marker(&self) -> String {
        format!("<end of {}> ", self.commands)
    }
}

fn find(output: &[u8], text: &str) -> Option<usize> {
    output
        .windows(text.len())
        .position(|window| window == text.as_bytes())
}
