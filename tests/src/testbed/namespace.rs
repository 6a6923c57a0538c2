//! A test that needs a process, or network interfaces, of its own.
//!
//! The test binary starts itself again for the one test, and the body runs there.

use std::any::type_name;
use std::env;
use std::fs::{self, OpenOptions};
use std::process::{Child, Command};
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Set in the process that runs the body, to the name of the test.
const INSIDE: &str = "TEST_INSIDE";

/// Runs `body`, a closure written in the test function, in a process in which no other test runs.
pub fn alone<F: FnOnce()>(body: F) {
    let program = env::current_exe().expect("the test binary has a path");
    run(Command::new(program), body, "");
}

/// Runs `body`, a closure written in the test function, in a user and network namespace of its own:
/// it has the right to make interfaces there, and all of them end with it.
pub fn isolated<F: FnOnce()>(body: F) {
    isolated_by(&["--user", "--map-root-user"], body);
}

/// As [`isolated`], but root keeps its rights outside, such as to load programs into the kernel.
pub fn isolated_as_root<F: FnOnce()>(body: F) {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let options: &[&str] = if root {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    isolated_by(options, body);
}

fn isolated_by<F: FnOnce()>(options: &[&str], body: F) {
    let mut command = Command::new("unshare");
    command.args(options).args(["--net", "--"]);
    command.arg(env::current_exe().expect("the test binary has a path"));
    let hint = " If namespaces cannot be made, allow them: user.max_user_namespaces > 0, \
                kernel.unprivileged_userns_clone = 1, \
                kernel.apparmor_restrict_unprivileged_userns = 0 (as far as they exist).";
    let tested = || {
        OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect(
            "these tests need /dev/net/tun: as root, `modprobe tun` and `chmod 0666 /dev/net/tun`",
        );
        body();
    };
    run_named(command, &test_name::<F>(), tested, hint);
}

fn run<F: FnOnce()>(command: Command, body: F, hint: &str) {
    run_named(command, &test_name::<F>(), body, hint);
}

fn run_named(mut command: Command, test: &str, body: impl FnOnce(), hint: &str) {
    if env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return body();
    }
    let output = command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        // What a panic tries for a backtrace must not end the process either.
        .env("RUST_BACKTRACE", "1")
        .output()
        .expect("the test can be started again: is `unshare` (util-linux) there?");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A binary that finds no test of the name succeeds too, so look for the one that passed.
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} failed in its process ({}).{hint}\n{stdout}{stderr}",
        output.status
    );
    print!("{stdout}");
}

/// Keeps this thread, and those that it starts, from loading programs into the kernel, as if it had
/// no right to it.
pub fn without_bpf() {
    let rules = [(libc::SYS_bpf, Vec::new())].into();
    let (others, bpf) = (
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
    );
    let arch = env::consts::ARCH.try_into().expect("seccompiler knows it");
    let filter = SeccompFilter::new(rules, others, bpf, arch).expect("it is well formed");
    let program: BpfProgram = filter.try_into().expect("it is short");
    seccompiler::apply_filter(&program).expect("the kernel takes filters");
}

/// The harness' name of the test in which a closure is written: its path without the crate.
fn test_name<F>() -> String {
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = path.split_once("::").expect("a closure lives in a crate");
    test.to_owned()
}

/// A network namespace that lives as long as this does.
#[derive(Debug)]
pub struct OtherNamespace(Child);

impl OtherNamespace {
    /// Makes one.
    #[must_use]
    pub fn start() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .spawn()
            .expect("these tests need `unshare`: install util-linux");
        let net = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let mut other = Self(child);
        let id = other.id().to_string();
        while net(&id).is_none() || net(&id) == net("self") {
            let ended = other.0.try_wait().expect("it is a child");
            assert!(ended.is_none(), "there is no namespace: {ended:?}");
            thread::yield_now();
        }
        other
    }

    /// The process by which commands name it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for OtherNamespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("these tests need `ip`: install iproute2");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {stderr}");
}

/// An error and its causes, as a user would be shown them.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
