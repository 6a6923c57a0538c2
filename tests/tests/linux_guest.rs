//! Boots real Linux guests against the daemon: `cargo test -p tests --test linux_guest [-- part-of-a-name]`.
//!
//! `LINUX_GUEST_DAEMON` names a daemon to test instead of the one of this workspace.

use std::env;
use std::process::ExitCode;

use tests::guest::stories::{STORIES, Story};
use tests::guest::{Assets, Machine, Result, daemon, namespace, packages};

fn main() -> ExitCode {
    let target = daemon::target_folder();
    let assets = Assets::new(target.join("guest"));
    // Options are those of the standard test harness: cargo passes them to every test.
    let filter = env::args()
        .skip(1)
        .find(|word| !word.starts_with('-'))
        .unwrap_or_default();
    let stories: Vec<_> = STORIES
        .iter()
        .filter(|story| story.name.contains(&filter))
        .collect();
    if namespace::is_inside() {
        return run_all(&stories, &assets);
    }
    match enter(&stories, &assets, &target) {
        Ok(code) => code,
        Err(error) => {
            println!("FAILED preparation: {}", error.describe());
            println!("0 passed, {} failed", stories.len().max(1));
            ExitCode::FAILURE
        }
    }
}

/// Prepares what needs the network or the compiler, then goes inside.
fn enter(stories: &[&Story], assets: &Assets, target: &std::path::Path) -> Result<ExitCode> {
    packages::check()?;
    for machine in [Machine::UserMode, Machine::Qemu] {
        if stories.iter().any(|story| story.machine == Some(machine)) {
            assets.prepare(machine)?;
        }
    }
    let mut variables = Vec::new();
    if stories.iter().any(|story| story.needs_daemon()) {
        variables.push((daemon::DAEMON, daemon::build(target)?));
    }
    let status = namespace::run_inside(&variables)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_all(stories: &[&Story], assets: &Assets) -> ExitCode {
    if let Err(error) = namespace::set_up() {
        println!("FAILED namespace: {}", error.describe());
    }
    let mut failed = 0;
    for story in stories {
        match story.run(assets) {
            Ok(seen) => println!("ok {} ({seen})", story.name),
            Err(error) => {
                failed += 1;
                println!("FAILED {}: {}", story.name, error.describe());
            }
        }
    }
    println!("{} passed, {failed} failed", stories.len() - failed);
    if failed == 0 && !stories.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
