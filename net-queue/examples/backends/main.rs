//! Two backends in safe code, each behind a transmit and a receive queue: datagrams of a socket,
//! and a loopback.
#![forbid(unsafe_code)]

mod datagram;
mod loopback;

use std::os::unix::net::UnixDatagram;

use net_queue::header::{HDR_LEN, HdrSize, TxRules};
use net_queue::ring::{AnyRing, RingConfig};
use net_queue::testing::{GuestRing, TestMemory};
use net_queue::{
    Budget, FrameBackend, Offloads, RxConfig, RxEngine, TxConfig, TxEngine, Unlimited,
};

use datagram::Datagrams;
use loopback::Loopback;

const BUDGET: Budget = Budget {
    frames: 64,
    bytes: 1 << 20,
};

/// A driver's two queues and the engines that serve them.
struct Queues {
    memory: TestMemory,
    tx_ring: GuestRing,
    rx_ring: GuestRing,
    tx: TxEngine<AnyRing>,
    rx: RxEngine<AnyRing>,
}

impl Queues {
    fn new() -> Self {
        let memory = TestMemory::new();
        let ring = RingConfig {
            size: 16,
            ..RingConfig::default()
        };
        let (tx_ring, rx_ring) = (GuestRing::new(&memory, ring), GuestRing::new(&memory, ring));
        let rx_config = RxConfig {
            size: HdrSize::Base,
            offloads: Offloads::empty(),
            merge: true,
            mtu: None,
            link_mtu: None,
        };
        let rules = TxRules::default();
        let tx = TxEngine::new(tx_ring.device(), TxConfig::new(rules), Default::default());
        let rx = RxEngine::new(rx_ring.device(), ring.size, rx_config, Default::default());
        Self {
            memory,
            tx_ring,
            rx_ring,
            tx,
            rx,
        }
    }

    /// The driver sends `frame`, and the device does its work.
    fn send(&mut self, backend: &mut dyn FrameBackend, frame: &[u8]) {
        let bytes = [&[0; HDR_LEN], frame].concat();
        self.tx_ring.add(&self.memory.cut(&bytes, &[HDR_LEN]));
        self.tx_ring.publish();
        let done = self.tx.run(backend, &mut Unlimited, 0, BUDGET);
        assert_eq!(done.frames, 1, "{:?}", done.stop);
    }

    /// The driver posts buffers of 1000 bytes; returns the frame that the device puts into them.
    fn receive(&mut self, backend: &mut dyn FrameBackend) -> Vec<u8> {
        for _ in 0..4 {
            self.rx_ring.add(&[self.memory.room(1000)]);
        }
        self.rx_ring.publish();
        let done = self.rx.run(backend, &mut Unlimited, None, 0, BUDGET);
        assert_eq!(done.frames, 1, "{:?}", done.stop);
        let used = self.rx_ring.poll_all();
        let bytes = used.iter().flat_map(|used| self.rx_ring.bytes(used));
        bytes.skip(HDR_LEN).collect()
    }
}

pub(crate) fn main() {
    let frame: Vec<u8> = (0..6000).map(|n| (n % 251) as u8).collect();

    let mut queues = Queues::new();
    let (near, far) = UnixDatagram::pair().expect("sockets can be made");
    let mut datagrams = Datagrams::new(near).expect("a socket can be made nonblocking");
    queues.send(&mut datagrams, &frame[..2000]);
    let mut bytes = vec![0; 4096];
    let len = far.recv(&mut bytes).expect("a datagram is there");
    assert_eq!(bytes[HDR_LEN..len], frame[..2000]);
    far.send(&bytes[..len]).expect("there is space for it");
    assert_eq!(queues.receive(&mut datagrams), frame[..2000]);
    println!("datagrams: {} bytes went out and came back", len - HDR_LEN);

    let mut queues = Queues::new();
    let mut loopback = Loopback::new().expect("a doorbell can be made");
    for len in [60, 1514, 3000] {
        queues.send(&mut loopback, &frame[..len]);
        assert_eq!(queues.receive(&mut loopback), frame[..len]);
        println!("loopback: {len} bytes went out and came back");
    }
}
