//! The lists, the document that shows them, and what a confined thread cannot do.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use net_device::{ThreadKind, seccomp};

use super::lists::{Group, calls};
use super::*;

const DEED: &str = "VHOST_USER_NET_SANDBOX_DEED";

#[test]
fn lists_name_each_call_once_and_compile() {
    for role in Role::ALL {
        let groups = role.groups().flat_map(|it| it.calls).map(|it| it.1);
        let conditional = role.conditional().map(|it| it.call.1);
        let calls: Vec<_> = groups.chain(conditional).collect();
        let distinct: BTreeSet<_> = calls.iter().collect();
        assert_eq!(calls.len(), distinct.len(), "{role:?}");
        filter::compile(role).unwrap();
    }
}

#[test]
fn users_are_names_or_two_numbers() {
    let ids = |user, group| Ok(User::Ids(UserAndGroup { user, group }));
    assert_eq!("990:36".parse(), ids(990, 36));
    assert_eq!("kvm".parse(), Ok(User::Name("kvm".into())));
    for text in ["990", "990:kvm", "kvm:36", ":", "4294967295:1"] {
        assert!(text.parse::<User>().is_err(), "{text}");
    }
    let root = User::Name("root".into()).ids().unwrap();
    assert_eq!((root.user, root.group), (0, 0));
    let nobody = User::Name("no such user".into()).ids().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
}

/// Does something in a process of its own, in which it may end.
fn attempt(deed: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon::sandbox::tests::child", "--nocapture"])
        .env(DEED, deed)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

/// Not a test of its own: what the process of [`attempt`] does.
#[test]
fn child() {
    let Ok(deed) = std::env::var(DEED) else {
        return;
    };
    if let Some(deed) = deed.strip_prefix("files ") {
        assert!(files::restrict(&[]).unwrap(), "this kernel has no Landlock");
        return do_with_files(deed);
    }
    filter::install(Role::Daemon).unwrap();
    match deed.as_str() {
        "nothing" => {
            let refused = File::open("/etc/passwd").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            let refused = std::fs::remove_file("/tmp/none").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
            let _pair = UnixStream::pair().unwrap();
        }
        "program" => drop(Command::new("/bin/true").status()),
        "connect" => drop(UnixStream::connect("/run/none")),
        "tcp" => drop(TcpStream::connect("127.0.0.1:1")),
        "signal" => {
            let parent = rustix::process::getppid().unwrap();
            let _ = rustix::process::test_kill_process(parent);
        }
        "mount" => drop(rustix::mount::unmount(
            "/",
            rustix::mount::UnmountFlags::empty(),
        )),
        other => panic!("{other}"),
    }
}

fn do_with_files(deed: &str) {
    let refused = match deed {
        "read" => File::open("/etc/passwd").err(),
        "make" => File::create("/tmp/vhost-user-net-none").err(),
        "listen" => TcpListener::bind("127.0.0.1:0").err(),
        _ => TcpStream::connect("127.0.0.1:1").err(),
    };
    assert_eq!(
        refused.unwrap().kind(),
        ErrorKind::PermissionDenied,
        "{deed}"
    );
}

#[test]
fn a_thread_of_the_daemon_starts_threads_and_opens_no_file() {
    assert!(attempt("nothing").success());
}

#[test]
fn what_is_not_listed_ends_the_process() {
    for deed in ["program", "connect", "tcp", "signal", "mount"] {
        assert_eq!(attempt(deed).signal(), Some(libc::SIGSYS), "{deed}");
    }
}

#[test]
fn files_are_out_of_reach_whatever_the_list_of_system_calls() {
    for deed in ["files read", "files make", "files listen", "files connect"] {
        assert!(attempt(deed).success(), "{deed}");
    }
}

/// Names of the calls that the lists of `net-device` have.
const NAMES: &[(&str, i64)] = calls![
    SYS_poll,
    SYS_ppoll,
    SYS_epoll_wait,
    SYS_epoll_pwait,
    SYS_epoll_ctl,
    SYS_epoll_create1,
    SYS_read,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_clock_gettime,
    SYS_futex,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_brk,
    SYS_mmap,
    SYS_mremap,
    SYS_munmap,
    SYS_mprotect,
    SYS_madvise,
    SYS_getrandom,
    SYS_sendto,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_recvfrom,
    SYS_close,
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_restart_syscall,
    SYS_sigaltstack,
    SYS_rt_sigaction,
    SYS_getpid,
    SYS_gettid,
    SYS_tgkill,
    SYS_rseq,
    SYS_set_robust_list,
    SYS_exit,
    SYS_membarrier,
    SYS_socket,
    SYS_fcntl,
    SYS_eventfd2,
    SYS_clone,
    SYS_clone3,
    SYS_prctl,
    SYS_seccomp,
    SYS_ioctl,
];

fn name(call: i64) -> &'static str {
    let found = NAMES.iter().find(|it| it.1 == call);
    found.map_or_else(|| panic!("call {call} has no name in this test"), |it| it.0)
}

fn row(calls: impl Iterator<Item = &'static str>, why: &str) -> String {
    let names = calls.map(|name| format!("`{}`", name.trim_start_matches("SYS_")));
    format!("| {} | {why} |\n", names.collect::<Vec<_>>().join(", "))
}

fn table(title: &str, rows: impl Iterator<Item = String>) -> String {
    let rows: String = rows.collect();
    format!("## {title}\n\n| calls | purpose |\n|---|---|\n{rows}")
}

fn of_role(role: Role) -> String {
    let title = match role {
        Role::Daemon => "Threads of the daemon",
        Role::Receiver => "Receivers of messages, and their parent",
        Role::Broker => "The broker",
    };
    let names = |group: &'static Group| group.calls.iter().map(|it| it.0);
    let groups = role.groups().map(|group| row(names(group), group.why));
    let conditional = role.conditional();
    let conditional = conditional.map(|it| row([it.call.0].into_iter(), it.why));
    let devices: BTreeSet<_> = role.of_devices().map(name).collect();
    let devices = (!devices.is_empty()).then(|| {
        row(
            devices.into_iter(),
            "devices, and their workers, which narrow it",
        )
    });
    let refused = role.refused().map(|it| it.0);
    let refused = row(
        refused,
        "fail with `EACCES`: libraries try them and can do without",
    );
    let rows = groups.chain(devices).chain(conditional).chain([refused]);
    table(title, rows)
}

fn of_worker(kind: ThreadKind, title: &str, why: &str) -> String {
    table(
        title,
        [row(seccomp::allowed(kind).map(name), why)].into_iter(),
    )
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_document_shows_the_lists() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/seccomp.md");
    let document = std::fs::read_to_string(path).unwrap();
    let workers = [
        of_worker(ThreadKind::QueuePair, "Workers of queue pairs", "frames"),
        of_worker(ThreadKind::Control, "Workers of control queues", "commands"),
    ];
    let mut missing: Vec<_> = Role::ALL.map(of_role).into_iter().chain(workers).collect();
    missing.retain(|section| !document.contains(section));
    let missing = missing.join("\n");
    assert!(missing.is_empty(), "docs/seccomp.md lacks:\n{missing}");
}
