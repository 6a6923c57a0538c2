//! Receive: a device that hashes against the same one without, both on taps, system calls included.
//!
//! "report" puts hashes into headers; "table" looks each frame up in a table of the driver's that
//! names the queue by which it came, as with a kernel that steers; "both" is what a Linux driver
//! asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net_device::Layout;
use net_device::net_queue::hash::{FrameHash, FrameHasher, HashTypes};
use net_device::net_queue::header::HdrSize;
use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{
    Destination, Engine, FrameBackend, FrameSteering, QueueCounters, RxConfig, RxEngine, Stop,
};
use net_device::rate_limiter::Limiter;
use net_queue::testing::LAYOUTS;
use net_queue::testing::packets::{Packet, Sums};

use crate::driver::{self, DriverRing, SIZE};
use crate::host::{self, PacketSocket};
use crate::paired::{self, Paired, timed};
use crate::report::layout_name;

const BATCH: u16 = 32;
const ROUNDS: usize = 301;
/// Bytes of each buffer.
const ROOM: usize = 1536;

/// A table that names one queue alone, and a note of frames from others, of which there are none.
struct OwnQueue {
    table: [u16; 128],
    arrived: AtomicU64,
}

impl FrameSteering for OwnQueue {
    #[inline]
    fn destination(&self, hash: FrameHash) -> Destination {
        let entry = hash.value().unwrap_or_default() as usize % self.table.len();
        match self.table[entry] {
            0 => Destination::Here,
            other => Destination::Queue(other),
        }
    }

    fn pass(&mut self, _: Destination, _: &[u8]) -> bool {
        false
    }

    fn take(&mut self, _: &mut [u8]) -> Option<usize> {
        assert_eq!(self.arrived.load(Ordering::Acquire), 0);
        None
    }
}

/// Work on received frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hashing {
    Off,
    Report,
    Table,
    Both,
}

struct Side {
    driver: DriverRing,
    engine: RxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    backend: Box<dyn FrameBackend>,
    steering: Option<OwnQueue>,
    sender: PacketSocket,
    frame: Vec<u8>,
}

impl Side {
    fn new(hashing: Hashing, layout: Layout, frame: &[u8]) -> Self {
        let mut driver = DriverRing::new(layout, ROOM, true);
        let tap = host::open_taps(1).remove(0);
        let sender = PacketSocket::open(&tap, 0).expect("a packet socket can be opened");
        let counters = Arc::<QueueCounters>::default();
        let size = match hashing {
            Hashing::Report | Hashing::Both => HdrSize::HashReport,
            Hashing::Table | Hashing::Off => HdrSize::Base,
        };
        let config = RxConfig {
            size,
            offloads: driver::offloads(),
            merge: true,
            mtu: Some(1500),
            link_mtu: Some(1500),
        };
        let ram = driver.memory.ram();
        let ring = AnyRing::new(&ram, &driver.ring.config()).expect("the ring is mapped");
        let mut engine = RxEngine::new(ring, SIZE, config, counters.clone());
        let hasher = Arc::new(FrameHasher::new(HashTypes::all(), &[0x6d; 40]));
        engine.set_hasher((hashing != Hashing::Off).then_some(hasher));
        driver.post(SIZE);
        let steers = matches!(hashing, Hashing::Table | Hashing::Both);
        Self {
            driver,
            engine,
            counters,
            backend: driver::backend_with(tap, size.bytes()),
            steering: steers.then(|| OwnQueue {
                table: [0; 128],
                arrived: AtomicU64::new(0),
            }),
            sender,
            frame: frame.to_vec(),
        }
    }

    /// Work of a worker when the tap became readable.
    fn step(&mut self) {
        let mut limit = Limiter::Unlimited;
        let end = self.counters.frames() + u64::from(BATCH);
        while self.counters.frames() < end {
            let budget = driver::budget((end - self.counters.frames()) as u32);
            let (engine, backend) = (&mut self.engine, &mut *self.backend);
            engine.disable_notification();
            let done = match &mut self.steering {
                Some(steering) => {
                    engine.run_steered(backend, &mut limit, None, steering, 0, budget)
                }
                None => engine.run(backend, &mut limit, None, 0, budget),
            };
            assert!(matches!(done.stop, Stop::Budget), "{:?}", done.stop);
        }
    }

    fn turn(&mut self) -> u64 {
        for _ in 0..BATCH {
            self.sender.send(&self.frame);
        }
        let time = timed(|| self.step());
        self.driver.collect(BATCH);
        self.driver.post(BATCH);
        time
    }
}

/// With and without.
struct RxHash {
    with: Side,
    without: Side,
}

impl Paired for RxHash {
    fn device(&mut self) -> u64 {
        self.with.turn()
    }

    fn bare(&mut self) -> u64 {
        self.without.turn()
    }
}

/// Header and frame of a TCP packet with so many bytes of payload.
fn packet(v6: bool, payload: usize) -> Vec<u8> {
    let packet = Packet {
        v6,
        sums: Sums::Complete,
        ..Packet::tcp(&vec![0; payload])
    };
    packet.bytes()
}

/// Each kind of hashing, for short frames and for long ones, and hashing off on both sides, which
/// shows the noise.
pub(crate) fn run() {
    println!("\nreceive with hashes against the same without, batches of {BATCH}");
    println!(
        "{:<6} {:<4} {:>7} {:<6} {:>8} {:>10} {:>7}   quartiles",
        "hash", "ip", "payload", "ring", "ns with", "ns without", "ratio"
    );
    for hashing in [Hashing::Off, Hashing::Report, Hashing::Table, Hashing::Both] {
        for (v6, payload) in [(false, 10), (true, 10), (false, 1400), (true, 1400)] {
            for layout in LAYOUTS {
                let frame = packet(v6, payload);
                let mut sides = RxHash {
                    with: Side::new(hashing, layout, &frame),
                    without: Side::new(Hashing::Off, layout, &frame),
                };
                let score = paired::hold(&mut sides, BATCH, ROUNDS);
                let [low, ratio, high] = score.ratio;
                println!(
                    "{:<6} {:<4} {payload:>7} {:<6} {:>8.1} {:>10.1} {ratio:>7.3}   {low:.3}-{high:.3}",
                    format!("{hashing:?}").to_lowercase(),
                    if v6 { "v6" } else { "v4" },
                    layout_name(layout),
                    score.device,
                    score.bare,
                );
            }
        }
    }
}
