//! Programs that take a guest's frames, which end under traffic and are started again.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use vhost::VhostBackend;
use vhost_user_net::sys;

use crate::connect;
use crate::daemon::{Daemon, LIMIT};
use crate::guest::{Guest, TX};

const KINDS: [&str; 3] = ["passt", "gvproxy", "datagrams"];
/// Times that a program ends.
const ROUNDS: usize = 3;

/// A program behind a socket.
enum Program {
    Listens(UnixListener),
    Receives(UnixDatagram),
}

impl Program {
    fn start(kind: &str, path: &Path) -> Self {
        // One that was killed leaves its socket behind.
        let _ = fs::remove_file(path);
        match kind {
            "passt" => Self::Listens(UnixListener::bind(path).unwrap()),
            _ => Self::Receives(UnixDatagram::bind(path).unwrap()),
        }
    }

    /// Accepts the daemon, and has its way of telling of itself.
    fn meet(self, kind: &str) -> Met {
        match self {
            Self::Listens(listener) => {
                let limit = u16::try_from(LIMIT.as_millis()).ok();
                let came = sys::is_ready(listener.as_fd(), sys::Interest::Readable, limit);
                assert!(came.unwrap(), "nobody connects");
                Met::Stream(listener.accept().unwrap().0)
            }
            Self::Receives(socket) => {
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                if kind == "gvproxy" {
                    let mut hello = [0; 16];
                    let len = socket.recv(&mut hello).unwrap();
                    assert_eq!(&hello[..len], b"VFKT");
                }
                Met::Datagrams(socket)
            }
        }
    }
}

/// A program that the daemon is connected to.
enum Met {
    Stream(UnixStream),
    Datagrams(UnixDatagram),
}

impl Met {
    /// Waits for one of the guest's frames, which are of 60 bytes.
    fn receive_frame(&mut self) {
        let mut frame = [0; 64];
        match self {
            Self::Stream(stream) => {
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                stream.read_exact(&mut frame).unwrap();
                assert_eq!(frame[..4], 60_u32.to_be_bytes());
            }
            Self::Datagrams(socket) => assert_eq!(socket.recv(&mut frame).unwrap(), 60),
        }
    }
}

/// A daemon, and the path of the program that takes its frames.
fn served(kind: &str, options: &[&str]) -> (Daemon, PathBuf, Met) {
    let mut daemon = Daemon::prepare();
    let path = daemon.path("program");
    let program = Program::start(kind, &path);
    let backend = format!("{kind}:{}", path.display());
    daemon.start_with_backend(&backend, options);
    (daemon, path, program.meet(kind))
}

/// Ends the program while the guest sends, and waits until the device has failed.
fn end_under_load(daemon: &mut Daemon, guest: &mut Guest, mut program: Met) {
    for _ in 0..20 {
        guest.send();
        program.receive_frame();
    }
    thread::scope(|scope| {
        let ended = scope.spawn(|| drop(program));
        // Only who sends a datagram learns that nobody takes it.
        let lost = scope.spawn(|| daemon.log_with("network port of pair 0 is gone"));
        while !(ended.is_finished() && lost.is_finished()) {
            guest.send_unless(|| lost.is_finished());
        }
    });
}

/// A front-end is turned away.
fn is_refused(daemon: &mut Daemon, path: &Path) {
    let refused = connect(daemon);
    let line = daemon.log_with("a front-end is refused: a port is gone");
    assert!(line.contains(path.to_str().unwrap()), "{line}");
    assert_eq!((&refused).read(&mut [0]).unwrap_or(0), 0);
}

fn ends(mut daemon: Daemon) {
    daemon.signal("TERM");
    assert!(daemon.wait().success());
    assert!(!daemon.socket().exists());
}

#[test]
fn the_next_front_end_has_the_program_that_was_started_again() {
    for kind in KINDS {
        let (mut daemon, path, mut program) = served(kind, &[]);
        daemon.has_no_receiver();
        let files = daemon.files_at_rest().len();
        for _ in 0..ROUNDS {
            let mut guest = Guest::start(&daemon);
            end_under_load(&mut daemon, &mut guest, program);
            drop(guest);
            daemon.has_no_receiver();
            is_refused(&mut daemon, &path);
            let again = Program::start(kind, &path);
            let mut guest = Guest::start(&daemon);
            program = again.meet(kind);
            guest.send();
            program.receive_frame();
            drop(guest);
            daemon.has_no_receiver();
            assert_eq!(daemon.files_at_rest().len(), files, "{kind}");
        }
        ends(daemon);
    }
}

#[test]
fn a_guest_that_resets_its_device_has_the_program_that_was_started_again() {
    for kind in KINDS {
        let (mut daemon, path, mut program) = served(kind, &[]);
        let mut guest = Guest::start(&daemon);
        for _ in 0..ROUNDS {
            end_under_load(&mut daemon, &mut guest, program);
            let again = Program::start(kind, &path);
            guest.front_end.get_vring_base(TX).unwrap();
            guest.set_up();
            guest.enable();
            program = again.meet(kind);
            guest.send();
            program.receive_frame();
        }
        drop(guest);
        ends(daemon);
    }
}

#[test]
fn frames_that_a_program_left_behind_do_not_hide_its_end() {
    let (daemon, path, program) = served("passt", &[]);
    let Met::Stream(mut stream) = program else {
        unreachable!("passt takes a stream");
    };
    stream
        .write_all(&[&[0, 0, 0, 60][..], &[0; 60]].concat())
        .unwrap();
    drop(stream);
    let again = Program::start("passt", &path);
    let mut guest = Guest::start(&daemon);
    let mut program = again.meet("passt");
    guest.send();
    program.receive_frame();
    drop(guest);
    ends(daemon);
}

#[test]
fn a_program_that_accepts_nobody_holds_nobody_up() {
    let (mut daemon, path, program) = served("passt", &[]);
    drop(program);
    let busy = Program::start("passt", &path);
    let deadline = Instant::now() + LIMIT;
    let mut waiting = Vec::new();
    while let Ok(socket) = sys::connect(&path) {
        assert!(Instant::now() < deadline, "it always has room");
        waiting.push(socket);
    }
    is_refused(&mut daemon, &path);
    ends(daemon);
    drop((busy, waiting));
}

#[test]
fn a_program_that_ended_ends_the_daemon_if_that_is_asked_for() {
    for kind in KINDS {
        let (mut daemon, _, program) = served(kind, &["--lost-port", "exit"]);
        let mut guest = Guest::start(&daemon);
        guest.send();
        drop(program);
        guest.post();
        guest.kick();
        assert_eq!(daemon.wait().code(), Some(4), "{kind}");
        assert_eq!(daemon.lines_with("the program in its place"), 1);
        assert!(!daemon.socket().exists());
        drop(guest);
    }
}
