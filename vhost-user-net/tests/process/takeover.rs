//! A daemon that is replaced by the next one, while the socket and the taps stay with whoever
//! started it: a service manager, here the test.

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use net_device::tap::{Tap, TapOptions};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tempfile::TempDir;

use crate::daemon::{BINARY, LIMIT};
use crate::guest::Guest;

/// Set in the process in which a test's body runs.
const INSIDE: &str = "TAKEOVER_INSIDE";
const TAP: &str = "take0";
const HOST: &str = "10.0.0.1";
const GUEST: &str = "10.0.0.2";
const PORT: u16 = 4000;
/// Descriptors from here on are none that the daemon is to have.
const OWN: i32 = 100;

/// Runs `body` of the test `name` in namespaces of its own, where it may make taps and keep them.
fn isolated(name: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("these tests need `unshare`");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let passed = output.status.success() && said[0].contains("1 passed");
    assert!(passed, "{}\n{}", said[0], said[1]);
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status();
    assert!(status.expect("these tests need `ip`").success(), "{words}");
}

/// Starts daemons, one after the other, and keeps what they serve.
struct Supervisor {
    directory: TempDir,
    listener: UnixListener,
    taps: Vec<Tap>,
}

impl Supervisor {
    fn new(pairs: usize) -> Self {
        let options = TapOptions::new(TAP)
            .queues(pairs)
            .ipv4(HOST.parse().unwrap(), 24);
        let taps = options.up().open().unwrap();
        ip(&format!(
            "neigh replace {GUEST} lladdr 02:00:00:00:00:02 dev {TAP} nud permanent"
        ));
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("net.sock")).unwrap();
        Self {
            directory,
            listener,
            taps,
        }
    }

    /// Starts a daemon with the socket and the taps.
    fn start(&self) -> Running {
        let kept = [self.listener.as_fd()].into_iter();
        let kept = kept.chain(self.taps.iter().map(AsFd::as_fd));
        let passed: Vec<OwnedFd> = kept
            .map(|fd| {
                let own = fcntl_dupfd_cloexec(fd, OWN).unwrap();
                fcntl_setfd(&own, FdFlags::empty()).unwrap();
                own
            })
            .collect();
        let places = passed.iter().zip(3..);
        let moves: String = places
            .map(|(fd, to)| format!("exec {to}<&{0} {0}<&-\n", fd.as_raw_fd()))
            .collect();
        let names = ["front-end"].into_iter();
        let names: Vec<_> = names.chain(self.taps.iter().map(|_| "tap")).collect();
        let child = Command::new("bash")
            .args(["-ec", &format!("{moves}export LISTEN_PID=$$\nexec \"$@\"")])
            .args([
                "sh",
                BINARY,
                "serve",
                "--fd",
                "front-end",
                "--tap-fd",
                "tap",
            ])
            .args(["--queue-pairs", &self.taps.len().to_string()])
            .current_dir(self.directory.path())
            .env("LISTEN_FDS", passed.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .stdin(Stdio::null())
            .spawn();
        Running(child.expect("these tests need `bash`"))
    }

    /// A front-end that connects, whether or not there is a daemon.
    fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.directory.path().join("net.sock")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket
    }

    /// The guest behind it, once there is one. All its rings run.
    fn serve(&self, socket: UnixStream) -> Guest {
        let mut guest = Guest::over(socket);
        guest.set_up();
        guest.enable();
        for pair in 0..self.taps.len() {
            guest.receive_by(pair);
        }
        guest
    }

    fn numbers(&self, guest: &Guest) -> Vec<u32> {
        let pairs = 0..self.taps.len();
        let frames = pairs.flat_map(|pair| guest.received(pair));
        frames.filter_map(|frame| number(&frame)).collect()
    }
}

/// A daemon. It is killed when dropped.
struct Running(Child);

impl Running {
    /// Ends it as a service manager does that starts the next one.
    fn stop(mut self) {
        let kill = Command::new("kill").arg(self.0.id().to_string()).status();
        assert!(kill.unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The host's sockets, each of a flow.
struct Flows(Vec<UdpSocket>);

impl Flows {
    fn new() -> Self {
        let bind = |_| UdpSocket::bind((HOST, 0)).unwrap();
        Self((0..16).map(bind).collect())
    }

    /// Sends a datagram with a number to the guest.
    fn send(&self, number: u32) {
        let socket = &self.0[number as usize % self.0.len()];
        let payload = number.to_be_bytes();
        socket.send_to(&payload, (GUEST, PORT)).unwrap();
    }
}

/// The number in a frame behind its header, if it is one of [`Flows`].
fn number(frame: &[u8]) -> Option<u32> {
    let packet = frame.get(12 + 14..)?;
    let is_udp = packet.first() == Some(&0x45) && packet.get(9) == Some(&17);
    let bytes = packet.get(28..32).filter(|_| is_udp)?;
    Some(u32::from_be_bytes(bytes.try_into().unwrap()))
}

/// Frames that the interface has taken from the guest.
fn taken() -> u64 {
    let table = fs::read_to_string("/proc/net/dev").unwrap();
    let mut rows = table.lines().filter_map(|line| line.split_once(':'));
    let (_, counts) = rows.find(|(row, _)| row.trim() == TAP).unwrap();
    counts.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Datagrams go to the guest all the time, also while there is no daemon.
#[test]
fn the_next_daemon_goes_on_with_the_socket_and_the_tap_and_loses_nothing() {
    isolated(
        "takeover::the_next_daemon_goes_on_with_the_socket_and_the_tap_and_loses_nothing",
        || {
            let got = take_over(1);
            assert_eq!(got, (0..=200).collect::<Vec<_>>());
        },
    );
}

/// Frames that wait in the queues of a tap behind the first one are lost when these are detached,
/// before the driver's other rings run. All others arrive.
#[test]
fn the_next_daemon_goes_on_with_the_queues_of_a_tap() {
    isolated(
        "takeover::the_next_daemon_goes_on_with_the_queues_of_a_tap",
        || {
            let got = take_over(2);
            let while_served = (0..50).chain([200]);
            let missing: Vec<_> = while_served.filter(|it| !got.contains(it)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        },
    );
}

/// Passes 201 datagrams to a guest of one daemon, of none, and of the next; returns those that
/// arrived, in their order.
fn take_over(pairs: usize) -> Vec<u32> {
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    let supervisor = Supervisor::new(pairs);
    let flows = Flows::new();
    let first = supervisor.start();
    let mut guest = supervisor.serve(supervisor.connect());
    for number in 0..50 {
        flows.send(number);
    }
    wait_until("the first guest's datagrams", || {
        supervisor.numbers(&guest).len() == 50
    });
    guest.send();
    let before = taken();

    thread::scope(|scope| {
        let stopped = scope.spawn(|| first.stop());
        for number in 50..100 {
            flows.send(number);
            thread::sleep(Duration::from_millis(1));
        }
        stopped.join().unwrap();
    });
    for number in 100..200 {
        flows.send(number);
    }
    // It waits for the next daemon.
    let socket = supervisor.connect();
    let second = supervisor.start();
    let mut next = supervisor.serve(socket);
    next.send();
    wait_until("a frame of the next guest's", || taken() > before);
    flows.send(200);

    wait_until("the last datagram", || {
        supervisor.numbers(&next).contains(&200)
    });
    // No frame that came before it is received behind it.
    second.stop();
    let mut got = [supervisor.numbers(&guest), supervisor.numbers(&next)].concat();
    got.sort_unstable();
    let count = got.len();
    got.dedup();
    assert_eq!(got.len(), count, "some arrived twice");
    got
}
