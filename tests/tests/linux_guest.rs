//! Boots real Linux guests against the daemon: `cargo test -p tests --test linux_guest [--
//! part-of-a-name]`.
//!
//! `LINUX_GUEST_DAEMON` names a daemon to test instead of the one of this workspace.

use std::env;
use std::process::ExitCode;

use tests::guest::scenarios::{SCENARIOS, Scenario};
use tests::guest::{Assets, Machine, Result, daemon, namespace, packages};

fn main() -> ExitCode {
    let target = daemon::target_folder();
    let assets = Assets::new(target.join("guest"));
    // Options are those of the standard test harness: cargo passes them to every test.
    let filter = env::args()
        .skip(1)
        .find(|word| !word.starts_with('-'))
        .unwrap_or_default();
    let scenarios: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| scenario.name.contains(&filter))
        .collect();
    if namespace::is_inside() {
        return run_all(&scenarios, &assets);
    }
    match enter(&scenarios, &assets, &target) {
        Ok(code) => code,
        Err(error) => {
            println!("FAILED preparation: {}", error.describe());
            println!("0 passed, {} failed", scenarios.len().max(1));
            ExitCode::FAILURE
        }
    }
}

/// Prepares what needs the network or the compiler, then goes inside.
fn enter(scenarios: &[&Scenario], assets: &Assets, target: &std::path::Path) -> Result<ExitCode> {
    packages::check()?;
    for machine in Machine::ALL {
        if scenarios
            .iter()
            .any(|scenario| scenario.machine == Some(machine))
        {
            assets.prepare(machine)?;
        }
    }
    let mut variables = Vec::new();
    if scenarios.iter().any(|scenario| scenario.needs_daemon()) {
        variables.push((daemon::DAEMON, daemon::build(target)?));
    }
    let status = namespace::run_inside(&variables)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_all(scenarios: &[&Scenario], assets: &Assets) -> ExitCode {
    if let Err(error) = namespace::set_up() {
        println!("FAILED namespace: {}", error.describe());
    }
    let mut failed = 0;
    for scenario in scenarios {
        match scenario.run(assets) {
            Ok(seen) => println!("ok {} ({seen})", scenario.name),
            Err(error) => {
                failed += 1;
                println!("FAILED {}: {}", scenario.name, error.describe());
                if let Err(error) = namespace::clear() {
                    println!("FAILED namespace: {}", error.describe());
                }
            }
        }
    }
    println!("{} passed, {failed} failed", scenarios.len() - failed);
    if failed == 0 && !scenarios.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
