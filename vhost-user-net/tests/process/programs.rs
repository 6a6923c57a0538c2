//! Programs of the kernel's that the daemon is handed, since it may load none in its namespaces.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Instant;
use std::{env, thread, time};

use net_device::tap::{FilterProgram, FilterRules, SteeringProgram, Verdict};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::daemon::{Daemon, LIMIT};
use crate::guest::Guest;

/// Set in the process in which a test's body runs.
const INSIDE: &str = "PROGRAMS_INSIDE";

/// Runs `body` of the test `name` in a process of its own, whose descriptors no other test's daemon
/// inherits.
fn alone(name: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]);
    let output = command.env(INSIDE, "1").output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let passed = output.status.success() && said[0].contains("1 passed");
    assert!(passed, "{}\n{}", said[0], said[1]);
}

/// A descriptor that programs inherit, and its number.
fn passed(fd: BorrowedFd<'_>) -> (OwnedFd, String) {
    let own = fcntl_dupfd_cloexec(fd, 100).unwrap();
    fcntl_setfd(&own, FdFlags::empty()).unwrap();
    let number = own.as_raw_fd().to_string();
    (own, number)
}

#[test]
fn a_program_that_is_handed_over_is_in_force_while_a_guest_has_the_device() {
    alone(
        "programs::a_program_that_is_handed_over_is_in_force_while_a_guest_has_the_device",
        || {
            let Ok(mut program) = FilterProgram::load() else {
                return eprintln!("not run: this user may load no programs");
            };
            program.set_rules(&FilterRules {
                broadcast: Verdict::Drop,
                ..FilterRules::default()
            });
            let (_kept, number) = passed(program.as_fd());
            let options = ["--tap-addr", "10.0.0.1/24", "--filter-program", &number];
            let daemon = Daemon::serve(&options);
            let mut guest = Guest::start(&daemon);
            guest.send();
            let deadline = Instant::now() + LIMIT;
            while program.dropped().get() == 0 {
                assert!(Instant::now() < deadline, "nothing is dropped");
                // The host asks by a broadcast where that address is.
                let id = daemon.id().to_string();
                let status = Command::new("nsenter")
                    .args(["-t", &id, "-U", "-n", "--preserve-credentials", "--"])
                    .args(["bash", "-c", "echo > /dev/udp/10.0.0.2/9"])
                    .status();
                assert!(status.expect("these tests need `nsenter`").success());
                thread::sleep(time::Duration::from_millis(10));
            }
        },
    );
}

#[test]
fn rules_that_are_handed_over_have_to_be_those_of_the_program() {
    alone(
        "programs::rules_that_are_handed_over_have_to_be_those_of_the_program",
        || {
            let Ok(program) = FilterProgram::load() else {
                return eprintln!("not run: this user may load no programs");
            };
            let (_program, number) = passed(program.as_fd());
            let (_rules, rules) = passed(program.rules());
            let options = ["-v", "--filter-program", &number, "--filter-rules", &rules];
            let mut daemon = Daemon::serve(&options);
            daemon.signal("TERM");
            assert!(daemon.wait().success());
            assert_eq!(daemon.lines_with("not in the kernel"), 0);
            // It can load none itself.
            let mut without = Daemon::serve(&["-v"]);
            without.signal("TERM");
            assert!(without.wait().success());
            assert_eq!(without.lines_with("not in the kernel"), 1);

            let other = SteeringProgram::load().unwrap();
            let (_other, rules) = passed(other.rules());
            let mut daemon = Daemon::prepare();
            daemon.start("", &["--filter-program", &number, "--filter-rules", &rules]);
            daemon.log_with("the rules that came with a program are not its own");
            assert!(!daemon.wait().success());
        },
    );
}
