//! Rings and a driver in two threads over one memory: no kick and no interrupt is ever lost.
//!
//! Both sides stop looking at the ring only after the four steps of VirtIO 1.4 §2.7.7, §2.7.10 and
//! §2.8.10 (VQ-NTF-06, VQ-SPL-21), which run towards each other:
//!
//! ```text
//!     who sleeps:  say "wake me"  |  fence  |  look at the ring once more  |  sleep
//!     who works:   put it there   |  fence  |  look for "wake me"          |  wake
//! ```
//!
//! Two threads run [`SplitRing`](crate::ring::SplitRing) and
//! [`PackedRing`](crate::ring::PackedRing) as they are, and a [`Driver`]. `shuttle` chooses whose
//! turn it is at each access to a ring word, and [`weak_memory`](crate::testing::weak_memory) which
//! of the values that a CPU might show it gets; so a step that is missing, in the wrong place or
//! without its fence shows as two threads that sleep for good, which `shuttle` reports. What moves
//! with the ring words (addresses, lengths, ids) is checked too, so that a release or an acquire
//! that is missing shows as a stale descriptor.
//!
//! Two things go beyond what the protocol needs, and nothing here fails without them: the order in
//! which a packed device writes its event area's two words, and the one in which it reads the
//! driver's. Whoever meets half of an old wish and half of a new one came before the fence, and is
//! seen by the second look.

mod driver;

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::thread;

use self::driver::Driver;
use crate::memory::guest_ram::{Access, GuestRam};
use crate::ring::{
    AnyRing, BufferRules, Cursor, Direction, Layout, PoppedChain, Ring, RingAddrs, RingConfig,
    UsedElements,
};
use crate::testing::TestMemory;
use crate::testing::weak_memory::Note;

/// Runs of each scheduler for each kind of ring.
const RUNS: usize = 60;
/// The first chain's stamp: the length of its buffers, and their distance from [`STAMPS_FROM`].
const FIRST_STAMP: u32 = 2;
/// Guest memory that nothing is written to.
const STAMPS_FROM: u32 = 0x10_0000;

/// A kick or an interrupt.
struct Bell(Sender<Note>);

impl Bell {
    fn ring(&self) {
        // Who has seen all there is may have left.
        let _ = self.0.send(Note::write());
    }
}

/// An eventfd: many rings of the bell are one.
struct Sleeper(Receiver<Note>);

impl Sleeper {
    fn sleep(&self) {
        let first = self.0.recv().expect("the other side left without a word");
        first.read();
        while let Ok(note) = self.0.try_recv() {
            note.read();
        }
    }
}

fn bell() -> (Bell, Sleeper) {
    let (sender, receiver) = channel();
    (Bell(sender), Sleeper(receiver))
}

fn coin() -> bool {
    thread_rng().gen_bool(0.5)
}

/// Buffers of a receive queue, which take a stamp each.
const RULES: BufferRules = BufferRules {
    direction: Direction::Writable,
    most_segments: usize::MAX,
};

/// Posts `chains` chains, as many at once as there is room for, and waits for all of them.
fn drive(mut driver: Driver, chains: u32, kick: &Bell, interrupts: &Sleeper) {
    let wait = |driver: &mut Driver| {
        if driver.reap() {
            return;
        }
        let most = driver.in_flight() as u16;
        if !driver.enable_interrupts(thread_rng().gen_range(1..=most)) {
            interrupts.sleep();
        }
        if coin() {
            driver.mute();
        }
    };
    let mut posted = 0;
    while posted < chains {
        while driver.free() == 0 {
            wait(&mut driver);
        }
        while posted < chains && driver.free() > 0 {
            let count = thread_rng().gen_range(1..=driver.free().min(2));
            driver.add(count, FIRST_STAMP + posted);
            posted += 1;
            if coin() {
                break;
            }
        }
        if driver.wants_kick() {
            kick.ring();
        }
    }
    while driver.in_flight() > 0 {
        wait(&mut driver);
    }
}

/// Host address of what the driver's stamps count from.
fn host_start(ring: &AnyRing) -> usize {
    let found = ring
        .memory()
        .contiguous(STAMPS_FROM.into(), 1, Access::Write);
    found.expect("guest memory").host.addr()
}

/// Uses `chains` chains and sleeps whenever there is none. It interrupts after each publish, or as
/// with notification coalescing at a later time, which comes before it sleeps for good.
fn serve(mut ring: AnyRing, in_order: bool, chains: u32, kicks: &Sleeper, interrupt: &Bell) {
    let start = host_start(&ring);
    let mut seen = 0;
    let defers = coin();
    ring.defer_interrupts(defers);
    loop {
        let mut held = Vec::new();
        loop {
            let mut segments = Vec::new();
            let popped = ring.pop(&mut segments, RULES);
            assert_eq!(ring.fault(), None, "the driver makes no mistake");
            let Some(PoppedChain { chain, content }) = popped else {
                break;
            };
            let buffers = content.expect("a chain that is older than it should be");
            assert_eq!(buffers.writable(), segments.len());
            let stamp = FIRST_STAMP + seen;
            for segment in &segments {
                let found = (segment.addr() - start, segment.len());
                let posted = (stamp as usize, stamp as usize);
                assert_eq!(found, posted, "a chain that is older than it should be");
            }
            seen += 1;
            held.push((chain, stamp * segments.len() as u32));
            if coin() {
                break;
            }
        }
        let none = held.is_empty();
        if !in_order && coin() {
            held.reverse();
        }
        for (chain, room) in held {
            ring.push_used(chain, room - u32::from(coin()));
        }
        if ring.publish() {
            interrupt.ring();
        }
        let due = none || seen == chains || coin();
        if defers && due && ring.decide_interrupt() {
            interrupt.ring();
        }
        if seen == chains {
            return;
        }
        if none {
            if !ring.enable_notification() {
                kicks.sleep();
            }
            if coin() {
                ring.disable_notification();
            }
        }
    }
}

/// One run: a driver and a device, from a fresh ring to the last chain used.
fn meet(ram: &GuestRam, config: &RingConfig) {
    let chains = 2 * u32::from(config.size) + 3;
    let driver = Driver::new(ram, config);
    let ring = AnyRing::new(ram, config).expect("a ring in memory");
    let (kick, kicks) = bell();
    let (interrupt, interrupts) = bell();
    let before = Note::write();
    let in_order = config.in_order;
    let device = thread::spawn(move || {
        before.read();
        serve(ring, in_order, chains, &kicks, &interrupt);
    });
    drive(driver, chains, &kick, &interrupts);
    drop(kick);
    device.join().expect("the device did its part");
}

/// Every size and order of use, under both schedulers.
fn explore(layout: Layout, event_idx: bool) {
    let memory = TestMemory::new();
    for size in [1, 2, 4] {
        let addrs = RingAddrs {
            desc: memory.alloc_ring(16 * usize::from(size), 16),
            driver: memory.alloc_ring(6 + 2 * usize::from(size), 16),
            device: memory.alloc_ring(6 + 8 * usize::from(size), 16),
        };
        let cursor = match layout {
            // The indexes wrap on the way.
            Layout::Split => Cursor {
                avail: 0xfffe,
                used: Some(0xfffe),
                ..Cursor::default()
            },
            Layout::Packed => Cursor::default(),
        };
        for in_order in [false, true] {
            let config = RingConfig {
                layout,
                size,
                addrs,
                event_idx,
                indirect: false,
                in_order,
                used_elements: UsedElements::PerBatch,
                cursor,
            };
            let ram = memory.ram();
            let test = move || meet(&ram, &config);
            shuttle::check_random(test.clone(), RUNS);
            shuttle::check_pct(test, RUNS, 3);
        }
    }
}

#[test]
fn split_loses_no_wake_up_by_flags() {
    explore(Layout::Split, false);
}

#[test]
fn split_loses_no_wake_up_by_event_index() {
    explore(Layout::Split, true);
}

#[test]
fn packed_loses_no_wake_up_by_flags() {
    explore(Layout::Packed, false);
}

#[test]
fn packed_loses_no_wake_up_by_event_index() {
    explore(Layout::Packed, true);
}
