//! Confinement of the daemon's processes once it serves.

use std::fs;
use std::process::{Command, Stdio};

use crate::daemon::{BINARY, Daemon, children};
use crate::guest::Guest;

/// CAP_NET_ADMIN as /proc has it.
const NET_ADMIN: &str = "0000000000001000";
const NONE: &str = "0000000000000000";

/// Threads of a process.
fn threads(process: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect()
}

/// A field of a thread's status.
fn field(process: u32, thread: u32, name: &str) -> String {
    let path = format!("/proc/{process}/task/{thread}/status");
    let status = fs::read_to_string(path).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(field, _)| *field == name);
    found.unwrap().1.trim().to_owned()
}

/// Checks every thread of a process, which may have so many capabilities.
fn check(process: u32, capabilities: &str) {
    for thread in threads(process) {
        let field = |name| field(process, thread, name);
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(field(set), capabilities, "{set} of {}", field("Name"));
        }
        for set in ["CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(field(set), NONE, "{set} of {}", field("Name"));
        }
        assert_eq!((&*field("NoNewPrivs"), &*field("Seccomp")), ("1", "2"));
    }
}

#[test]
fn under_load_no_thread_of_any_process_has_a_capability_or_is_without_a_filter() {
    let mut daemon = Daemon::serve(&["--sandbox", "full"]);
    let mut guest = Guest::start(&daemon);
    guest.send();
    let [broker, parent] = children(daemon.id())[..] else {
        panic!("{:?}", children(daemon.id()));
    };
    // The main thread, and a worker at least.
    assert!(threads(daemon.id()).len() >= 2);
    check(daemon.id(), NONE);
    // What a tap that was deleted takes to be made again.
    check(broker, NET_ADMIN);
    check(parent, NONE);
    for receiver in daemon.receivers() {
        check(receiver, NONE);
    }
    for process in [daemon.id(), parent] {
        assert_eq!(
            fs::read_dir(format!("/proc/{process}/root"))
                .unwrap()
                .count(),
            0
        );
    }
    guest.send();
    drop(guest);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(!daemon.socket().exists());
}

#[test]
fn without_a_tap_to_open_nobody_keeps_a_capability() {
    let daemon = Daemon::serve(&["--lost-port", "exit"]);
    check(children(daemon.id())[0], NONE);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_thread_that_is_taken_over_opens_no_file_starts_no_program_and_makes_no_code() {
    use crate::injected::{Outcome, Stopped};
    let refused = Outcome::Returned(-i64::from(libc::EACCES));
    let cwd = i64::from(libc::AT_FDCWD);
    let mut daemon = Daemon::serve(&[]);
    let mut guest = Guest::start(&daemon);
    guest.send();
    let worker = threads(daemon.id());
    let worker = worker.into_iter().find(|thread| *thread != daemon.id());
    for thread in [daemon.id(), worker.unwrap()] {
        let stopped = Stopped::attach(thread);
        for path in ["/etc/passwd", "/dev/net/tun", "/", "."] {
            let outcome = stopped.call_with(libc::SYS_openat, [cwd, 0, 0], 1, path);
            assert_eq!(outcome, refused, "{path}");
        }
        if thread == daemon.id() {
            let outcome = stopped.call_with(libc::SYS_unlink, [0; 3], 0, "net.sock");
            assert_eq!(outcome, refused);
        }
    }
    // It goes on where it was.
    guest.send();
    for thread in [daemon.id(), worker.unwrap()] {
        let stopped = Stopped::attach(thread);
        for call in [libc::SYS_execve, libc::SYS_chroot, libc::SYS_mkdir] {
            let outcome = stopped.call_with(call, [0; 3], 0, "/bin/true");
            assert_eq!(outcome, Outcome::Signal(libc::SIGSYS));
        }
        let executable = i64::from(libc::PROT_READ | libc::PROT_EXEC);
        for (call, arguments) in [
            (libc::SYS_mprotect, [1 << 20, 4096, executable]),
            (libc::SYS_mmap, [0, 4096, executable]),
            // A process, and a connection.
            (libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0]),
            (libc::SYS_connect, [0; 3]),
            (libc::SYS_ptrace, [0; 3]),
        ] {
            let outcome = stopped.call(call, arguments);
            assert_eq!(outcome, Outcome::Signal(libc::SIGSYS), "call {call}");
        }
    }
    guest.send();
    drop(guest);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

#[test]
fn what_all_is_asked_for_and_not_there_is_a_reason_not_to_start() {
    // No user namespace, and no capability to do without.
    let setup = "ip tuntap add dev own0 mode tap user 0 vnet_hdr; ip link set own0 up; \
                 echo 0 >/proc/sys/user/max_user_namespaces; \
                 set -- setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut daemon = Daemon::prepare();
    daemon.start(setup, &["--tap", "own0", "--sandbox", "full"]);
    daemon.log_with("cannot have namespaces and an empty root folder, as --sandbox full wants");
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(!daemon.socket().exists());
    daemon.start(setup, &["--tap", "own0"]);
    let line = daemon.log_with("sandbox: ");
    assert!(line.contains("no file, without namespaces ("), "{line}");
    daemon.log_with("tap own0");
    check(daemon.id(), NONE);
}

#[test]
fn the_daemon_becomes_the_user_that_it_is_told() {
    let options = ["--user", "65534:65533"];
    // Here that user is none.
    let mut daemon = Daemon::prepare();
    daemon.start("", &options);
    daemon.log_with("cannot become the user of --user, which takes root");
    assert_eq!(daemon.wait().code(), Some(1));
    if !rustix::process::geteuid().is_root() {
        return;
    }
    daemon.start_as_root(&options);
    let line = daemon.log_with("sandbox: ");
    assert!(line.contains("user 65534:65533"), "{line}");
    daemon.log_with("tap vmtap0");
    let [broker, parent] = children(daemon.id())[..] else {
        panic!("{:?}", children(daemon.id()));
    };
    for process in [daemon.id(), parent] {
        check(process, NONE);
        let ids = |name| field(process, process, name);
        assert_eq!(ids("Uid").split_whitespace().last(), Some("65534"));
        assert_eq!(ids("Gid").split_whitespace().last(), Some("65533"));
        assert_eq!(ids("Groups"), "65533");
    }
    assert_eq!(
        field(broker, broker, "Uid").split_whitespace().next(),
        Some("0")
    );
    let mut guest = Guest::start(&daemon);
    guest.send();
    drop(guest);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    // Who was root made it, and removes it.
    assert!(!daemon.socket().exists());
}

#[test]
fn options_of_the_process_are_given_once() {
    for option in [["--sandbox", "none"], ["--user", "0:0"]] {
        let mut command = Command::new(BINARY);
        command
            .args(["--socket-path", "a", "--tap", "a"])
            .args(option);
        command
            .args(["--and", "--socket-path", "b", "--tap", "b"])
            .args(option);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("is an option of the process"), "{text}");
    }
}
