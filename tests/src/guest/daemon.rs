//! The device under test: the vhost-user daemon.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::require;
use super::{Error, Process, Result};

/// Overrides the daemon's binary.
pub const DAEMON: &str = "LINUX_GUEST_DAEMON";

/// Longest time that the daemon may take to listen or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// In `/proc/net/unix`: the flag of a socket that listens.
const LISTENING: &str = "00010000";

/// A running daemon. It is killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
}

impl Daemon {
    /// Starts `serve` with the socket and the options, and waits until it listens.
    ///
    /// # Errors
    /// When it ends or does not listen in time.
    pub fn serve(socket: &Path, options: &[String]) -> Result<Self> {
        let binary = binary()?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "-v", "--socket-path"])
            .arg(socket)
            .args(options)
            .env("RUST_BACKTRACE", "1");
        let mut process = Process::spawn(&mut command)?;
        process.wait_until("listening socket", LIMIT, || listens(socket))?;
        Ok(Self { process })
    }

    /// Starts `serve`, which connects to a front-end that listens at the socket.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn connect(socket: &Path, options: &[String]) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command
            .args(["serve", "-v", "--client", "--socket-path"])
            .arg(socket)
            .args(options)
            .env("RUST_BACKTRACE", "1");
        let process = Process::spawn(&mut command)?;
        Ok(Self { process })
    }

    /// Waits until its log has a text.
    ///
    /// # Errors
    /// When it ends or does not log it in time.
    pub fn expect_log(&mut self, text: &str) -> Result<()> {
        self.process
            .read_until(&format!("{text:?} in its log"), LIMIT, |log| {
                let logged = String::from_utf8_lossy(log).contains(text);
                logged.then_some((0, ()))
            })
    }

    /// Fails if the daemon has ended or has panicked.
    ///
    /// # Errors
    /// [`Error::Unexpected`] with the end of its log.
    pub fn expect_alive(&mut self) -> Result<()> {
        require!(
            self.is_running(),
            "the daemon has ended; its log ends:\n{}",
            self.log()
        );
        require!(
            !self.process.has_printed("panicked"),
            "the daemon has panicked; its log ends:\n{}",
            self.log()
        );
        Ok(())
    }

    /// Returns whether it runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Asks for an orderly end, which has to be one with status 0.
    ///
    /// # Errors
    /// When it does not end, or with another status.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal("TERM");
        let status = self.process.wait_exit(LIMIT)?;
        require!(
            status.success(),
            "the daemon ended with {status} at SIGTERM; its log ends:\n{}",
            self.process.tail()
        );
        Ok(())
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Clock ticks that it has spent in user mode and in the kernel so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn ticks(&self) -> Result<[u64; 2]> {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = fs::read_to_string(&path).map_err(Error::io(format!("reading {path}")))?;
        // The name, in parentheses, may hold spaces.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse);
        match (ticks.next(), ticks.next()) {
            (Some(Ok(user)), Some(Ok(system))) => Ok([user, system]),
            _ => Err(Error::Unexpected(format!("{path} is {stat}"))),
        }
    }

    /// The end of the log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.tail()
    }
}

/// Folder in which cargo builds; taken from the program that runs: this program is in its
/// `PROFILE/deps`.
#[must_use]
pub fn target_folder() -> PathBuf {
    let from_program = || Some(env::current_exe().ok()?.ancestors().nth(3)?.to_path_buf());
    env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .or_else(from_program)
        .unwrap_or_else(|| "target".into())
}

/// Builds the daemon unless another binary is named, and gives its path.
///
/// # Errors
/// When the build fails.
pub fn build(target: &Path) -> Result<PathBuf> {
    if let Some(path) = env::var_os(DAEMON) {
        return fs::canonicalize(&path).map_err(Error::io(format!(
            "finding the daemon at {}",
            path.display()
        )));
    }
    build_release(target)
}

/// Builds the daemon of this workspace as it is released, and gives its path.
///
/// # Errors
/// When the build fails.
pub fn build_release(target: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--quiet",
            "-p",
            "vhost-user-net",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status()
        .map_err(Error::io("starting cargo"))?;
    require!(status.success(), "the daemon does not build");
    Ok(target.join("release/vhost-user-net"))
}

fn binary() -> Result<PathBuf> {
    env::var_os(DAEMON)
        .map(PathBuf::from)
        .ok_or_else(|| Error::Missing(format!("{DAEMON} is not set")))
}

/// Asks the kernel if someone listens: the file of a socket is there from `bind` on.
pub(super) fn listens(socket: &Path) -> bool {
    let path = socket.to_string_lossy();
    fs::read_to_string("/proc/net/unix").is_ok_and(|table| {
        table
            .lines()
            .any(|line| line.ends_with(&*path) && line.split_whitespace().nth(3) == Some(LISTENING))
    })
}
