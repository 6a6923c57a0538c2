//! Whatever a front-end or a client does in a loop, the log gets a few lines and a count.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use net_device::log_limit::LOG_BURST;
use net_device::net_queue::Offloads;
use net_device::{NetConfig, NetDevice, Port, PortControl, VirtioDevice};
use net_queue::testing::Wire;
use vhost_user_net::daemon::control_socket::ControlSocket;
use vhost_user_net::daemon::rate_limits::Limits;
use vhost_user_net::daemon::serve::{Server, Source};
use vhost_user_net::sys::{self, Termination};

/// Lines that each loop may write: a burst of each of two levels and, on a slow machine, that of
/// some intervals.
const MOST: usize = 4 * LOG_BURST as usize;

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        self.0.lock().expect("no line panicked").push(line);
    }

    fn flush(&self) {}
}

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

fn device() -> NetDevice {
    let port = Port::new(Box::new(Wire::new().0), Box::new(NoControl));
    NetDevice::from_ports(NetConfig::default(), vec![port]).expect("it can be made")
}

fn withheld(device: &NetDevice) -> u64 {
    let counters = device.counters();
    let found = counters.iter().find(|(name, _)| name == "log_withheld");
    found.expect("it is counted").1
}

/// The lines that `hammer` causes.
fn lines(hammer: impl FnOnce()) -> Vec<String> {
    LINES.0.lock().expect("no line panicked").clear();
    hammer();
    std::mem::take(&mut *LINES.0.lock().expect("no line panicked"))
}

/// One loop after the other, since the log is the process's.
#[test]
fn log_hammer_by_front_ends_and_clients_is_a_few_lines_and_a_count() {
    log::set_logger(&LINES).expect("there is no other");
    log::set_max_level(log::LevelFilter::Info);
    let termination = Termination::new().expect("signals can be blocked");
    let lost = sys::event().expect("an event can be made");

    for nonsense in [&[][..], &[0xff; 12]] {
        let mut device = device();
        let lines = lines(|| {
            for _ in 0..300 {
                let (mut front_end, back_end) = UnixStream::pair().expect("a pair");
                front_end.write_all(nonsense).expect("it has room");
                drop(front_end);
                Server::new(&mut device, &termination, &lost)
                    .run(Source::Connected(back_end))
                    .expect("only the conversation ends");
            }
        });
        assert!((1..=MOST).contains(&lines.len()), "{lines:#?}");
        assert!(withheld(&device) >= 300);
    }

    let mut device = device();
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("control.sock");
    let mut control = ControlSocket::listen(&path, Limits::default()).expect("nobody listens");
    let lines = lines(|| {
        for round in 1..300 {
            let mut client = UnixStream::connect(&path).expect("it listens");
            let command = format!("limits tx={round}Mbit\n");
            client.write_all(command.as_bytes()).expect("it has room");
            // Once to accept, once to read.
            control.serve(&mut device);
            control.serve(&mut device);
            let mut answer = [0; 3];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"ok\n");
        }
    });
    assert!((1..=MOST).contains(&lines.len()), "{lines:#?}");
    assert!(withheld(&device) >= 250);
}
