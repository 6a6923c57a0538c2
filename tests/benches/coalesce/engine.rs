//! The transmit engine on a real tap: with coalescing, without, and against one `writev` a frame.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use net_device::Layout;
use net_device::net_queue::header::TxRules;
use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{Engine, FrameBackend, Offloads, Stop, TxConfig, TxEngine};
use net_device::rate_limiter::Limiter;
use net_device::tap::Tap;
use net_queue::testing::packets::Packet;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tests::testbed::ip;

use crate::driver::{self, DriverRing, SIZE, WORKER_BUDGET};
use crate::host;
use crate::paired::{self, Paired, timed};
use crate::report::Report;

/// Chains that the driver makes available at once.
const BATCHES: [u16; 4] = [1, 8, 32, 128];
const ROUNDS: usize = 301;
/// Groups of every kind, and what they need.
const GROUPS: Offloads = Offloads::CSUM.union(Offloads::TSO4).union(Offloads::USO4);
/// Address of the tap's interface, and the port at which the host listens, as in [`Packet`].
const ADDRESS: &str = "10.9.1.2";
const PORT: u16 = 5000;
const STATION: &str = "02:00:00:00:01:01";
/// As many bytes as an ordinary process may ask for.
const RECEIVE_BUFFER: usize = 212_992;

/// Frames that the driver sends.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    tcp: bool,
    payload: usize,
    /// Each frame is of another flow.
    scattered: bool,
}

const LOADS: [Load; 6] = [
    Load::of("TCP 1448 B", true, 1448),
    Load::of("UDP 1472 B", false, 1472),
    Load::of("UDP 470 B", false, 470),
    Load::of("UDP 22 B", false, 22),
    Load {
        scattered: true,
        ..Load::of("UDP 1472 B, each of another flow", false, 1472)
    },
    Load {
        scattered: true,
        ..Load::of("UDP 22 B, each of another flow", false, 22)
    },
];

impl Load {
    const fn of(name: &'static str, tcp: bool, payload: usize) -> Self {
        Self {
            name,
            tcp,
            payload,
            scattered: false,
        }
    }

    /// Virtio-net header and frame number `index`.
    fn bytes(self, index: u16) -> Vec<u8> {
        let payload = vec![0x5a; self.payload];
        let first = if self.tcp {
            Packet::tcp(&payload)
        } else {
            Packet::udp(&payload)
        };
        let mut packet = first.after(index.into(), &payload);
        if self.scattered {
            packet.ports.0 += index;
        }
        packet.bytes()
    }

    /// A driver whose buffers hold the frames of the load in order.
    fn driver(self) -> DriverRing {
        let driver = DriverRing::new(Layout::Split, self.bytes(0).len(), false);
        for (index, piece) in (0..SIZE).zip(&driver.pieces) {
            driver.memory.write(piece.addr, &self.bytes(index));
        }
        driver
    }
}

/// An engine, its driver and its backend.
struct Side {
    driver: DriverRing,
    engine: TxEngine<AnyRing>,
    backend: Box<dyn FrameBackend>,
}

impl Side {
    fn new(load: Load, tap: &Tap, coalesce: Offloads) -> Self {
        let driver = load.driver();
        let config = TxConfig {
            coalesce,
            ..TxConfig::new(TxRules::new(driver::offloads()))
        };
        Self {
            engine: TxEngine::new(driver.ring.device(), config, Arc::default()),
            driver,
            backend: driver::backend(tap.try_clone().expect("a descriptor can be duplicated")),
        }
    }

    /// Nanoseconds that a worker has to do with `batch` frames from a kick until it waits again.
    fn send(&mut self, batch: u16) -> u64 {
        self.driver.post(batch);
        let time = timed(|| self.step());
        self.driver.collect(batch);
        time
    }

    fn step(&mut self) {
        let mut limit = Limiter::Unlimited;
        loop {
            self.engine.disable_notification();
            let budget = driver::budget(WORKER_BUDGET);
            let done = self.engine.run(&mut *self.backend, &mut limit, 0, budget);
            match done.stop {
                Stop::Budget => {}
                Stop::Driver if self.engine.enable_notification() => {}
                Stop::Driver => break,
                stop => panic!("the engine stopped: {stop:?}"),
            }
        }
    }
}

/// The other side of a measurement.
enum Rival {
    Off(Box<Side>),
    Bare(Tap, Box<DriverRing>),
}

impl Rival {
    fn send(&mut self, batch: u16) -> u64 {
        match self {
            Self::Off(side) => side.send(batch),
            Self::Bare(tap, driver) => {
                let fd = tap.as_fd().as_raw_fd();
                let buffers: Vec<_> = driver.bare(batch).collect();
                timed(|| {
                    for buffer in buffers {
                        let sent = host::writev(fd, std::slice::from_ref(buffer));
                        assert_eq!(sent, buffer.iov_len as isize, "the kernel takes the frame");
                    }
                })
            }
        }
    }
}

/// The engine with coalescing against a rival, and the socket at which the frames arrive.
struct Contest<'a> {
    on: Side,
    rival: Rival,
    sink: Option<&'a UdpSocket>,
    batch: u16,
}

impl Contest<'_> {
    /// Takes the datagrams off the socket, which must be all.
    fn collect(&self) {
        let Some(sink) = self.sink else { return };
        let mut room = [0; 2048];
        for _ in 0..self.batch {
            sink.recv(&mut room).expect("every datagram arrives");
        }
        let more = sink.recv(&mut room).expect_err("no datagram arrives twice");
        assert_eq!(more.kind(), ErrorKind::WouldBlock);
    }
}

impl Paired for Contest<'_> {
    fn device(&mut self) -> u64 {
        let time = self.on.send(self.batch);
        self.collect();
        time
    }

    fn bare(&mut self) -> u64 {
        let time = self.rival.send(self.batch);
        self.collect();
        time
    }
}

/// Every load and batch, where the host drops the frames and where a socket takes them.
pub(crate) fn run(report: &mut Report) {
    let tap = host::open_taps(1).remove(0);
    for load in LOADS {
        measure(report, load, &tap, None);
    }
    let name = tap.name().expect("an interface has a name");
    ip(&format!("link set {name} address {STATION}"));
    ip(&format!("addr add {ADDRESS}/16 dev {name}"));
    let sink = UdpSocket::bind((ADDRESS, PORT)).expect("the address is the tap's");
    sink.set_nonblocking(true).expect("a socket need not wait");
    set_socket_recv_buffer_size(&sink, RECEIVE_BUFFER).expect("an ordinary size");
    for load in LOADS.into_iter().filter(|load| !load.tcp) {
        measure(report, load, &tap, Some(&sink));
    }
}

fn measure(report: &mut Report, load: Load, tap: &Tap, sink: Option<&UdpSocket>) {
    let place = if sink.is_some() {
        "to a socket"
    } else {
        "dropped"
    };
    for batch in BATCHES {
        let contest = |rival| {
            let on = Side::new(load, tap, GROUPS);
            let mut contest = Contest {
                on,
                rival,
                sink,
                batch,
            };
            paired::hold(&mut contest, batch, ROUNDS)
        };
        let off = contest(Rival::Off(Box::new(Side::new(
            load,
            tap,
            Offloads::empty(),
        ))));
        let own = tap.try_clone().expect("a descriptor can be duplicated");
        let bare = contest(Rival::Bare(own, Box::new(load.driver())));
        let what = format!("engine, {}, {place}, batch {batch}", load.name);
        report.add_engine(&what, &off, &bare);
    }
}
