use super::filter::compile;
use super::*;
use seccompiler::SeccompAction as Verdict;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

const KINDS: [ThreadKind; 2] = [ThreadKind::QueuePair, ThreadKind::Control];
const ROLE: &str = "NET_DEVICE_SECCOMP_ROLE";

#[test]
fn lists_name_each_call_once_and_compile() {
    for kind in KINDS {
        let calls: Vec<_> = allowed(kind).collect();
        let distinct: BTreeSet<_> = calls.iter().copied().collect();
        assert_eq!(calls.len(), distinct.len());
        assert!(!distinct.contains(&libc::SYS_ioctl));
        assert!(refused().iter().all(|call| !distinct.contains(call)));
        for verdict in [Verdict::Trap, Verdict::Log] {
            assert!(compile(kind, verdict, &[]).is_ok());
        }
    }
}

#[test]
fn actions_have_their_configuration_names() {
    for (action, name) in [
        (SeccompAction::Trap, "\"trap\""),
        (SeccompAction::Log, "\"log\""),
        (SeccompAction::Allow, "\"allow\""),
    ] {
        assert_eq!(serde_json::to_string(&action).unwrap(), name);
    }
}

/// Runs `child` below in a process of its own.
fn run(role: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "seccomp::tests::child", "--nocapture"])
        .env(ROLE, role)
        .env("RUST_BACKTRACE", "full")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

/// Not a test of its own: what the child process of a test does.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (kind, action, forbidden) = match role.as_str() {
        "pair" => (ThreadKind::QueuePair, SeccompAction::Trap, false),
        "control" => (ThreadKind::Control, SeccompAction::Trap, false),
        "pair-socket" => (ThreadKind::QueuePair, SeccompAction::Trap, true),
        "control-socket" => (ThreadKind::Control, SeccompAction::Trap, true),
        "log-socket" => (ThreadKind::QueuePair, SeccompAction::Log, true),
        _ => (ThreadKind::QueuePair, SeccompAction::Allow, true),
    };
    let worker = std::thread::spawn(move || {
        install(kind, action, &[]).unwrap();
        let lock = Mutex::new(vec![0u8; 1 << 22]);
        lock.lock().unwrap().resize(1 << 23, 1);
        assert!(catch_unwind(|| panic!("caught")).is_err());
        let opened = std::fs::File::open("/dev/null").map_err(|error| error.raw_os_error());
        match action {
            SeccompAction::Trap => assert_eq!(opened.err(), Some(Some(libc::EACCES))),
            SeccompAction::Log | SeccompAction::Allow => assert!(opened.is_ok()),
        }
        if forbidden {
            drop(std::net::UdpSocket::bind("127.0.0.1:0"));
        }
    });
    worker.join().unwrap();
}

#[test]
fn a_worker_can_lock_allocate_panic_with_a_backtrace_fail_to_open_a_file_and_end() {
    assert!(run("pair").success());
    assert!(run("control").success());
}

#[test]
fn a_worker_cannot_make_a_socket() {
    assert_eq!(run("pair-socket").signal(), Some(libc::SIGSYS));
    assert_eq!(run("control-socket").signal(), Some(libc::SIGSYS));
}

#[test]
fn log_and_allow_let_it_pass() {
    assert!(run("log-socket").success());
    assert!(run("allow-socket").success());
}

/// A thread's heap that grew and shrinks makes the C library's allocator open a file, once in a
/// process.
#[test]
fn a_worker_can_give_memory_back_to_the_heap() {
    if std::env::var(ROLE).is_ok_and(|role| role == "shrink") {
        let worker = std::thread::spawn(|| {
            install(ThreadKind::QueuePair, SeccompAction::Trap, &[]).unwrap();
            let blocks: Vec<Vec<u8>> = (0..400).map(|_| vec![1; 10_000]).collect();
            drop(blocks);
        });
        worker.join().unwrap();
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "seccomp::tests::a_worker_can_give_memory_back_to_the_heap",
        ])
        .env(ROLE, "shrink")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
