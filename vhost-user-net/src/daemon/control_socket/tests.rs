//! Commands, right and wrong, of clients that are slow, hostile or gone.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;

use net_device::{NetConfig, Port, PortControl};
use net_queue::testing::Wire;
use tempfile::TempDir;

use super::*;
use crate::daemon::clients::MAX_CLIENTS;
use crate::daemon::serve::{ServeError, Server, Source};
use crate::sys::{self, Termination};

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: net_device::net_queue::Offloads) -> io::Result<()> {
        Ok(())
    }
}

fn device() -> NetDevice {
    let port = Port::new(Box::new(Wire::new().0), Box::new(NoControl));
    NetDevice::from_ports(NetConfig::default(), vec![port]).unwrap()
}

/// A control socket, its device, and nobody who waits but the test.
struct Bench {
    control: ControlSocket,
    device: NetDevice,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        Self {
            control: ControlSocket::listen(&path, Limits::default()).unwrap(),
            device: device(),
            directory,
        }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("control.sock")).unwrap()
    }

    /// Serves until nothing is ready any more.
    fn serve_all(&mut self) {
        loop {
            let wanted: Vec<_> = self.control.wanted().collect();
            let ready = sys::wait(&wanted, Some(0)).unwrap().contains(&true);
            if !ready {
                return;
            }
            self.control.serve(&mut self.device);
        }
    }

    /// Answer to a client that says `text`.
    fn tell(&mut self, text: &[u8]) -> String {
        let mut client = self.connect();
        client.write_all(text).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        self.serve_all();
        // What was not read of a line that is too long makes it a reset.
        let mut told = Vec::new();
        let _ = client.read_to_end(&mut told);
        String::from_utf8(told).unwrap()
    }
}

#[test]
fn limits_are_changed_and_shown() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.tell(b"limits\n"),
        "rx=off tx=off rx-pps=off tx-pps=off burst=off\nok\n"
    );
    assert_eq!(
        bench.tell(b"limits rx=1Gbit tx-pps=20kpps\nlimits rx=8Mbit\n"),
        "ok\nok\n"
    );
    let config = bench.device.config();
    assert_eq!(
        config.rx_limit,
        Limits::default().with("rx=8Mbit").unwrap().rx().unwrap()
    );
    assert!(config.tx_limit.is_some());
    assert_eq!(bench.tell(b"limits rx=off tx-pps=off\n"), "ok\n");
    assert_eq!(bench.device.config().rx_limit, None);
}

#[test]
fn what_is_wrong_changes_nothing() {
    let mut bench = Bench::new();
    bench.tell(b"limits rx=1Gbit\n");
    let before = bench.device.config().clone();
    for line in [
        "limits rx=off tx=x\n",
        "limits rx\n",
        "limits rx=0.000000001bit\n",
        "Limits\n",
        "counters all\n",
        "help\0\n",
        "\u{7f}\u{1b}[2J\n",
    ] {
        let told = bench.tell(line.as_bytes());
        assert!(told.starts_with("error: "), "{told:?}");
        assert!(
            told.chars().filter(|c| c.is_control()).eq(['\n']),
            "{told:?}"
        );
    }
    assert!(bench.tell(b"\xff\xfe\n").starts_with("error: "));
    assert_eq!(*bench.device.config(), before);
}

#[test]
fn the_guest_is_announced_if_its_address_is_known() {
    let mut bench = Bench::new();
    let refused = "error: the driver cannot, and the device has no MAC address\n";
    assert_eq!(bench.tell(b"announce\n"), refused);
    let (backend, wire) = Wire::new();
    let port = Port::new(Box::new(backend), Box::new(NoControl));
    let config = NetConfig {
        mac: Some([2, 0, 0, 0, 0, 1].into()),
        ..NetConfig::default()
    };
    bench.device = NetDevice::from_ports(config, vec![port]).unwrap();
    assert_eq!(bench.tell(b"announce\n"), "ok\n");
    assert_eq!(wire.take_sent().len(), 1);
    assert!(bench.device.next_announcement().is_some());
}

#[test]
fn counters_and_help_are_printed() {
    let mut bench = Bench::new();
    let counters = bench.tell(b"\n  counters \r\n");
    assert!(counters.contains("tx_frames 0\n") && counters.ends_with("\nok\n"));
    assert!(bench.tell(b"help\n").contains("\ncounters "));
}

#[test]
fn the_group_is_shown_and_changed() {
    let mut bench = Bench::new();
    assert!(
        bench
            .tell(b"group\n")
            .starts_with("error: the device is in no group")
    );
    let place = "tenant:tx=1MB".parse().unwrap();
    let group = crate::daemon::groups::form(&[Some(&place)])
        .unwrap()
        .remove(0);
    bench.control = bench.control.with_group(group);
    assert_eq!(
        bench.tell(b"group\n"),
        "tenant rx=off tx=1000000B rx-pps=off tx-pps=off burst=off\nok\n"
    );
    assert_eq!(bench.tell(b"group rx=8Mbit burst=1MB\n"), "ok\n");
    for wrong in ["group tx=x\n", "group tx=0.00000001bit\n", "group rx\n"] {
        assert!(
            bench.tell(wrong.as_bytes()).starts_with("error: "),
            "{wrong}"
        );
    }
    assert_eq!(
        bench.tell(b"group\n"),
        "tenant rx=1000000B tx=1000000B rx-pps=off tx-pps=off burst=1000000\nok\n"
    );
}

#[test]
fn a_line_has_a_largest_length() {
    let mut bench = Bench::new();
    let mut text = vec![b' '; MAX_LINE - 5];
    text.extend(b"help\n");
    assert!(bench.tell(&text).ends_with("ok\n"));
    assert!(
        bench
            .tell(&vec![b'x'; MAX_LINE + 1])
            .starts_with("error: line")
    );
    assert_eq!(bench.control.clients.connected.len(), 0);
}

#[test]
fn lines_may_come_in_pieces() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    for byte in b"limits rx=1MB\n" {
        client.write_all(&[*byte]).unwrap();
        bench.serve_all();
    }
    let mut told = [0; 3];
    client.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"ok\n");
}

#[test]
fn one_client_too_many_takes_the_place_of_the_first() {
    let mut bench = Bench::new();
    let mut clients: Vec<_> = (0..=MAX_CLIENTS)
        .map(|_| {
            let client = bench.connect();
            bench.serve_all();
            client
        })
        .collect();
    assert_eq!(bench.control.clients.connected.len(), MAX_CLIENTS);
    assert_eq!(clients[0].read(&mut [0]).unwrap(), 0);
    assert!(bench.tell(b"limits\n").ends_with("ok\n"));
}

#[test]
fn who_does_not_read_is_not_asked_for_more() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.set_nonblocking(true).unwrap();
    bench.serve_all();
    let mut asked = 0;
    while client.write(b"counters\n").is_ok_and(|count| count == 9) {
        asked += 1;
        bench.serve_all();
    }
    let waiting = &bench.control.clients.connected[0];
    assert!(waiting.inbound.len() <= MAX_LINE && waiting.outbound.len() < 1 << 16);
    // Others are served meanwhile, and the answers come once they are read.
    assert!(bench.tell(b"limits\n").ends_with("ok\n"));
    let mut answered = 0;
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    while answered < asked {
        match reader.read_line(&mut line) {
            Ok(_) => {
                answered += usize::from(line == "ok\n");
                line.clear();
            }
            Err(_) => bench.serve_all(),
        }
    }
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let mut bench = Bench::new();
    for i in 0..1000 {
        let mut client = bench.connect();
        client
            .write_all(&b"counters\nlimits\nhel"[..i % 19])
            .unwrap();
        drop(client);
        bench.serve_all();
    }
    assert_eq!(bench.control.clients.connected.len(), 0);
}

#[test]
fn only_the_user_may_connect_and_the_path_goes_with_the_daemon() {
    let bench = Bench::new();
    let path = bench.directory.path().join("control.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(
        ControlSocket::listen(&path, Limits::default()),
        Err(ListenError::InUse(_))
    ));
    drop(bench.control);
    assert!(!path.exists());
    let long = bench.directory.path().join("x".repeat(108));
    assert!(matches!(
        ControlSocket::listen(&long, Limits::default()),
        Err(ListenError::Listen { .. })
    ));
}

/// Asks a daemon that serves `source`, and then has it end.
fn ask_daemon(source: Source) {
    let bench = Bench::new();
    let mut client = bench.connect();
    let Bench {
        control,
        mut device,
        ..
    } = bench;
    // Dying is how this daemon ends: nobody sends it a signal.
    let lost = sys::event().unwrap();
    std::thread::scope(|scope| {
        let lost = &lost;
        scope.spawn(move || {
            let termination = Termination::new().unwrap();
            let mut server = Server::new(&mut device, &termination, lost);
            server = server.with_control(Some(control));
            assert!(matches!(server.run(source), Err(ServeError::WorkerLost)));
        });
        client.write_all(b"limits tx=1Gbit\nlimits\n").unwrap();
        let mut told = String::new();
        let mut reader = BufReader::new(&client);
        while !told.ends_with("burst=off\nok\n") {
            assert_ne!(reader.read_line(&mut told).unwrap(), 0);
        }
        assert!(told.starts_with("ok\nrx=off tx=125000000B"));
        crate::protocol::interrupts::signal(Some(lost)).unwrap();
    });
}

#[test]
fn a_daemon_listens_to_its_operator_without_a_front_end_and_with_one() {
    let directory = tempfile::tempdir().unwrap();
    ask_daemon(Source::listen(&directory.path().join("net.sock"), &Access::default()).unwrap());
    let (front_end, back_end) = UnixStream::pair().unwrap();
    ask_daemon(Source::Connected(back_end));
    drop(front_end);
}

#[test]
fn json_answers_are_one_line_each() {
    let mut bench = Bench::new();
    let mut tell = |line: &str| {
        let told = bench.tell(format!("json {line}\n").as_bytes());
        assert_eq!(told.lines().count(), 1, "{told}");
        serde_json::from_str::<Value>(&told).unwrap()
    };
    assert_eq!(tell("limits rx=8Mbit"), json!({ "ok": null }));
    let limits = json!({
        "rx": "1000000B", "tx": null, "rx-pps": null, "tx-pps": null, "burst": null,
    });
    assert_eq!(tell("limits"), json!({ "ok": limits }));
    assert_eq!(tell("counters")["ok"]["tx_frames"], 0);
    assert!(
        tell("help")["ok"]
            .as_str()
            .unwrap()
            .contains("json COMMAND")
    );
    for wrong in ["", "\"", "limits rx=x", "group", "json limits"] {
        assert!(tell(wrong)["error"].is_string(), "{wrong}");
    }
}
