//! No heap allocation per frame: after the first rounds, moving frames allocates nothing at all.

// A counting global allocator is `unsafe` by its trait.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout as Size, System};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use net_queue::ctrl::{Command, Reply};
use net_queue::header::{HdrSize, TxRules};
use net_queue::ring::{Layout, RingConfig};
use net_queue::testing::packets::Packet;
use net_queue::testing::{GuestRing, LAYOUTS, LargeFrame, Shape, TestMemory};
use net_queue::{
    Budget, Caps, CommandHandler, CtrlEngine, Engine, FrameBackend, Gather, LinkConfig, Offloads,
    QueueCounters, RecvError, Refusal, RxConfig, RxEngine, Scatter, SendError, Stop, TxConfig,
    TxEngine, Unlimited,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // At a thread's end the counter may be gone; then nobody counts.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to `System` unchanged; counting touches a thread-local integer
// only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, size: Size) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, size: Size) {
        // SAFETY: `at` came from `System` with this layout, as the caller vouches.
        unsafe { System.dealloc(at, size) }
    }

    unsafe fn realloc(&self, at: *mut u8, size: Size, new: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, size, new) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of this thread in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Swallows every frame, and has some of all lengths.
struct Endless {
    socket: UnixDatagram,
    left: usize,
    frame: Vec<u8>,
    /// Source port whose frames find no room.
    blocked: Option<u16>,
}

impl Endless {
    fn new() -> Self {
        Self {
            socket: UnixDatagram::unbound().expect("a socket"),
            left: 0,
            frame: vec![0; 9000],
            blocked: None,
        }
    }
}

impl FrameBackend for Endless {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        frame.copy_to(&mut self.frame)?;
        let port = u16::from_be_bytes([self.frame[46], self.frame[47]]);
        match self.blocked {
            Some(blocked) if port == blocked => Err(SendError::WouldBlock),
            _ => Ok(()),
        }
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.left = self.left.checked_sub(1).ok_or(RecvError::WouldBlock)?;
        let len = 60 + self.left * 977 % 8000;
        self.frame.fill(0);
        Ok(room.write_at(0, &self.frame[..len])?)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const PLENTY: Budget = Budget {
    frames: 10_000,
    bytes: 1 << 40,
};

fn guest(layout: Layout) -> GuestRing {
    guest_of(layout, 256)
}

fn guest_of(layout: Layout, size: u16) -> GuestRing {
    let config = RingConfig {
        layout,
        size,
        event_idx: true,
        indirect: true,
        ..RingConfig::default()
    };
    GuestRing::new(&TestMemory::new(), config)
}

#[test]
fn transmit_allocates_nothing_per_frame() {
    for layout in LAYOUTS {
        let mut guest = guest(layout);
        let rules = TxRules::new(Offloads::empty());
        let mut engine = TxEngine::new(guest.device(), TxConfig::new(rules), Arc::default());
        let mut backend = Endless::new();
        for _ in 0..20 {
            for shape in [Shape::Direct, Shape::Indirect, Shape::Direct] {
                let pieces = guest.memory().cut(&[0; 3000], &[12, 100, 1000]);
                guest.add_as(shape, &pieces);
            }
            // One that is dropped.
            let short = guest.memory().cut(&[0; 5], &[]);
            guest.add(&short);
            guest.publish();
            let count = allocations(|| {
                engine.run(&mut backend, &mut Unlimited, 0, PLENTY);
                engine.enable_notification();
                engine.disable_notification();
            });
            assert_eq!(count, 0, "{layout:?}");
            assert_eq!(guest.poll_all().len(), 4);
        }
    }
}

#[test]
fn coalescing_allocates_nothing_per_frame() {
    let kinds = Offloads::TSO4 | Offloads::USO4;
    for layout in LAYOUTS {
        let mut guest = guest(layout);
        let config = TxConfig {
            coalesce: kinds,
            ..TxConfig::new(TxRules::new(Offloads::CSUM))
        };
        let counters = Arc::<QueueCounters>::default();
        let mut engine = TxEngine::new(guest.device(), config, counters.clone());
        let mut backend = Endless::new();
        for round in 1..20 {
            for flow in 0..20 {
                let first = Packet {
                    ports: (1, flow),
                    ..Packet::udp(&[1; 900])
                };
                for n in 0..10 {
                    let bytes = first.after(n, &[2; 900]).bytes();
                    let pieces = guest.memory().cut(&bytes, &[]);
                    guest.add(&pieces);
                }
            }
            guest.publish();
            let count = allocations(|| {
                engine.run(&mut backend, &mut Unlimited, 0, PLENTY);
                engine.drain(&mut backend, &mut Unlimited, 0);
            });
            assert_eq!(count, 0, "{layout:?}");
            guest.poll_all();
            assert_eq!(guest.in_flight(), 0);
            assert_eq!(counters.stats().grouped, 200 * round);
        }
    }
}

/// One frame that cannot leave, and more chains behind it than an engine keeps.
#[test]
fn a_full_backend_lets_an_engine_keep_no_more_chains_than_it_has_room_for() {
    for layout in LAYOUTS {
        let mut guest = guest_of(layout, 1024);
        let config = TxConfig {
            coalesce: Offloads::USO4,
            ..TxConfig::new(TxRules::new(Offloads::CSUM))
        };
        let mut engine = TxEngine::new(guest.device(), config, Arc::default());
        let mut backend = Endless::new();
        for port in [1].into_iter().chain([2; 600]) {
            let packet = Packet {
                ports: (port, 9),
                ..Packet::udp(&[1; 22])
            };
            let pieces = guest.memory().cut(&packet.bytes(), &[]);
            guest.add(&pieces);
        }
        guest.publish();
        let count = allocations(|| {
            backend.blocked = Some(1);
            for _ in 0..3 {
                let stopped = engine.run(&mut backend, &mut Unlimited, 0, PLENTY);
                assert!(matches!(stopped.stop, Stop::Backend));
            }
            backend.blocked = None;
            engine.run(&mut backend, &mut Unlimited, 0, PLENTY);
        });
        assert_eq!(count, 0, "{layout:?}");
        guest.poll_all();
        assert_eq!(guest.in_flight(), 0);
    }
}

#[test]
fn cutting_large_frames_allocates_nothing() {
    let bytes = LargeFrame::default().bytes();
    for layout in LAYOUTS {
        let mut guest = guest(layout);
        let config = TxConfig {
            segmentation: Offloads::TSO4,
            ..TxConfig::new(TxRules::new(Offloads::CSUM).completing())
        };
        let counters = Arc::<QueueCounters>::default();
        let mut engine = TxEngine::new(guest.device(), config, counters.clone());
        let mut backend = Endless::new();
        for round in 1..20 {
            for _ in 0..20 {
                let pieces = guest.memory().cut(&bytes, &[]);
                guest.add(&pieces);
            }
            guest.publish();
            let count = allocations(|| {
                engine.run(&mut backend, &mut Unlimited, 0, PLENTY);
                engine.drain(&mut backend, &mut Unlimited, 0);
            });
            assert_eq!(count, 0, "{layout:?}");
            guest.poll_all();
            assert_eq!(guest.in_flight(), 0);
            assert_eq!(counters.stats().segmented, 20 * round);
        }
    }
}

/// Also where chains are kept all the time, with which more are taken in the end than there is room
/// for.
#[test]
fn receive_allocates_nothing_per_frame() {
    for (layout, drains) in LAYOUTS
        .map(|layout| [(layout, true), (layout, false)])
        .concat()
    {
        let mut guest = guest(layout);
        let config = RxConfig {
            size: HdrSize::Base,
            offloads: Offloads::empty(),
            merge: true,
            mtu: None,
            link_mtu: Some(1500),
        };
        let mut engine = RxEngine::new(guest.device(), 256, config, Arc::default());
        let mut backend = Endless::new();
        for round in 0..400 {
            while guest.free() >= 2 {
                let pieces = [guest.memory().room(200), guest.memory().room(300)];
                guest.add(&pieces);
            }
            guest.publish();
            backend.left = round % 7;
            let count = allocations(|| {
                engine.run(&mut backend, &mut Unlimited, None, 0, PLENTY);
                engine.enable_notification();
                if drains && round % 10 == 9 {
                    engine.drain(&mut Unlimited, None, 0);
                }
            });
            assert_eq!(count, 0, "{layout:?}, drains: {drains}");
            guest.poll_all();
        }
    }
}

struct Obedient;

impl CommandHandler for Obedient {
    fn execute(&mut self, _: Command<'_>, _: &mut Reply<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The control queue keeps its buffers, so it allocates for the longest command so far.
#[test]
fn control_allocates_for_the_longest_command_once() {
    for layout in LAYOUTS {
        let mut guest = guest(layout);
        let mut engine = CtrlEngine::new(guest.device(), Arc::default());
        // A VLAN, and much behind it.
        let mut command = [0; 1000];
        command[0] = 2;
        for round in 0..10 {
            let mut pieces = guest.memory().cut(&command, &[2, 500]);
            pieces.push(guest.memory().room(1));
            guest.add(&pieces);
            guest.publish();
            let count = allocations(|| {
                engine.run(&mut Obedient, 10);
            });
            assert!(round == 0 || count == 0, "{layout:?}");
            assert_eq!(guest.poll_all().len(), 1);
        }
    }
}
