//! A virtqueue of either layout under its engine, driven by a hostile script.
//!
//! The script sets up descriptors, posts them, overwrites memory, feeds frames, makes the backend
//! fail and restarts the engine at its cursor. After each step the promises hold: every write is
//! marked, a budget is kept, chains are given back, a fault stays and is silent, a cursor can be
//! resumed.

use std::sync::Arc;

use net_queue::header::{HdrSize, TxRules};
use net_queue::ring::{AnyRing, Cursor, RingConfig, UsedElements};
use net_queue::{
    Budget, CtrlEngine, Engine as _, GuestRam, Offloads, Outcome, QueueCounters, QueueFault,
    RxConfig, RxEngine, Stop, TxConfig, TxEngine,
};

use crate::arena::{Arena, END};
use crate::bytes::{Bytes, hdr_size};
use crate::ports::{Gate, Mood, Parser, Port};

/// More than any command is answered with: an entry of 16 bytes in a request of 16 KiB asks for
/// statistics of a few hundred.
const LONGEST_ANSWER: u32 = 32 * 16 * 1024;

/// Descriptors of the ring.
pub const SIZE: u16 = 16;

/// Rings lie below this address, buffers anywhere.
const RING_END: u64 = 0x400;

/// Steps after which a script ends: more than it takes to go round the ring.
const MAX_STEPS: usize = 64;

/// The driver's side of a layout.
pub trait Driver {
    /// Addresses of the ring and what was negotiated for it.
    fn config(&self) -> RingConfig;

    /// Writes descriptor `index` of the table that [`post`](Self::post) refers to.
    fn describe(&mut self, arena: &Arena, index: u16, desc: Desc);

    /// Makes the chain at `head` available.
    fn post(&mut self, arena: &Arena, head: u16);

    /// Lengths in what the device used between two cursors.
    fn used(&mut self, arena: &Arena, from: Cursor, to: Cursor) -> Vec<u32>;

    /// Returns whether a device at `cursor` has taken all there is: all that was posted when the
    /// ring is `clean`, else all that the ring shows.
    fn drained(&self, arena: &Arena, cursor: Cursor, clean: bool) -> bool;
}

/// A descriptor as the driver wants it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Desc {
    /// Address of the buffer or of an indirect table.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// Flags, as on the wire.
    pub flags: u16,
    /// Next in the chain.
    pub next: u16,
}

impl Desc {
    /// Continues at `next`.
    pub const NEXT: u16 = 1;
    /// Is written by the device.
    pub const WRITE: u16 = 2;
    /// Is a table.
    pub const INDIRECT: u16 = 4;

    /// The 16 bytes of a split descriptor, in the ring or in an indirect table.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }

    /// Returns whether the device may write, or find what to write, where the ring is.
    fn touches_ring(&self) -> bool {
        self.flags & (Self::WRITE | Self::INDIRECT) != 0 && self.addr < RING_END
    }

    /// Six bytes of input. Mostly within memory and within the table; the upper bits of the first
    /// byte lead out of both.
    pub fn take(input: &mut Bytes<'_>) -> Self {
        let (bits, next) = (input.u8(), u16::from(input.u8()));
        let (addr, len) = (u64::from(input.u16()), u32::from(input.u16()));
        let inside = if bits & 0x08 == 0 {
            addr % u64::from(END)
        } else {
            addr
        };
        Self {
            addr: if bits & 0x20 == 0 {
                inside
            } else {
                inside | !0xffff
            },
            len: if bits & 0x10 == 0 {
                len
            } else {
                len | 0xffff_0000
            },
            flags: u16::from(bits & 7),
            next: if bits & 0x40 == 0 {
                next % SIZE
            } else {
                next << 8
            },
        }
    }
}

/// Negotiated configuration, from the first bytes of the input.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    role: u8,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    iommu: bool,
    merge: bool,
    size: HdrSize,
    offloads: Offloads,
    mtu: Option<u16>,
    /// Slot or index at which the ring starts.
    pub start: u16,
    /// `VIRTIO_F_IN_ORDER` in bit 0; [`laps`](crate::laps) for more.
    pub mode: u8,
}

impl Setup {
    /// Takes a setup off the input: role and bits, header size and MTU, offloads, start (2), mode.
    pub fn take(input: &mut Bytes<'_>) -> Self {
        let (bits, more, offloads) = (input.u8(), input.u8(), input.u8());
        let start = input.u16();
        let mode = input.u8();
        Self {
            role: bits & 3,
            event_idx: bits & 0x04 != 0,
            indirect: bits & 0x08 != 0,
            iommu: bits & 0x10 != 0,
            merge: bits & 0x20 != 0,
            size: hdr_size(more),
            offloads: Offloads::from_bits_truncate(offloads.into()),
            mtu: (more & 0x80 != 0).then_some(1500),
            start,
            mode,
        }
    }
}

/// Runs a script: the descriptors of the whole table, then steps.
pub fn exercise(mut input: Bytes<'_>, setup: Setup, arena: &Arena, driver: &mut impl Driver) {
    let table: [Desc; SIZE as usize] = std::array::from_fn(|_| Desc::take(&mut input));
    for (index, desc) in (0..).zip(table) {
        driver.describe(arena, index, desc);
    }
    let clean = !table.iter().any(Desc::touches_ring);
    let mut world = World::new(setup, arena, driver, clean);
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.resume_at_cursor();
}

/// An engine between a driver and its ports.
struct World<'a, D> {
    setup: Setup,
    arena: &'a Arena,
    driver: &'a mut D,
    ram: GuestRam,
    engine: Engine,
    port: Port,
    gate: Gate,
    /// Nothing but [`Driver::post`] and the ring itself has written to the ring.
    clean: bool,
}

impl<'a, D: Driver> World<'a, D> {
    fn new(setup: Setup, arena: &'a Arena, driver: &'a mut D, clean: bool) -> Self {
        let ram = arena.ram(setup.iommu);
        let engine = Engine::new(&setup, &ram, &driver.config());
        Self {
            port: Port::new(setup.size, setup.offloads),
            gate: Gate::default(),
            setup,
            arena,
            driver,
            ram,
            engine,
            clean,
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) {
        match input.u8() % 8 {
            0 => self.driver.post(self.arena, input.u8().into()),
            1 => self.run(input.u8().into(), input.u8().into()),
            2 => {
                let (gpa, bytes) = (input.u16(), input.array::<8>());
                self.arena.write(gpa.into(), &bytes);
                // An indirect table may lead anywhere.
                self.clean &= u64::from(gpa) >= RING_END && !self.setup.indirect;
            }
            3 => self.deliver(input),
            4 => {
                let moods = [Mood::Willing, Mood::Busy, Mood::Picky, Mood::Gone];
                self.port.mood = moods[usize::from(input.u8() % 4)];
            }
            5 => {
                let on = input.u8() & 1 == 0;
                let ((), silent) = self.arena.watch(|| self.engine.set_notification(on));
                assert!(silent.is_empty(), "unmarked write to {silent:x?}");
            }
            6 => self.resume_at_cursor(),
            _ => self
                .engine
                .set_offloads(Offloads::from_bits_truncate(input.u8().into())),
        }
    }

    /// A frame from outside: two bytes of length, the base header, then a pattern.
    fn deliver(&mut self, input: &mut Bytes<'_>) {
        let (len, header) = (usize::from(input.u16()), input.array::<12>());
        let mut frame = header.to_vec();
        frame.resize(self.setup.size.bytes() + len, 0xa5);
        if self.port.frames.len() < 8 {
            self.port.frames.push_back(frame);
        }
    }

    fn run(&mut self, budget: u32, gate: u32) {
        (self.port.calls, self.gate.left) = (0, gate);
        let from = self.engine.cursor();
        let (port, gate) = (&mut self.port, &mut self.gate);
        let (ran, silent) = self.arena.watch(|| self.engine.run(port, gate, budget));
        let to = self.engine.cursor();
        let used = self.driver.used(self.arena, from, to);

        // The driver may not look into a buffer before it is used, so a frame that is received and
        // not delivered needs no mark.
        assert!(
            ran.withheld || silent.is_empty(),
            "unmarked write to {silent:x?}"
        );
        assert!(self.port.calls <= budget.max(1), "budget");
        assert!(!ran.interrupt || !used.is_empty(), "interrupt for nothing");
        match self.engine {
            // What an element that stands for a batch skips is as the driver left it.
            Engine::Tx(_) if self.clean || self.setup.mode & 1 == 0 => {
                assert!(used.iter().all(|&len| len == 0), "used length");
            }
            Engine::Ctrl(_) if self.clean => {
                assert!(used.iter().all(|&len| len <= LONGEST_ANSWER), "used length");
            }
            Engine::Tx(_) | Engine::Ctrl(_) | Engine::Rx(..) => {}
        }
        if !matches!(self.engine, Engine::Rx(..)) {
            assert!(used.len() as u64 <= u64::from(budget.max(1)), "budget");
            assert!(at_rest(to), "a chain was kept");
            let drained = self.driver.drained(self.arena, to, self.clean);
            assert!(!ran.empty || drained, "stopped before the end");
        }
        if let Some(fault) = ran.fault {
            self.check_fault(fault);
        }
    }

    fn check_fault(&mut self, fault: QueueFault) {
        let (port, gate) = (&mut self.port, &mut self.gate);
        let (again, _) = self.arena.watch(|| self.engine.run(port, gate, 8));
        assert_eq!((again.fault, again.interrupt), (Some(fault), false));
        assert!(!self.arena.was_written(), "wrote to a broken ring");
    }

    /// Stops as for a snapshot, and goes on with a new engine at the cursor.
    fn resume_at_cursor(&mut self) {
        let gate = &mut self.gate;
        let ((), silent) = self.arena.watch(|| self.engine.drain(gate));
        assert!(silent.is_empty(), "unmarked write to {silent:x?}");
        let cursor = self.engine.cursor();
        assert!(at_rest(cursor), "a chain was kept");
        let config = RingConfig {
            cursor,
            ..self.driver.config()
        };
        self.engine = Engine::new(&self.setup, &self.ram, &config);
        assert_eq!(self.engine.cursor(), cursor);
    }
}

/// The device holds no chain.
pub(crate) fn at_rest(cursor: Cursor) -> bool {
    Some(cursor.avail) == cursor.used && cursor.avail_wrap == cursor.used_wrap
}

/// One of the engines, by the role that the input chose.
enum Engine {
    Tx(TxEngine<AnyRing>),
    Rx(Box<RxEngine<AnyRing>>, Arc<QueueCounters>),
    Ctrl(CtrlEngine<AnyRing>),
}

/// Outcome of a run.
struct Ran {
    /// The ring had no more.
    empty: bool,
    /// The ring is broken.
    fault: Option<QueueFault>,
    /// The driver wants to know.
    interrupt: bool,
    /// A frame may have been received that the driver did not get.
    withheld: bool,
}

impl Engine {
    fn new(setup: &Setup, ram: &GuestRam, config: &RingConfig) -> Self {
        let used_elements = if setup.role == 0 {
            UsedElements::PerBatch
        } else {
            UsedElements::PerChain
        };
        let config = &RingConfig {
            used_elements,
            ..*config
        };
        let ring = AnyRing::new(ram, config).expect("a ring in memory, at a cursor of its own");
        let counters = Arc::new(QueueCounters::default());
        match setup.role {
            0 => Self::Tx(TxEngine::new(
                ring,
                TxConfig {
                    size: setup.size,
                    ..TxConfig::new(TxRules::new(setup.offloads))
                },
                counters,
            )),
            1 => Self::Ctrl(CtrlEngine::new(ring, counters)),
            _ => {
                let rx = RxConfig {
                    size: setup.size,
                    offloads: setup.offloads,
                    merge: setup.merge,
                    mtu: setup.mtu,
                    link_mtu: setup.mtu,
                };
                let shared = counters.clone();
                let engine = RxEngine::new(ring, config.size, rx, shared);
                Self::Rx(Box::new(engine), counters)
            }
        }
    }

    fn run(&mut self, port: &mut Port, gate: &mut Gate, frames: u32) -> Ran {
        let budget = Budget {
            frames,
            bytes: u64::MAX,
        };
        match self {
            Self::Tx(engine) => {
                let Outcome {
                    stop, interrupt, ..
                } = engine.run(port, gate, 0, budget);
                let empty = matches!(stop, Stop::Driver);
                let fault = engine.fault();
                assert_eq!(fault.is_some(), matches!(stop, Stop::Fault(_)));
                Ran {
                    empty,
                    fault,
                    interrupt,
                    withheld: false,
                }
            }
            Self::Ctrl(engine) => {
                let Outcome {
                    stop, interrupt, ..
                } = engine.run(&mut Parser, frames);
                let empty = matches!(stop, Stop::Driver);
                let fault = engine.fault().filter(|_| !matches!(stop, Stop::Budget));
                Ran {
                    empty,
                    fault,
                    interrupt,
                    withheld: false,
                }
            }
            Self::Rx(engine, counters) => {
                let lost = |counters: &QueueCounters| counters.dropped() + counters.limited();
                let before = lost(counters);
                let Outcome {
                    stop, interrupt, ..
                } = engine.run(port, gate, None, 0, budget);
                // Only an engine that asked the backend for more holds no frame.
                let holds = !matches!(stop, Stop::Backend);
                let fault = engine.fault();
                assert_eq!(fault.is_some(), matches!(stop, Stop::Fault(_)));
                Ran {
                    empty: false,
                    fault,
                    interrupt,
                    withheld: holds || lost(counters) > before,
                }
            }
        }
    }

    fn set_notification(&mut self, on: bool) {
        match self {
            Self::Tx(engine) if on => drop(engine.enable_notification()),
            Self::Tx(engine) => engine.disable_notification(),
            Self::Ctrl(engine) => drop(engine.enable_notification()),
            Self::Rx(engine, _) if on => drop(engine.enable_notification()),
            Self::Rx(engine, _) => engine.disable_notification(),
        }
    }

    fn drain(&mut self, gate: &mut Gate) {
        if let Self::Rx(engine, _) = self {
            engine.drain(gate, None, 0);
        }
    }

    fn set_offloads(&mut self, offloads: Offloads) {
        if let Self::Rx(engine, _) = self {
            engine.set_offloads(offloads);
        }
    }

    fn cursor(&self) -> Cursor {
        match self {
            Self::Tx(engine) => engine.cursor(),
            Self::Ctrl(engine) => engine.cursor(),
            Self::Rx(engine, _) => engine.cursor(),
        }
    }
}
