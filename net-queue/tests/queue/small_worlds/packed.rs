//! The packed virtqueue. VirtIO 1.4 §2.8.

use net_queue::QueueFault;
use net_queue::ring::{Cursor, Layout, PackedRing, Ring, RingAddrs, RingConfig};
use net_queue::testing::{PackedFields, RawDesc, TestMemory};

use super::*;

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// `RING_EVENT_FLAGS_ENABLE`, `_DISABLE`, `_DESC`, and the value that is reserved.
const WISHES: [u16; 4] = [0, 1, 2, 3];

/// A slot, and the wrap counter of whoever stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    slot: u16,
    wrap: bool,
}

impl Position {
    fn all(size: u16) -> impl Iterator<Item = Self> {
        let laps = [true, false].into_iter();
        laps.flat_map(move |wrap| (0..size).map(move |slot| Self { slot, wrap }))
    }

    /// One step: the counter flips behind the last slot (§2.8.1).
    fn step(self, size: u16) -> Self {
        match self.slot + 1 {
            end if end == size => Self {
                slot: 0,
                wrap: !self.wrap,
            },
            slot => Self { slot, ..self },
        }
    }

    fn steps(self, count: u16, size: u16) -> Self {
        (0..count).fold(self, |at, _| at.step(size))
    }

    /// Event offset and wrap as they are in memory (§2.8.10).
    fn event(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// Flags of a descriptor that was made available here (§2.8.1).
    fn available(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }

    /// Flags of a descriptor that was used here.
    fn used(self) -> u16 {
        if self.wrap { AVAIL | USED } else { 0 }
    }

    fn is_available(self, flags: u16) -> bool {
        flags & (AVAIL | USED) == self.available()
    }
}

/// A ring in memory.
struct World {
    memory: TestMemory,
    config: RingConfig,
    fields: PackedFields,
}

impl World {
    fn new(size: u16, event_idx: bool) -> Self {
        let memory = TestMemory::new();
        let config = RingConfig {
            layout: Layout::Packed,
            size,
            event_idx,
            addrs: RingAddrs {
                desc: memory.alloc_ring(16 * usize::from(size), 16),
                driver: memory.alloc_ring(4, 4),
                device: memory.alloc_ring(4, 4),
            },
            ..RingConfig::default()
        };
        Self {
            fields: PackedFields::of(&config),
            memory,
            config,
        }
    }

    /// Writes the descriptor in `slot`, whose id is its own.
    fn store(&self, slot: u16, flags: u16) {
        store_desc(
            &self.memory,
            self.fields.desc(slot),
            slot,
            [id(slot), flags],
        );
    }

    fn ring(&self, used: Position, next: Position) -> Option<PackedRing> {
        let config = RingConfig {
            cursor: Cursor {
                avail: next.slot,
                avail_wrap: next.wrap,
                used: Some(used.slot),
                used_wrap: used.wrap,
            },
            ..self.config
        };
        PackedRing::new(&self.memory.ram(), &config).ok()
    }

    /// A ring at `start` with chains of `lengths` to be taken, and nothing else.
    fn filled(&self, start: Position, lengths: &[u16]) -> PackedRing {
        let size = self.config.size;
        // What was used in the lap before, which is not available in this one.
        (0..size).fold(start, |at, _| {
            self.store(at.slot, at.used() ^ (AVAIL | USED));
            at.step(size)
        });
        let mut at = start;
        for length in lengths {
            for left in (0..*length).rev() {
                let link = if left > 0 { RawDesc::NEXT } else { 0 };
                self.store(at.slot, at.available() | link);
                at = at.step(size);
            }
        }
        self.ring(start, start).expect("a state that can be")
    }
}

fn id(slot: u16) -> u16 {
    100 + slot
}

/// All ways to cut up to `most` slots into chains.
fn cut_into_chains(most: u16) -> Vec<Vec<u16>> {
    let mut all = vec![vec![]];
    for first in 1..=most {
        for rest in cut_into_chains(most - first) {
            all.push([vec![first], rest].concat());
        }
    }
    all
}

#[test]
fn a_ring_is_made_where_the_device_is_at_most_a_lap_behind_the_driver() {
    for size in SIZES {
        let world = World::new(size, false);
        for used in Position::all(size) {
            for next in Position::all(size) {
                let possible = (0..=size).any(|count| used.steps(count, size) == next);
                let ring = world.ring(used, next);
                assert_eq!(ring.is_some(), possible, "{size} {used:?} {next:?}");
            }
            let beyond = Position { slot: size, ..used };
            assert!(world.ring(used, beyond).is_none() && world.ring(beyond, used).is_none());
        }
    }
}

/// Chains to be taken at `next`, of which `held` slots before it are not given back: the members
/// of each, and the fault behind them. §2.8.6: a chain goes on where NEXT is set, and a driver
/// makes available no more than the ring.
fn available(flags: &[u16], next: Position, held: u16) -> (Vec<usize>, Option<QueueFault>) {
    let size = flags.len() as u16;
    let (mut at, mut left, mut found) = (next, size - held, Vec::new());
    while at.is_available(flags[usize::from(at.slot)]) {
        if left == 0 {
            return (found, Some(QueueFault::AvailIndex));
        }
        let (mut members, mut room) = (0, left);
        loop {
            let flags = flags[usize::from(at.slot)];
            if room == 0 {
                return (found, Some(QueueFault::DescriptorLoop));
            }
            if !at.is_available(flags) {
                return (found, Some(QueueFault::NotAvailable));
            }
            members |= 1 << at.slot;
            room -= 1;
            at = at.step(size);
            if flags & RawDesc::NEXT == 0 {
                break;
            }
        }
        left = room;
        found.push(members);
    }
    (found, None)
}

#[test]
fn chains_are_taken_as_the_lap_bits_and_links_say() {
    const CHOICES: [u16; 8] = [
        0,
        AVAIL,
        USED,
        AVAIL | USED,
        RawDesc::NEXT,
        RawDesc::NEXT | AVAIL,
        RawDesc::NEXT | USED,
        RawDesc::NEXT | AVAIL | USED,
    ];
    for size in SIZES {
        let world = World::new(size, false);
        for number in 0..CHOICES.len().pow(size.into()) {
            let choice = |slot: u16| number / CHOICES.len().pow(slot.into()) % CHOICES.len();
            let flags: Vec<_> = (0..size).map(|slot| CHOICES[choice(slot)]).collect();
            for (slot, flags) in (0..).zip(&flags) {
                world.store(slot, *flags);
            }
            for used in Position::all(size) {
                for held in 0..=size {
                    let next = used.steps(held, size);
                    let mut ring = world.ring(used, next).expect("a state that can be");
                    let what = (size, used, held, &flags);
                    let (expected, expected_fault) = available(&flags, next, held);
                    let any = next.is_available(flags[usize::from(next.slot)]);
                    assert_eq!(ring.has_next(), any, "{what:?}");
                    let (taken, fault) = pop_all(&mut ring);
                    assert_eq!(members(&taken), expected, "{what:?}");
                    assert_eq!(fault, expected_fault, "{what:?}");
                }
            }
        }
    }
}

/// Returns whether a driver is to be told that `count` slots from `start` on are used: §2.8.10,
/// §2.8.21.3 (VQ-NTF-07, VQ-PKD-18). An event in a chain's later slots counts as passed.
fn asks(world: &World, (flags, event): (u16, Position), start: Position, count: u16) -> bool {
    let RingConfig {
        size, event_idx, ..
    } = world.config;
    count > 0
        && match flags {
            1 => false,
            2 if event_idx => (0..count).any(|n| start.steps(n, size) == event),
            _ => true,
        }
}

#[test]
fn chains_are_given_back_and_told_of_as_the_driver_wishes() {
    for size in SIZES {
        for event_idx in [false, true] {
            let world = World::new(size, event_idx);
            for start in Position::all(size) {
                for lengths in cut_into_chains(size) {
                    for (count, reversed) in cuts(lengths.len()) {
                        for flags in WISHES {
                            for event in Position::all(size) {
                                batch(&world, start, &lengths, (count, reversed), (flags, event));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Used descriptors that a driver finds after `lengths` were given back in this order from `start`
/// on: slot, flags, id, length.
fn used_descs(size: u16, start: Position, chains: &[(u16, u16)]) -> Vec<(u16, u16, u16, u32)> {
    let mut at = start;
    let mut descs = Vec::new();
    for (n, (length, id)) in chains.iter().enumerate() {
        let write = if written(n) > 0 { RawDesc::WRITE } else { 0 };
        descs.push((at.slot, at.used() | write, *id, written(n)));
        at = at.steps(*length, size);
    }
    descs
}

/// Takes what is there, gives `count` chains back, and looks at all that the driver sees of it.
fn batch(
    world: &World,
    start: Position,
    lengths: &[u16],
    (count, reversed): (usize, bool),
    (flags, event): (u16, Position),
) {
    let World {
        memory,
        config: RingConfig { size, .. },
        fields,
    } = world;
    let what = (size, start, lengths, count, reversed, flags, event);
    let mut ring = world.filled(start, lengths);
    memory.store(fields.driver_event(), event.event());
    memory.store(fields.driver_flags(), flags);
    // Length and id of each chain: that of its last descriptor.
    let mut at = start;
    let mut chains: Vec<_> = lengths
        .iter()
        .map(|length| {
            let last = at.steps(length - 1, *size);
            at = last.step(*size);
            (*length, id(last.slot))
        })
        .collect();
    chains.truncate(count);
    let given: u16 = chains.iter().map(|(length, _)| length).sum();
    if reversed {
        chains.reverse();
    }
    let slots = || (0..*size).map(|slot| memory.read(fields.desc(slot), 16));
    let before: Vec<_> = slots().collect();
    let (taken, _) = pop_all(&mut ring);
    let all = members(&taken);
    assert_eq!(all.len(), lengths.len(), "{what:?}");
    give_back(&mut ring, taken, count, reversed);
    // A batch is seen as a whole, by the flags of its first descriptor (VQ-PKD-16).
    let first: u16 = memory.load(fields.desc_flags(start.slot));
    let untouched = lengths.is_empty() || start.is_available(first);
    assert!(untouched, "{what:?}");
    let told = ring.publish();
    assert_eq!(told, asks(world, (flags, event), start, given), "{what:?}");
    let mut after = before;
    for (slot, flags, id, written) in used_descs(*size, start, &chains) {
        let desc = &mut after[usize::from(slot)];
        desc[8..12].copy_from_slice(&written.to_le_bytes());
        desc[12..14].copy_from_slice(&id.to_le_bytes());
        desc[14..].copy_from_slice(&flags.to_le_bytes());
    }
    assert!(slots().eq(after), "{what:?}");
    assert!(!ring.publish(), "{what:?}");
    let end = start.steps(given, *size);
    let next = Cursor {
        avail: end.slot,
        avail_wrap: end.wrap,
        used: Some(end.slot),
        used_wrap: end.wrap,
    };
    assert_eq!(ring.cursor(), next, "{what:?}");
    let (rest, fault) = pop_all(&mut ring);
    assert_eq!(members(&rest), all[count..], "{what:?}");
    assert_eq!(fault, None, "{what:?}");
}

/// Returns whether the driver notifies after it made `count` slots available from `start` on:
/// §2.8.10 (VQ-NTF-03).
fn notifies(world: &World, start: Position, count: u16) -> bool {
    let memory = &world.memory;
    match memory.load::<u16>(world.fields.device_flags()) {
        0 => true,
        1 => false,
        2 if world.config.event_idx => {
            let event = memory.load::<u16>(world.fields.device_event());
            let size = world.config.size;
            (0..count).any(|n| start.steps(n, size).event() == event)
        }
        other => panic!("flags {other}"),
    }
}

#[test]
fn the_next_chain_is_notified_of_as_the_device_wishes() {
    for size in SIZES {
        for event_idx in [false, true] {
            let world = World::new(size, event_idx);
            for start in Position::all(size) {
                for lengths in cut_into_chains(size) {
                    let end = start.steps(lengths.iter().sum(), size);
                    let room = size - lengths.iter().sum::<u16>();
                    for taken in 0..=lengths.len() {
                        let what = (size, start, &lengths, taken);
                        let mut ring = world.filled(start, &lengths);
                        for _ in 0..taken {
                            pop(&mut ring).expect("there is one");
                        }
                        ring.disable_notification();
                        assert!(!notifies(&world, end, room), "{what:?}");
                        let more = ring.enable_notification();
                        assert_eq!(more, taken < lengths.len(), "{what:?}");
                        for count in 1..=room {
                            assert!(more || notifies(&world, end, count), "{what:?}");
                        }
                    }
                }
            }
        }
    }
}
