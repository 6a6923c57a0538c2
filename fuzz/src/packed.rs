//! The packed ring under all engines.

use net_queue::ring::{Cursor, Layout, RingAddrs, RingConfig};

use crate::arena::Arena;
use crate::bytes::Bytes;
use crate::ring::{Desc, Driver, SIZE, Setup, exercise};
use crate::{Seed, Target, laps, script};

/// See the module.
pub const TARGET: Target = Target {
    name: "packed",
    run,
    seeds,
};

const RING: u64 = 0;
const DRIVER: u64 = 0x100;
const DEVICE: u64 = 0x200;

/// `VIRTQ_DESC_F_AVAIL` and `VIRTQ_DESC_F_USED`.
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Input: a [`Setup`], whose start is a slot and, in bit 15, a wrap counter; then what [`exercise`]
/// takes, or [`laps`].
fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let setup = Setup::take(&mut input);
    if laps::asked(&setup) {
        return laps::exercise(input, setup, Layout::Packed);
    }
    let mut driver = PackedDriver {
        setup,
        table: [Desc::default(); SIZE as usize],
        slot: setup.start % SIZE,
        wrap: setup.start & 0x8000 != 0,
        outstanding: 0,
        overrun: false,
    };
    exercise(input, setup, &Arena::default(), &mut driver);
}

struct PackedDriver {
    setup: Setup,
    /// Chains are copied from here into the ring.
    table: [Desc; SIZE as usize],
    /// Slot of the next descriptor.
    slot: u16,
    wrap: bool,
    /// Descriptors put and not used.
    outstanding: u16,
    /// Some were put over others that were not used.
    overrun: bool,
}

impl PackedDriver {
    fn put(&mut self, arena: &Arena, desc: Desc, id: u16) {
        let lap = if self.wrap { AVAIL } else { USED };
        let wire = Desc {
            flags: desc.flags | lap,
            next: id,
            ..desc
        };
        // A packed descriptor has its last two fields the other way round.
        let mut bytes = wire.to_bytes();
        bytes[12..].rotate_left(2);
        arena.write(RING + 16 * u64::from(self.slot), &bytes);
        self.slot = (self.slot + 1) % SIZE;
        self.wrap ^= self.slot == 0;
        self.outstanding = self.outstanding.saturating_add(1);
        self.overrun |= self.outstanding > SIZE;
    }
}

impl Driver for PackedDriver {
    fn config(&self) -> RingConfig {
        let addrs = RingAddrs {
            desc: RING,
            driver: DRIVER,
            device: DEVICE,
        };
        let (slot, wrap) = (self.setup.start % SIZE, self.setup.start & 0x8000 != 0);
        let cursor = Cursor {
            avail: slot,
            used: Some(slot),
            avail_wrap: wrap,
            used_wrap: wrap,
        };
        RingConfig {
            layout: Layout::Packed,
            size: SIZE,
            addrs,
            event_idx: self.setup.event_idx,
            indirect: self.setup.indirect,
            in_order: self.setup.mode & 1 != 0,
            cursor,
            ..RingConfig::default()
        }
    }

    fn describe(&mut self, _: &Arena, index: u16, desc: Desc) {
        self.table[usize::from(index % SIZE)] = desc;
    }

    /// The list may loop, and then it is as long as the ring; nothing keeps it from overrunning
    /// what the device has not used.
    fn post(&mut self, arena: &Arena, head: u16) {
        let mut at = head;
        for _ in 0..SIZE {
            let desc = self.table[usize::from(at % SIZE)];
            self.put(arena, desc, head);
            if desc.flags & Desc::NEXT == 0 {
                return;
            }
            at = desc.next;
        }
    }

    /// Only the first one's: how many slots it covers is known to nobody but the device.
    fn used(&mut self, arena: &Arena, from: Cursor, to: Cursor) -> Vec<u32> {
        let first = from.used.unwrap_or(0);
        let lap = if from.used_wrap == to.used_wrap {
            0
        } else {
            SIZE
        };
        let moved = (to.used.unwrap_or(0) + lap).wrapping_sub(first);
        self.outstanding = self.outstanding.saturating_sub(moved);
        let len = u32::from_le_bytes(arena.read(RING + 16 * u64::from(first) + 8));
        (moved > 0).then_some(len).into_iter().collect()
    }

    fn drained(&self, arena: &Arena, cursor: Cursor, clean: bool) -> bool {
        if clean && !self.overrun {
            return (cursor.avail, cursor.avail_wrap) == (self.slot, self.wrap);
        }
        let slot = u64::from(cursor.avail);
        let flags = u16::from_le_bytes(arena.read(RING + 16 * slot + 14));
        (flags & AVAIL != 0) != cursor.avail_wrap || (flags & USED != 0) == cursor.avail_wrap
    }
}

fn seeds() -> Vec<Seed> {
    let mut seeds = script::seeds();
    seeds.extend(laps::seeds());
    seeds
}
