//! The private namespaces in which everything runs.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use super::{Error, Result, host, processors};

/// Set for the process that runs inside.
const INSIDE: &str = "LINUX_GUEST_INSIDE";

/// Returns whether this process is the one inside.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program again, with the same arguments and the given variables, inside new network,
/// mount and process namespaces, and waits for it.
///
/// It is process 1 there, so the kernel kills everything it started when it ends, and it is itself
/// killed when this process ends. Whoever is not root becomes root of a new user namespace.
///
/// # Errors
/// [`Error::Io`] when `unshare` cannot be started.
pub fn run_inside(variables: &[(&str, PathBuf)]) -> Result<ExitStatus> {
    let program = env::current_exe().map_err(Error::io("finding this program"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !is_root()? {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
            "--",
        ])
        .arg(program)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .status()
        .map_err(Error::io("starting unshare"))
}

/// Gives the inside its loopback interface, and guests a processor of their own.
///
/// # Errors
/// When `ip` or `taskset` fails.
pub fn set_up() -> Result<()> {
    host::run("ip link set lo up")?;
    processors::share_out()
}

/// Takes away what a check that failed has left behind, so that the next one does not fail for it:
/// every interface but the loopback one.
///
/// # Errors
/// When `ip` fails.
pub fn clear() -> Result<()> {
    let links = host::run("ip -brief link")?;
    // A name may say what it is paired with: `veth0@veth1`.
    let names = links.lines().filter_map(|it| it.split([' ', '@']).next());
    for name in names.filter(|it| *it != "lo") {
        // One that went with the other of its pair is gone already.
        let _gone = host::run(&format!("ip link del {name}"));
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(Error::io("reading /proc/self/status"))?;
    let user = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    Ok(user == Some("0"))
}
