//! Rings of every size up to the longest, lap after lap, one step of the device at a time.
//!
//! Between taking chains, giving them back and publishing, the driver makes available what it
//! likes: lists as long as the ring, many heads of one chain, slots that are not its own, tables
//! longer than the ring. As long as it keeps to the rules every chain is seen once and in order.
//! Whatever it does, the device never has more than the ring outstanding, publishes exactly what it
//! gave back, marks nothing beside the ring, and can be saved and restored.

mod driver;
mod seeds;

use std::collections::VecDeque;
use std::iter::from_fn;
use std::sync::Arc;

use net_queue::ring::{
    AnyRing, BufferRules, Buffers, Chain, Cursor, Direction, Layout, PoppedChain, Ring, RingConfig,
    UsedElements,
};
use net_queue::testing::{DirtyRanges, GuestRing, PackedFields, SplitFields, TestMemory};
use net_queue::{DropCause, GuestRam, IoVec, MAX_SEGMENTS};

use crate::bytes::Bytes;
use crate::ring::Setup;

pub use seeds::seeds;

/// Sizes by layout; every one is one of a packed ring.
const SIZES: [u16; 14] = [
    1, 2, 3, 7, 16, 17, 100, 256, 512, 1000, 1024, 4096, 0x7fff, 0x8000,
];

/// Steps after which a script ends.
const MAX_STEPS: usize = 48;
/// Descriptors that a script may write, and pieces that it may let the device see: a few laps of
/// the longest ring.
const MOST_WRITES: usize = 1 << 17;
const MOST_PIECES: usize = 1 << 18;

/// Steps, see [`World::step`].
const LIST: u8 = 0;
const HEADS: u8 = 1;
const TABLE: u8 = 2;
const TAKE: u8 = 3;
const GIVE_BACK: u8 = 4;
const PUBLISH: u8 = 5;
const UNDO: u8 = 6;
const RESUME: u8 = 7;
const WORD: u8 = 8;
const BACK: u8 = 9;
const STEPS: u8 = 10;

/// Bits of [`Setup::mode`], behind the mark that chooses this exercise.
pub const MODE: u8 = 0xa0;
const IN_ORDER: u8 = 1;
const PER_BATCH: u8 = 2;

/// Returns whether the input wants this instead of an engine.
pub fn asked(setup: &Setup) -> bool {
    setup.mode & 0xf0 == MODE
}

/// Input, behind the [`Setup`]: a size, then steps of an operation and its operands.
pub fn exercise(mut input: Bytes<'_>, setup: Setup, layout: Layout) {
    let size = SIZES[usize::from(input.u8()) % SIZES.len()];
    let (size, slot) = match layout {
        Layout::Split => (1 << size.ilog2(), setup.start),
        Layout::Packed => (size, setup.start % size),
    };
    let wrap = setup.start & 0x8000 != 0;
    let mut world = World::new(RingConfig {
        layout,
        size,
        event_idx: setup.event_idx,
        indirect: setup.indirect,
        in_order: setup.mode & IN_ORDER != 0,
        used_elements: if setup.mode & PER_BATCH != 0 {
            UsedElements::PerBatch
        } else {
            UsedElements::PerChain
        },
        cursor: Cursor {
            avail: slot,
            used: Some(slot),
            avail_wrap: wrap,
            used_wrap: wrap,
        },
        ..RingConfig::default()
    });
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        world.step(&mut input);
        world.check();
    }
    world.resume_at_cursor();
}

/// Buffers of any direction, however many.
const RULES: BufferRules = BufferRules {
    direction: Direction::ReadableThenWritable,
    most_segments: usize::MAX,
};

/// Length of the longer ones of a list's buffers. A chain counts up to `u32::MAX` bytes, which 64
/// of them are more than.
const LONG: u32 = 64 << 20;

/// A chain that the device has.
struct Held {
    chain: Chain,
    /// Units of the ring that it takes: chains (split), slots (packed).
    units: u32,
    pieces: usize,
    room: u32,
}

struct World {
    memory: TestMemory,
    config: RingConfig,
    marks: Arc<DirtyRanges>,
    ram: GuestRam,
    ring: AnyRing,
    held: VecDeque<Held>,
    /// Units that were given back and not published.
    given_back: u32,
    /// Position at which the driver goes on: an index (split), a slot and the lap's wrap counter
    /// (packed).
    next: u16,
    wrap: bool,
    /// Units that the driver made available and was not told of.
    outstanding: u32,
    /// Pieces of the chains that the device has not taken yet, while the driver keeps to the rules;
    /// none where the content is refused.
    expected: VecDeque<Option<usize>>,
    clean: bool,
    /// All chains of a split ring that the driver made available are of one descriptor.
    singles: bool,
    writes: usize,
    pieces: usize,
}

impl World {
    fn new(config: RingConfig) -> Self {
        let memory = TestMemory::new();
        let config = GuestRing::new(&memory, config).config();
        let marks = Arc::<DirtyRanges>::default();
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let ring = AnyRing::new(&ram, &config).expect("it was laid out");
        Self {
            memory,
            config,
            marks,
            ram,
            ring,
            held: VecDeque::new(),
            given_back: 0,
            next: config.cursor.avail,
            wrap: config.cursor.avail_wrap,
            outstanding: 0,
            expected: VecDeque::new(),
            clean: true,
            singles: true,
            writes: 0,
            pieces: 0,
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) {
        match input.u8() % STEPS {
            LIST => {
                let len = 1 + input.u16() % self.config.size;
                self.post(len, input.u8());
            }
            HEADS => {
                let (count, flags) = (input.u16() % self.config.size, input.u8());
                self.post_again(1 + count, flags);
            }
            TABLE => self.post_table(input.u16()),
            TAKE => {
                let most = usize::from(input.u16());
                from_fn(|| self.take()).take(1 + most).for_each(drop);
            }
            GIVE_BACK => {
                let (count, kind) = (input.u16(), input.u8());
                for _ in 0..=count {
                    self.give_back(kind);
                }
            }
            PUBLISH => self.publish(),
            UNDO => {
                for _ in 0..=input.u16() {
                    self.undo();
                }
            }
            RESUME => self.resume_at_cursor(),
            WORD => {
                self.clean = false;
                self.write_word(input.u16(), input.u16());
            }
            _ => {
                self.clean = false;
                let back = input.u16();
                self.next = match self.config.layout {
                    Layout::Split => self.next.wrapping_sub(back),
                    Layout::Packed => back % self.config.size,
                };
                self.wrap ^= back & 0x8000 != 0;
                self.show();
            }
        }
    }

    fn write_word(&mut self, at: u16, value: u16) {
        let place = match self.config.layout {
            Layout::Split => SplitFields::of(&self.config).avail_idx(),
            Layout::Packed => PackedFields::of(&self.config).desc_flags(at % self.config.size),
        };
        self.memory.store(place, value);
    }

    /// Position of `cursor`, in units of two laps (packed) or of the index (split).
    fn position(&self, slot: u16, wrap: bool) -> u32 {
        match self.config.layout {
            Layout::Split => slot.into(),
            Layout::Packed => u32::from(slot) + u32::from(self.config.size) * u32::from(!wrap),
        }
    }

    /// Units from one place to another.
    fn distance(&self, from: u32, to: u32) -> u32 {
        match self.config.layout {
            Layout::Split => (to as u16).wrapping_sub(from as u16).into(),
            Layout::Packed => {
                let laps = 2 * u32::from(self.config.size);
                (to + laps - from) % laps
            }
        }
    }

    fn avail(&self) -> u32 {
        let cursor = self.ring.cursor();
        self.position(cursor.avail, cursor.avail_wrap)
    }

    fn used(&self) -> u32 {
        let cursor = self.ring.cursor();
        self.position(cursor.used.expect("a ring knows it"), cursor.used_wrap)
    }

    /// Takes one chain, if there is one and the script may go on.
    fn take(&mut self) -> Option<()> {
        if self.pieces > MOST_PIECES {
            return None;
        }
        let (before, mut segments) = (self.avail(), Vec::new());
        let popped = self.ring.pop(&mut segments, RULES);
        self.pieces += 1 + segments.len();
        let most = usize::from(self.config.size) + MAX_SEGMENTS.max(self.config.size.into());
        assert!(segments.len() <= most, "a chain without an end");
        if !self.clean {
            let PoppedChain { chain, content, .. } = popped?;
            self.hold(chain, before, content, &segments);
            return Some(());
        }
        let fault = self.ring.fault();
        assert_eq!(fault, None, "the driver keeps to the rules");
        let Some(pieces) = self.expected.pop_front() else {
            assert!(popped.is_none(), "a chain that nobody made available");
            return None;
        };
        let PoppedChain { chain, content, .. } = popped.expect("a chain was made available");
        let found = content.is_ok().then_some(segments.len());
        assert_eq!(found, pieces, "{:?}", self.config);
        self.hold(chain, before, content, &segments);
        Some(())
    }

    fn hold(
        &mut self,
        chain: Chain,
        before: u32,
        content: Result<Buffers, DropCause>,
        segments: &[IoVec],
    ) {
        let written = content.map_or(segments, |buffers| &segments[buffers.readable()..]);
        let room: u64 = written.iter().map(|segment| segment.len() as u64).sum();
        let units = self.distance(before, self.avail());
        assert!(units > 0, "a chain that takes nothing");
        self.held.push_back(Held {
            chain,
            units,
            pieces: segments.len(),
            room: room.min(u32::MAX.into()) as u32,
        });
    }

    fn give_back(&mut self, kind: u8) {
        if let Some(held) = self.held.pop_front() {
            self.given_back += held.units;
            let written = [0, held.room, 1, u32::MAX][usize::from(kind % 4)];
            self.ring.push_used(held.chain, written);
        }
    }

    fn publish(&mut self) {
        let before = self.used();
        let interrupt = self.ring.publish();
        let told = self.distance(before, self.used());
        assert_eq!(told, self.given_back % (2 * u32::from(self.config.size)));
        assert!(told > 0 || !interrupt, "interrupt for nothing");
        self.outstanding = self.outstanding.saturating_sub(self.given_back);
        self.given_back = 0;
    }

    fn undo(&mut self) {
        if let Some(held) = self.held.pop_back() {
            self.ring.undo_pop(held.chain);
            // Of a chain whose content is refused no number of pieces is known.
            self.clean &= held.pieces > 0;
            self.expected.push_front(Some(held.pieces));
        }
    }

    /// Gives back what is held as if it had never been taken, and goes on with another ring at the
    /// cursor.
    fn resume_at_cursor(&mut self) {
        while !self.held.is_empty() {
            self.undo();
        }
        self.publish();
        self.check();
        let config = RingConfig {
            cursor: self.ring.cursor(),
            ..self.config
        };
        assert_eq!(self.avail(), self.used(), "a chain was kept");
        self.ring = AnyRing::new(&self.ram, &config).expect("a cursor of its own");
    }

    /// Invariants after every step.
    fn check(&mut self) {
        let held: u32 = self.held.iter().map(|held| held.units).sum();
        let outstanding = self.distance(self.used(), self.avail());
        assert_eq!(outstanding, held + self.given_back);
        assert!(outstanding <= self.config.size.into(), "beyond the ring");
        let cursor = self.ring.cursor();
        let config = RingConfig {
            cursor,
            ..self.config
        };
        let next = AnyRing::new(&self.ram, &config).expect("a snapshot that restores");
        assert_eq!(next.cursor(), cursor);
        let (addrs, size) = (self.config.addrs, u64::from(self.config.size));
        let areas = match self.config.layout {
            Layout::Split => [(addrs.device, 6 + 8 * size); 2],
            Layout::Packed => [(addrs.desc, 16 * size), (addrs.device, 4)],
        };
        for (addr, len) in self.marks.take() {
            let inside = |(start, size): (u64, u64)| addr >= start && addr + len <= start + size;
            assert!(areas.into_iter().any(inside), "{len} at {addr:#x}");
        }
    }
}
