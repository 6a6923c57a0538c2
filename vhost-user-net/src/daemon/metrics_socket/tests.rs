//! Scrapers that are right, slow, hostile or gone.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use net_device::{NetConfig, NetDevice, Port, PortControl};
use net_queue::testing::Wire;
use tempfile::TempDir;

use super::*;
use crate::daemon::clients::MAX_CLIENTS;
use crate::sys;

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: net_device::net_queue::Offloads) -> io::Result<()> {
        Ok(())
    }
}

fn reported(pairs: u16) -> Reported {
    let port = || Port::new(Box::new(Wire::new().0), Box::new(NoControl));
    let config = NetConfig::builder().queue_pairs(pairs).build().unwrap();
    let ports = (0..pairs).map(|_| port()).collect();
    Reported {
        name: "a".into(),
        device: NetDevice::from_ports(config, ports).unwrap().handle(),
        front_ends: Arc::default(),
    }
}

/// An endpoint, and nobody who waits but the test.
struct Bench {
    endpoint: MetricsSocket,
    directory: TempDir,
}

impl Bench {
    fn new(pairs: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = MetricsAddress::Unix(directory.path().join("metrics.sock"));
        let endpoint = MetricsSocket::listen(&address).unwrap();
        Self {
            endpoint: endpoint.reporting(vec![reported(pairs)]),
            directory,
        }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("metrics.sock")).unwrap()
    }

    /// Serves until nothing is ready any more.
    fn serve_all(&mut self) {
        loop {
            let wanted: Vec<_> = self.endpoint.wanted().collect();
            if !sys::wait(&wanted, Some(0)).unwrap().contains(&true) {
                return;
            }
            self.endpoint.serve();
        }
    }

    fn ask(&mut self, request: &[u8]) -> String {
        let mut client = self.connect();
        client.write_all(request).unwrap();
        self.serve_all();
        // What was not read of a request that is too long makes it a reset.
        let mut told = Vec::new();
        let _ = client.read_to_end(&mut told);
        String::from_utf8(told).unwrap()
    }
}

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Body of an answer whose head tells its length.
fn body(told: &str) -> &str {
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    assert!(head.contains("\r\nConnection: close"), "{head}");
    body
}

#[test]
fn who_asks_for_metrics_gets_them_and_nobody_else() {
    let mut bench = Bench::new(1);
    let told = bench.ask(GET);
    assert!(told.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
    let expected = "\nvhost_user_net_frames_total{device=\"a\",direction=\"rx\",queue=\"0\"} 0\n";
    assert!(body(&told).contains(expected));
    assert!(
        bench
            .ask(b"GET /metrics?x=y HTTP/1.0\r\n\r\n")
            .contains(" 200 ")
    );
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", "505"),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", "400"),
        (b"\xff\r\n\r\n", "400"),
    ] {
        let told = bench.ask(request);
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        assert!(!body(&told).contains("frames_total"));
    }
    let told = bench.ask(b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(told.contains(" 200 ") && told.ends_with("\r\n\r\n"));
    assert!(bench.endpoint.clients.connected.is_empty());
}

#[test]
fn a_request_may_come_in_pieces_and_has_a_largest_size() {
    let mut bench = Bench::new(1);
    let mut client = bench.connect();
    for byte in GET {
        client.write_all(&[*byte]).unwrap();
        bench.serve_all();
    }
    let mut told = String::new();
    client.read_to_string(&mut told).unwrap();
    assert!(told.contains(" 200 OK"));
    let told = bench.ask(&vec![b'x'; MAX_REQUEST + 1]);
    assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
}

#[test]
fn a_connection_has_a_longest_life() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.endpoint.timeout_ms(), None);
    let mut silent = bench.connect();
    bench.serve_all();
    let left = bench.endpoint.timeout_ms().unwrap();
    assert!(left > 0 && u128::from(left) <= TIME_LIMIT.as_millis() + 1);
    bench.endpoint.clients.connected[0].deadline = Instant::now();
    assert_eq!(bench.endpoint.timeout_ms(), Some(1));
    bench.endpoint.serve();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert_eq!(bench.endpoint.timeout_ms(), None);
}

#[test]
fn one_client_too_many_takes_the_place_of_the_first() {
    let mut bench = Bench::new(1);
    let mut clients: Vec<_> = (0..=MAX_CLIENTS)
        .map(|_| {
            let client = bench.connect();
            bench.serve_all();
            client
        })
        .collect();
    assert_eq!(bench.endpoint.clients.connected.len(), MAX_CLIENTS);
    assert_eq!(clients[0].read(&mut [0]).unwrap(), 0);
    assert!(bench.ask(GET).contains(" 200 OK"));
}

#[test]
fn who_does_not_read_keeps_a_page_that_others_share() {
    let mut bench = Bench::new(64);
    let mut clients: Vec<_> = (0..2).map(|_| bench.connect()).collect();
    for client in &mut clients {
        client.write_all(GET).unwrap();
    }
    let begin = Instant::now();
    bench.serve_all();
    // Later than that the second has a page of its own.
    let young = begin.elapsed() < PAGE_AGE;
    let pages = bench.endpoint.clients.connected.iter();
    let pages: Vec<_> = pages.map(|it| &it.answer.as_ref().unwrap().body).collect();
    assert_eq!(pages.len(), 2, "more than a socket takes at once");
    assert!(Arc::ptr_eq(pages[0], pages[1]) || !young);
    for mut client in clients {
        client.set_nonblocking(true).unwrap();
        let mut told = Vec::new();
        loop {
            match client.read_to_end(&mut told) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            bench.serve_all();
        }
        assert!(body(str::from_utf8(&told).unwrap()).ends_with('\n'));
    }
    assert!(bench.endpoint.clients.connected.is_empty() && bench.endpoint.last.is_none());
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let mut bench = Bench::new(1);
    for i in 0..1000 {
        let mut client = bench.connect();
        client.write_all(&GET[..i % (GET.len() + 1)]).unwrap();
        if i % 2 == 0 {
            client.shutdown(Shutdown::Write).unwrap();
        }
        drop(client);
        bench.serve_all();
    }
    assert!(bench.endpoint.clients.connected.is_empty());
}

#[test]
fn an_address_is_listened_at_and_its_port_told() {
    let mut endpoint = MetricsSocket::listen(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let MetricsAddress::Tcp(address) = *endpoint.address() else {
        panic!("{:?}", endpoint.address());
    };
    let taken = MetricsSocket::listen(&MetricsAddress::Tcp(address));
    assert!(matches!(taken, Err(MetricsError::Address { .. })));
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(GET).unwrap();
    let mut told = String::new();
    // The network has its own time.
    while !endpoint.clients.connected.is_empty() || told.is_empty() {
        let wanted: Vec<_> = endpoint.wanted().collect();
        sys::wait(&wanted, None).unwrap();
        endpoint.serve();
        if endpoint.clients.connected.is_empty() {
            client.read_to_string(&mut told).unwrap();
        }
    }
    assert!(told.contains(" 200 OK"));
}

#[test]
fn addresses_are_paths_or_have_a_port() {
    let address = |text: &str| text.parse::<MetricsAddress>();
    assert_eq!(address("unix:a b"), Ok(MetricsAddress::Unix("a b".into())));
    assert_eq!(
        address("[::1]:9101").unwrap().to_string(),
        "http://[::1]:9101/metrics"
    );
    for wrong in ["", "9101", ":9101", "localhost:9101", "127.0.0.1", "/run/m"] {
        let error = address(wrong).unwrap_err();
        assert!(error.contains("127.0.0.1:9101"), "{error}");
    }
}
