//! Cost of engines and rings by themselves: a backend that does nothing, time measured without the
//! driver's part.

use std::hint::black_box;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use net_queue::hash::{FrameHasher, HashTypes};
use net_queue::header::{HDR_LEN, HdrSize, NetHdr, RawHdr, TxRules};
use net_queue::ring::{AnyRing, Layout, RingConfig, UsedJournal};
use net_queue::testing::packets::{Packet, Sums};
use net_queue::testing::{GuestRing, LAYOUTS, NullBackend, Piece, TestMemory};
use net_queue::{
    Budget, Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, RxConfig, RxEngine,
    Scatter, SendError, SharedBytes, TxConfig, TxEngine, Unlimited,
};
use vm_memory::MmapRegion;

const SIZE: u16 = 256;
const BATCHES: [u16; 3] = [1, 32, 256];
const BUDGET: Budget = Budget {
    frames: SIZE as u32,
    bytes: u64::MAX,
};

/// A driver with one buffer per descriptor.
struct Driver {
    ring: GuestRing,
    buffers: Vec<Piece>,
    next: usize,
}

impl Driver {
    fn new(layout: Layout, len: usize, writable: bool) -> Self {
        let memory = TestMemory::new();
        let config = RingConfig {
            layout,
            size: SIZE,
            event_idx: true,
            ..RingConfig::default()
        };
        let ring = GuestRing::new(&memory, config);
        let buffer = |_| Piece {
            addr: memory.alloc(len, 64),
            len: len as u32,
            writable,
        };
        Self {
            ring,
            buffers: (0..SIZE).map(buffer).collect(),
            next: 0,
        }
    }

    /// Makes `batch` chains available, times `work` on them, and takes them back.
    fn round(&mut self, batch: u16, work: impl FnOnce()) -> Duration {
        for _ in 0..batch {
            self.ring.add(&[self.buffers[self.next]]);
            self.next = (self.next + 1) % self.buffers.len();
        }
        self.ring.publish();
        let start = Instant::now();
        work();
        let time = start.elapsed();
        let used = std::iter::from_fn(|| self.ring.poll()).count();
        assert_eq!(used, usize::from(batch), "every chain is used");
        time
    }
}

fn tx(criterion: &mut Criterion) {
    transmit(criterion, "tx", |ring| ring);
}

/// The same with positions that outlive the process.
fn tx_journal(criterion: &mut Criterion) {
    transmit(criterion, "tx-journal", |ring| {
        let memory = MmapRegion::<()>::new(1 << 16).expect("memory can be mapped");
        ring.with_journal(UsedJournal::new(SharedBytes::new(Arc::new(memory))))
    });
}

fn transmit(criterion: &mut Criterion, name: &str, prepare: impl Fn(AnyRing) -> AnyRing) {
    let mut group = criterion.benchmark_group(name);
    for (layout, frame, batch) in cases() {
        let mut driver = Driver::new(layout, HDR_LEN + frame, false);
        let ring = prepare(driver.ring.device());
        let rules = TxRules::new(Offloads::CSUM);
        let mut engine = TxEngine::new(ring, TxConfig::new(rules), Arc::default());
        let id = BenchmarkId::new(format!("{layout:?}/{frame}"), batch);
        group.throughput(Throughput::Elements(batch.into()));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut work = || {
                    let done = engine.run(&mut NullBackend(frame), &mut Unlimited, 0, BUDGET);
                    black_box(done.interrupt);
                };
                (0..rounds).map(|_| driver.round(batch, &mut work)).sum()
            });
        });
    }
}

/// Frames of one flow that leave as one: what a frame costs without the call that is spared.
fn groups(criterion: &mut Criterion) {
    let on = Offloads::CSUM | Offloads::TSO4 | Offloads::USO4;
    let mut group = criterion.benchmark_group("groups");
    for (name, tcp, payload) in [
        ("TCP", true, 1448),
        ("UDP", false, 1472),
        ("UDP", false, 22),
    ] {
        let payload = vec![0x5a; payload];
        let first = if tcp {
            Packet::tcp(&payload)
        } else {
            Packet::udp(&payload)
        };
        let len = first.bytes().len();
        let mut driver = Driver::new(Layout::Split, len, false);
        for (index, buffer) in driver.buffers.iter().enumerate() {
            let frame = first.after(index, &payload).bytes();
            driver.ring.memory().write(buffer.addr, &frame);
        }
        let terms = TxConfig {
            coalesce: on,
            ..TxConfig::new(TxRules::new(on))
        };
        let mut engine = TxEngine::new(driver.ring.device(), terms, Arc::default());
        for batch in [8, 32] {
            let id = BenchmarkId::new(format!("{name}/{}", payload.len()), batch);
            group.throughput(Throughput::Elements(batch.into()));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut work = || {
                        let done = engine.run(&mut NullBackend(0), &mut Unlimited, 0, BUDGET);
                        black_box(done.interrupt);
                    };
                    (0..rounds).map(|_| driver.round(batch, &mut work)).sum()
                });
            });
        }
    }
}

fn rx(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rx");
    for (layout, frame, batch) in cases() {
        let mut driver = Driver::new(layout, 1536, true);
        let ring: AnyRing = driver.ring.device();
        let config = RxConfig {
            size: HdrSize::Base,
            offloads: Offloads::empty(),
            merge: true,
            mtu: Some(1500),
            link_mtu: Some(1500),
        };
        let mut engine = RxEngine::new(ring, SIZE, config, Arc::default());
        let id = BenchmarkId::new(format!("{layout:?}/{frame}"), batch);
        group.throughput(Throughput::Elements(batch.into()));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut work = || {
                    let done = engine.run(&mut NullBackend(frame), &mut Unlimited, None, 0, BUDGET);
                    black_box(done.interrupt);
                };
                (0..rounds).map(|_| driver.round(batch, &mut work)).sum()
            });
        });
    }
}

/// Layouts, frame lengths, batches.
fn cases() -> impl Iterator<Item = (Layout, usize, u16)> {
    let frames = [64, 1514];
    let sizes = move |layout| frames.map(|frame| BATCHES.map(|batch| (layout, frame, batch)));
    LAYOUTS.into_iter().flat_map(sizes).flatten()
}

fn header(criterion: &mut Criterion) {
    let rules = TxRules::new(Offloads::CSUM | Offloads::TSO4);
    let plain = RawHdr::from([0; HDR_LEN]);
    let gso = RawHdr::from([1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    let mut group = criterion.benchmark_group("header");
    for (name, raw, len) in [("plain", plain, 64), ("gso", gso, 65_174)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| NetHdr::check_tx(black_box(&raw), black_box(len), black_box(rules)));
        });
    }
}

/// A backend with one packet, again and again.
struct Packets(Vec<u8>);

impl FrameBackend for Packets {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, _frame: &Gather<'_>) -> Result<(), SendError> {
        Ok(())
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        Ok(room.write_at(0, &self.0)?)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        unreachable!("nothing waits for it")
    }
}

/// A TCP packet behind a header with room for a hash.
fn hashed_packet(v6: bool) -> Vec<u8> {
    let packet = Packet {
        v6,
        sums: Sums::Complete,
        ..Packet::tcp(&[0; 64])
    };
    let mut bytes = packet.bytes();
    bytes.splice(HDR_LEN..HDR_LEN, [0; 8]);
    bytes
}

/// A longer header without a hash, and with one.
fn hash(criterion: &mut Criterion) {
    let hasher = Arc::new(FrameHasher::new(HashTypes::all(), &[0x6d; 40]));
    let mut group = criterion.benchmark_group("hash");
    for (family, v6) in [("v4", false), ("v6", true)] {
        let mut backend = Packets(hashed_packet(v6));
        let frame = backend.0[HdrSize::HashReport.bytes()..].to_vec();
        group.bench_function(BenchmarkId::new("alone", family), |bencher| {
            bencher.iter(|| hasher.hash(black_box(&frame)));
        });
        for (name, hasher) in [("rx_none", None), ("rx_report", Some(&hasher))] {
            let mut driver = Driver::new(Layout::Split, 1536, true);
            let ring: AnyRing = driver.ring.device();
            let config = RxConfig {
                size: HdrSize::HashReport,
                offloads: Offloads::empty(),
                merge: true,
                mtu: Some(1500),
                link_mtu: Some(1500),
            };
            let mut engine = RxEngine::new(ring, SIZE, config, Arc::default());
            engine.set_hasher(hasher.cloned());
            group.throughput(Throughput::Elements(32));
            group.bench_function(BenchmarkId::new(name, family), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut work = || {
                        let done = engine.run(&mut backend, &mut Unlimited, None, 0, BUDGET);
                        black_box(done.interrupt);
                    };
                    (0..rounds).map(|_| driver.round(32, &mut work)).sum()
                });
            });
        }
    }
}

criterion_group!(benches, tx, tx_journal, groups, rx, header, hash);
criterion_main!(benches);
