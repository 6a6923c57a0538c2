//! The daemon as a process: its end, its limits, its privileges. Each runs in namespaces of its
//! own, without root.

mod blocking_calls;
mod daemon;
mod device_state;
mod disabled;
mod fuse;
mod guest;
mod injected;
mod isolation;
mod killed;
mod lost_port;
mod lost_program;
mod programs;
mod sandbox;
mod service;
mod stalls;
mod takeover;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use vhost_user_net::daemon::listener::{Access, BoundListener};
use vhost_user_net::sys;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use crate::daemon::{BINARY, Daemon, LIMIT};
use crate::fuse::FuseFrontEnd;

const GET_QUEUE_NUM: u32 = 17;
const SET_VRING_CALL: u32 = 13;

fn message(code: u32, payload: &[u8]) -> Vec<u8> {
    let header = [code, 1, payload.len() as u32].map(u32::to_ne_bytes);
    [header.as_flattened(), payload].concat()
}

fn connect(daemon: &Daemon) -> UnixStream {
    let socket = UnixStream::connect(daemon.socket()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Asks for the number of rings, which any front-end may do at any time.
fn rings(mut socket: &UnixStream) -> u64 {
    socket.write_all(&message(GET_QUEUE_NUM, &[])).unwrap();
    let mut reply = [0; 20];
    socket.read_exact(&mut reply).unwrap();
    u64::from_ne_bytes(reply[12..].try_into().unwrap())
}

#[test]
fn every_signal_that_would_end_the_process_removes_its_sockets() {
    for signal in [
        "TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR",
        "STKFLT", "XCPU",
    ] {
        let mut daemon = Daemon::serve(&["--control-path", "control.sock"]);
        let control = daemon.path("control.sock");
        assert!(daemon.socket().exists() && control.exists());
        daemon.signal(signal);
        let status = daemon.wait();
        assert!(status.success(), "{signal}: {status}");
        assert!(!daemon.socket().exists() && !control.exists(), "{signal}");
    }
}

#[test]
fn a_signal_that_is_ignored_by_whoever_starts_the_daemon_stays_ignored() {
    let mut daemon = Daemon::serve_after("trap '' HUP", &[]);
    daemon.signal("HUP");
    assert_eq!(rings(&connect(&daemon)), 3);
    daemon.signal("TERM");
    assert!(daemon.wait().success());
}

#[test]
fn a_path_that_another_daemon_took_over_stays_its_own() {
    let mut first = Daemon::serve(&[]);
    fs::remove_file(first.socket()).unwrap();
    let second = UnixListener::bind(first.socket()).unwrap();
    first.signal("TERM");
    assert!(first.wait().success());
    assert!(first.socket().exists());
    drop(second);
}

#[test]
fn a_front_end_that_accepts_nobody_does_not_keep_the_daemon_from_ending() {
    let mut daemon = Daemon::prepare();
    let _silent = BoundListener::bind(&daemon.socket(), &Access::default()).unwrap();
    let connect = || sys::connect(&daemon.socket()).ok();
    let waiting: Vec<_> = std::iter::from_fn(connect).collect();
    assert!(!waiting.is_empty());
    daemon.start("", &["--client"]);
    daemon.log_with("has not accepted those who came before");
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    drop(waiting);
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let daemon = Daemon::serve_after("ulimit -Sn 40; ulimit -Hn 700", &["--queue-pairs", "16"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = files.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["700", "700"]);
}

#[test]
fn without_a_descriptor_connections_wait_until_there_is_one() {
    let mut daemon = Daemon::serve(&["--control-path", "control.sock"]);
    daemon.allow_more_files(0);
    let front_end = connect(&daemon);
    let line = daemon.log_with("a connection waits to be accepted");
    assert!(line.contains("(os error 24)"), "{line}");
    daemon.allow_all_files();
    assert_eq!(rings(&front_end), 3);

    // An operator waits likewise, and the front-end that is there does not notice.
    daemon.allow_more_files(0);
    let mut operator = UnixStream::connect(daemon.path("control.sock")).unwrap();
    daemon.log_with("the limit of open files of this process is");
    assert_eq!(rings(&front_end), 3);
    daemon.allow_all_files();
    operator.set_read_timeout(Some(LIMIT)).unwrap();
    operator.write_all(b"limits\n").unwrap();
    let mut answer = [0; 64];
    let count = operator.read(&mut answer).unwrap();
    assert!(answer[..count].starts_with(b"rx=off"));

    daemon.signal("TERM");
    assert!(daemon.wait().success());
    // One line for each of the two shortages.
    assert_eq!(daemon.lines_with("waits to be accepted"), 2);
}

#[test]
fn a_conversation_that_runs_out_of_descriptors_names_the_limit_and_ends_alone() {
    let mut daemon = Daemon::serve(&[]);
    let front_end = connect(&daemon);
    assert_eq!(rings(&front_end), 3);
    daemon.allow_more_files(0);
    let call = front_end.as_raw_fd();
    let bytes = message(SET_VRING_CALL, &0u64.to_ne_bytes());
    front_end.send_with_fd(&bytes[..], call).unwrap();
    let line = daemon.log_with("connection ended");
    assert!(line.contains("(os error 24)"), "{line}");
    assert!(
        line.contains("the limit of open files of this process is"),
        "{line}"
    );
    assert_eq!((&front_end).read(&mut [0]).unwrap_or(0), 0);

    // Enough for a connection, but not for a session.
    daemon.has_no_receiver();
    daemon.allow_more_files(1);
    let next = connect(&daemon);
    daemon.log_with("no conversation");
    drop(next);
    daemon.allow_all_files();
    assert_eq!(rings(&connect(&daemon)), 3);
}

#[test]
fn descriptors_of_other_processes_of_its_user_on_their_way_delay_a_front_end() {
    let mut daemon = Daemon::serve(&[]);
    daemon.allow_files(100);
    let (sender, receiver) = UnixStream::pair().unwrap();
    // This process is root, for whom the limit does not hold.
    let fds = [sender.as_raw_fd(); 101];
    sender.send_with_fds(&[&[0][..]], &fds).unwrap();
    let refused = connect(&daemon);
    let line = daemon.log_with("no conversation");
    assert!(line.contains("(os error 109)"), "{line}");
    assert!(line.contains("give it a user of its own"), "{line}");
    assert_eq!((&refused).read(&mut [0]).unwrap_or(0), 0);

    drop((sender, receiver));
    assert_eq!(rings(&connect(&daemon)), 3);
}

#[test]
fn the_owner_of_a_tap_that_is_up_serves_without_capabilities() {
    for (kind, pairs) in [("", "1"), ("multi_queue", "2")] {
        let setup = format!(
            "ip tuntap add dev own0 mode tap user 0 vnet_hdr {kind}; ip link set own0 up; \
             set -- setpriv --bounding-set=-all --inh-caps=-all \"$@\""
        );
        let daemon = Daemon::serve_after(&setup, &["--tap", "own0", "--queue-pairs", pairs]);
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        assert_eq!(
            rings(&connect(&daemon)),
            2 * pairs.parse::<u64>().unwrap() + 1
        );
    }
}

#[test]
fn a_socket_is_for_the_group_it_is_given_to() {
    use std::os::unix::fs::MetadataExt;
    let daemon = Daemon::serve(&["--socket-group", "0"]);
    let found = fs::metadata(daemon.socket()).unwrap();
    assert_eq!(found.mode() & 0o777, 0o660);
    let daemon = Daemon::serve(&["--socket-mode", "0666"]);
    let found = fs::metadata(daemon.socket()).unwrap();
    assert_eq!(found.mode() & 0o777, 0o666);
}

#[test]
fn a_capture_beyond_the_limit_of_file_sizes_is_an_error_and_not_a_signal() {
    let mut daemon = Daemon::prepare();
    daemon.start("ulimit -f 0", &["--pcap", "frames.pcap"]);
    daemon.log_with("cannot write frames.pcap: File too large");
    assert_eq!(daemon.wait().code(), Some(1));
    assert!(!daemon.socket().exists());
}

#[test]
fn capabilities_are_printed_with_the_word_serve_and_without() {
    for words in [
        &["serve", "--print-capabilities"][..],
        &["--print-capabilities"],
    ] {
        let output = Command::new(BINARY).args(words).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text.split_whitespace().collect::<String>(),
            r#"{"type":"net"}"#
        );
    }
}

#[test]
fn more_pairs_than_messages_can_number_are_a_usage_error() {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--fd", "0", "--tap", "t", "--queue-pairs", "129"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("129 queue pairs; vhost-user can serve 1 to 128"),
        "{text}"
    );
}

/// State of a process as the kernel's letter; `None` when there is none any more.
fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A message with a call descriptor for the first ring.
fn call_message() -> Vec<u8> {
    message(SET_VRING_CALL, &0u64.to_ne_bytes())
}

#[test]
fn a_file_that_nobody_can_close_ends_its_connection_and_nothing_else() {
    if FuseFrontEnd::is_here() {
        return;
    }
    let own = ["--control-path", "control.sock", "--tap", "vmtap0"];
    let other = ["--and", "--socket-path", "other.sock", "--tap", "vmtap1"];
    let mut daemon = Daemon::serve(&[own.as_slice(), &other].concat());
    let neighbour = UnixStream::connect(daemon.path("other.sock")).unwrap();
    assert_eq!(rings(&neighbour), 3);
    let before = daemon.receivers();
    let test = "a_file_that_nobody_can_close_ends_its_connection_and_nothing_else";
    let mut front_end = FuseFrontEnd::start(test, &daemon.socket(), &call_message(), false);
    daemon.log_with("connection ended: a descriptor that is of no use here cannot be closed");
    front_end.is_cut_off();
    assert_eq!(rings(&neighbour), 3);

    let mut stuck = daemon.receivers();
    stuck.retain(|process| !before.contains(process));
    let [stuck] = stuck[..] else {
        panic!("{stuck:?}")
    };
    let next = connect(&daemon);
    daemon.log_with(&format!("a front-end is refused: process {stuck}"));
    // It was killed a second ago, and the kernel does not let it end.
    assert_eq!(state(stuck), Some('D'));
    assert_eq!((&next).read(&mut [0]).unwrap_or(0), 0);
    let operator = UnixStream::connect(daemon.path("control.sock")).unwrap();
    operator.set_read_timeout(Some(LIMIT)).unwrap();
    (&operator).write_all(b"counters\n").unwrap();
    operator.shutdown(std::net::Shutdown::Write).unwrap();
    let mut counters = String::new();
    (&operator).read_to_string(&mut counters).unwrap();
    assert!(counters.contains("\noverdue_receivers 1\n"), "{counters}");
    assert_eq!(rings(&neighbour), 3);

    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert_eq!(state(stuck), Some('D'));
    drop(front_end);
}

#[test]
fn a_device_serves_again_once_what_its_last_front_end_passed_is_closed() {
    if FuseFrontEnd::is_here() {
        return;
    }
    let test = "a_device_serves_again_once_what_its_last_front_end_passed_is_closed";
    // A whole message, a part of one, and one that is malformed.
    for (message, end) in [
        (&call_message()[..], "cannot be closed"),
        (
            &call_message()[..14],
            "the connection ended within a message",
        ),
        (&[0; 12], "message version 0"),
    ] {
        let mut daemon = Daemon::serve(&[]);
        let mut front_end = FuseFrontEnd::start(test, &daemon.socket(), message, false);
        if message.len() == 14 {
            front_end.leave();
        }
        daemon.log_with(end);
        let refused = connect(&daemon);
        daemon.log_with("a front-end is refused");
        assert_eq!((&refused).read(&mut [0]).unwrap_or(0), 0);
        front_end.answer();
        daemon.has_no_receiver();
        assert_eq!(rings(&connect(&daemon)), 3);
    }
}

#[test]
fn a_file_that_is_closed_in_time_is_refused_for_what_it_is() {
    if FuseFrontEnd::is_here() {
        return;
    }
    let mut daemon = Daemon::serve(&[]);
    let test = "a_file_that_is_closed_in_time_is_refused_for_what_it_is";
    let mut front_end = FuseFrontEnd::start(test, &daemon.socket(), &call_message(), true);
    let line = daemon.log_with("connection ended");
    assert!(
        line.contains("the descriptor is neither an eventfd nor a pipe"),
        "{line}"
    );
    front_end.is_cut_off();
    assert_eq!(rings(&connect(&daemon)), 3);
}

/// Scrapes the metrics of a daemon that serves them at a path.
fn metrics(daemon: &Daemon) -> String {
    let mut scraper = UnixStream::connect(daemon.path("metrics.sock")).unwrap();
    scraper.set_read_timeout(Some(LIMIT)).unwrap();
    scraper
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut told = String::new();
    scraper.read_to_string(&mut told).unwrap();
    told
}

#[test]
fn metrics_tell_of_every_device_whoever_is_connected() {
    let options = "--tap vmtap0 --metrics unix:metrics.sock \
                   --and --socket-path other.sock --tap vmtap1";
    let mut daemon = Daemon::serve(&options.split_whitespace().collect::<Vec<_>>());
    daemon.log_with("metrics at unix:metrics.sock");
    let connected = |tap: &str, there: u8| {
        format!("vhost_user_net_front_end_connected{{device=\"{tap}\"}} {there}\n")
    };
    let told = metrics(&daemon);
    assert!(told.contains(&connected("vmtap0", 0)) && told.contains(&connected("vmtap1", 0)));
    let other = UnixStream::connect(daemon.path("other.sock")).unwrap();
    assert_eq!(rings(&other), 3);
    let told = metrics(&daemon);
    assert!(told.contains(&connected("vmtap0", 0)) && told.contains(&connected("vmtap1", 1)));
    // Its own thread is the one that serves them.
    let front_end = connect(&daemon);
    assert_eq!(rings(&front_end), 3);
    let told = metrics(&daemon);
    assert!(told.contains("vhost_user_net_overdue_receivers_total{device=\"vmtap1\"} 0\n"));
    assert!(told.contains(&connected("vmtap0", 1)) && told.contains(&connected("vmtap1", 1)));
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(!daemon.path("metrics.sock").exists());
}
