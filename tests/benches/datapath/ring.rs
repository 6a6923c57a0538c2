//! The engines alone, over a backend that does nothing, beside the same work done through the
//! `virtio-queue` crate.

use std::hint::black_box;
use std::sync::Arc;

use net_device::Layout;
use net_device::net_queue::header::{HDR_LEN, NetHdr, RawHdr, RxRules, TxRules};
use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{Budget, DirtySwitch, GuestRam, Stop, TxConfig, TxEngine, Unlimited};
use net_queue::testing::{LAYOUTS, NullBackend};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::driver::{self, DriverRing, SIZE};
use crate::host;
use crate::paired::timed;
use crate::report::layout_name;

const FRAME: usize = 64;
/// A full frame, whose buffers make the dirty marks that count.
const LONG: usize = 1514;
const ROUNDS: usize = 200;
const TURNS: usize = 15;

const WHOLE_RING: Budget = Budget {
    frames: SIZE as u32,
    bytes: u64::MAX,
};

/// The bitmaps of the memory.
#[derive(Clone, Copy)]
enum Marks {
    /// There are none.
    None,
    /// Nobody wants to know of writes.
    Off,
    /// Every write is marked.
    On,
}

impl Marks {
    const ALL: [Self; 3] = [Self::None, Self::Off, Self::On];

    fn view(self, driver: &DriverRing) -> GuestRam {
        if matches!(self, Self::None) {
            return driver.memory.ram();
        }
        let switch = DirtySwitch::default();
        switch.set(matches!(self, Self::On));
        driver.memory.tracked_ram().with_dirty_switch(switch)
    }
}

fn tx(layout: Layout, marks: Marks) -> f64 {
    let mut driver = DriverRing::new(layout, HDR_LEN + FRAME, false);
    let rules = TxRules::new(driver::offloads());
    let ring =
        AnyRing::new(&marks.view(&driver), &driver.ring.config()).expect("the ring is mapped");
    let mut engine: TxEngine<AnyRing> = TxEngine::new(ring, TxConfig::new(rules), Arc::default());
    per_frame(|| {
        driver.post(SIZE);
        let time = timed(|| {
            let done = engine.run(&mut NullBackend(FRAME), &mut Unlimited, 0, WHOLE_RING);
            assert!(matches!(done.stop, Stop::Budget | Stop::Driver));
        });
        driver.collect(SIZE);
        time
    })
}

fn rx(layout: Layout, len: usize, marks: Marks) -> f64 {
    let mut driver = DriverRing::new(layout, 1536, true);
    let mut engine = driver.receiver_in(marks.view(&driver), Arc::default());
    per_frame(|| {
        driver.post(SIZE);
        let time = timed(|| {
            black_box(
                engine
                    .run(&mut NullBackend(len), &mut Unlimited, None, 0, WHOLE_RING)
                    .interrupt,
            );
        });
        driver.collect(SIZE);
        time
    })
}

/// The queue as `virtio-queue` has it, over the ring of `driver`.
fn queue(driver: &DriverRing) -> Queue {
    let addrs = driver.ring.config().addrs;
    let mut queue = Queue::new(SIZE).expect("a queue of this size can be");
    queue.set_size(SIZE);
    queue
        .try_set_desc_table_address(GuestAddress(addrs.desc))
        .expect("it is aligned");
    queue
        .try_set_avail_ring_address(GuestAddress(addrs.driver))
        .expect("it is aligned");
    queue
        .try_set_used_ring_address(GuestAddress(addrs.device))
        .expect("it is aligned");
    queue.set_event_idx(true);
    queue.set_ready(true);
    queue
}

/// Walks each chain, checks a copy of its header, finds the host addresses of its buffers, gives it
/// back.
fn tx_by_crate() -> f64 {
    let mut driver = DriverRing::new(Layout::Split, HDR_LEN + FRAME, false);
    let memory = &host::untracked(&driver.memory);
    let mut queue = queue(&driver);
    let rules = TxRules::new(driver::offloads());
    let mut pieces = Vec::with_capacity(usize::from(SIZE));
    per_frame(|| {
        driver.post(SIZE);
        let time = timed(|| {
            while let Some(chain) = queue.pop_descriptor_chain(memory) {
                let head = chain.head_index();
                let mut header = [0; HDR_LEN];
                pieces.clear();
                for desc in chain {
                    if pieces.is_empty() {
                        memory
                            .read_slice(&mut header, desc.addr())
                            .expect("it is guest memory");
                    }
                    let slice = memory
                        .get_slice(desc.addr(), desc.len() as usize)
                        .expect("it is guest memory");
                    pieces.push(host::iovec(slice.ptr_guard_mut().as_ptr(), slice.len()));
                }
                black_box(NetHdr::check_tx(&RawHdr::from(header), FRAME as u32, rules).is_ok());
                black_box(&pieces);
                queue.add_used(memory, head, 0).expect("the ring is there");
            }
            black_box(queue.needs_notification(memory).expect("the ring is there"));
        });
        driver.collect(SIZE);
        time
    })
}

/// Walks each chain, finds the host addresses of its buffers, writes a checked header, gives it
/// back.
fn rx_by_crate() -> f64 {
    let mut driver = DriverRing::new(Layout::Split, 1536, true);
    let memory = &host::untracked(&driver.memory);
    let mut queue = queue(&driver);
    let rules = RxRules::new(driver::offloads());
    let mut pieces = Vec::with_capacity(usize::from(SIZE));
    per_frame(|| {
        driver.post(SIZE);
        let time = timed(|| {
            while let Some(chain) = queue.pop_descriptor_chain(memory) {
                let head = chain.head_index();
                pieces.clear();
                let mut first = None;
                for desc in chain {
                    let slice = memory
                        .get_slice(desc.addr(), desc.len() as usize)
                        .expect("it is guest memory");
                    pieces.push(host::iovec(slice.ptr_guard_mut().as_ptr(), slice.len()));
                    first.get_or_insert(desc.addr());
                }
                black_box(&pieces);
                let mut header = [0; HDR_LEN];
                let at = first.expect("a chain has a buffer");
                memory
                    .read_slice(&mut header, at)
                    .expect("it is guest memory");
                let checked = NetHdr::check_rx(&RawHdr::from(header), FRAME as u32, rules)
                    .expect("it is empty");
                memory
                    .write_slice(&checked.to_bytes(), at)
                    .expect("it is guest memory");
                queue
                    .add_used(memory, head, (HDR_LEN + FRAME) as u32)
                    .expect("the ring is there");
            }
            black_box(queue.needs_notification(memory).expect("the ring is there"));
        });
        driver.collect(SIZE);
        time
    })
}

/// All of them, in turn and again: what counts is the fastest round of each, which no neighbour
/// disturbed.
pub(crate) fn run() {
    println!("\nring work alone, ns a frame (batches of {SIZE})");
    let mut figures = [f64::INFINITY; 6];
    for _ in 0..TURNS {
        for (at, layout) in LAYOUTS.into_iter().enumerate() {
            figures[at] = tx(layout, Marks::None).min(figures[at]);
            figures[2 + at] = rx(layout, FRAME, Marks::None).min(figures[2 + at]);
        }
        figures[4] = tx_by_crate().min(figures[4]);
        figures[5] = rx_by_crate().min(figures[5]);
    }
    let [tx_split, tx_packed, rx_split, rx_packed, tx_crate, rx_crate] = figures;
    for (dir, split, packed, by_crate) in [
        ("TX", tx_split, tx_packed, tx_crate),
        ("RX", rx_split, rx_packed, rx_crate),
    ] {
        println!(
            "{dir}  {} {split:6.1}   {} {packed:6.1}   virtio-queue (split) {by_crate:6.1}   share {:.3} {:.3}",
            layout_name(Layout::Split),
            layout_name(Layout::Packed),
            split / by_crate,
            packed / by_crate
        );
    }
    dirty_marks();
}

/// The same work over memory with vm-memory's bitmaps, whether or not somebody wants to know of
/// writes.
fn dirty_marks() {
    type Row = (&'static str, usize, fn(Layout, Marks) -> f64);
    let rows: [Row; 3] = [
        ("TX", FRAME, tx),
        ("RX", FRAME, |layout, marks| rx(layout, FRAME, marks)),
        ("RX", LONG, |layout, marks| rx(layout, LONG, marks)),
    ];
    println!("\nthe same over bitmaps, ns a frame, and share of the row without bitmaps");
    for (dir, len, measure) in rows {
        for layout in LAYOUTS {
            let mut figures = [f64::INFINITY; 3];
            for _ in 0..TURNS {
                for (figure, marks) in figures.iter_mut().zip(Marks::ALL) {
                    *figure = measure(layout, marks).min(*figure);
                }
            }
            let [none, off, on] = figures;
            println!(
                "{dir} {len:4} B  {:6}  none {none:6.1}   off {off:6.1} {:.3}   on {on:6.1} {:.3}",
                layout_name(layout),
                off / none,
                on / none
            );
        }
    }
}

/// Nanoseconds per frame of the fastest round.
fn per_frame(mut round: impl FnMut() -> u64) -> f64 {
    let fastest = (0..ROUNDS).map(|_| round()).min();
    fastest.map_or(f64::NAN, |time| time as f64 / f64::from(SIZE))
}
