//! The Debian packages that the guests are made of, and the program of this package.

use std::env;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// A program and the packages that bring it on each line. Each is looked up in [`SEARCH`].
const PROGRAMS: &str = include_str!("../../guest/packages.txt");

const SEARCH: &[&str] = &["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Path of a program of one of the packages.
///
/// # Errors
/// [`Error::Missing`] when no package has brought it.
pub fn program(name: &str) -> Result<String> {
    find(name).ok_or_else(|| Error::Missing(format!("{name} is not installed")))
}

/// Checks that every package is there.
///
/// # Errors
/// [`Error::Missing`] with the command that installs what is not.
pub fn check() -> Result<()> {
    let lines = PROGRAMS.lines().filter(|line| !line.starts_with('#'));
    let missing: Vec<_> = lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Missing(format!(
        "missing packages: apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    )))
}

fn find(name: &str) -> Option<String> {
    SEARCH
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| Path::new(path).exists())
}

/// Path of the program `datagrams`, which cargo builds beside the tests and benchmarks of this
/// package.
///
/// # Errors
/// When this program's own path is unknown.
pub fn datagrams() -> Result<PathBuf> {
    let program = env::current_exe().map_err(Error::io("finding this program"))?;
    // This program is in `PROFILE/deps`.
    let profile = program.ancestors().nth(2).unwrap_or(&program);
    Ok(profile.join("datagrams"))
}
