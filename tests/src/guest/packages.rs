//! The Debian packages that the guests are made of, and the program of this package.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Result};

/// A program, `>=` and its least version if one counts, and the packages that bring it on each
/// line. Each is looked up in [`SEARCH`].
const PROGRAMS: &str = include_str!("../../guest/packages.txt");

const SEARCH: &[&str] = &["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// Path of a program of one of the packages.
///
/// # Errors
/// [`Error::Missing`] when no package has brought it.
pub fn program(name: &str) -> Result<String> {
    find(name).ok_or_else(|| Error::Missing(format!("{name} is not installed")))
}

/// Checks that every package is there, and new enough.
///
/// # Errors
/// [`Error::Missing`] with what is not.
pub fn check() -> Result<()> {
    let lines = PROGRAMS.lines().filter(|line| !line.starts_with('#'));
    let missing: Vec<_> = lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(program, _)| !is_there(program))
        .map(|(program, packages)| format!("{packages} (for {program})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Missing(format!(
        "packages are missing or too old: {}",
        missing.join(", ")
    )))
}

/// The program of a line is there, and as new as it says.
fn is_there(program: &str) -> bool {
    let (name, least) = program.split_once(">=").unwrap_or((program, ""));
    find(name).is_some_and(|path| least.is_empty() || version(&path) >= numbers(least))
}

/// Version that the program at `path` tells first; empty if it tells none.
fn version(path: &str) -> Vec<u32> {
    let output = Command::new(path).arg("--version").output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    text.unwrap_or_default()
        .split_whitespace()
        .map(numbers)
        .find(|it| it.len() > 1)
        .unwrap_or_default()
}

/// Numbers between the points of a version; empty if there is something else in it.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()
        .unwrap_or_default()
}

fn find(name: &str) -> Option<String> {
    SEARCH
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .find(|path| Path::new(path).exists())
}

/// Path of a program of this package, which cargo builds beside its tests and benchmarks.
///
/// # Errors
/// When this program's own path is unknown.
pub fn own(name: &str) -> Result<PathBuf> {
    let program = env::current_exe().map_err(Error::io("finding this program"))?;
    // This program is in `PROFILE/deps`.
    let profile = program.ancestors().nth(2).unwrap_or(&program);
    Ok(profile.join(name))
}
