//! The split ring under all engines.

use net_queue::ring::{Cursor, Layout, RingAddrs, RingConfig};

use crate::arena::Arena;
use crate::bytes::Bytes;
use crate::ring::{Desc, Driver, SIZE, Setup, exercise};
use crate::script::{self, Script, TX};
use crate::{Seed, Target, laps};

/// See the module.
pub const TARGET: Target = Target {
    name: "split",
    run,
    seeds,
};

const DESC: u64 = 0;
const AVAIL: u64 = 0x100;
const USED: u64 = 0x200;

/// Input: a [`Setup`], then what [`exercise`] takes, or [`laps`].
fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let setup = Setup::take(&mut input);
    if laps::asked(&setup) {
        return laps::exercise(input, setup, Layout::Split);
    }
    let arena = Arena::default();
    let mut driver = SplitDriver {
        setup,
        posted: setup.start,
    };
    driver.write_avail_idx(&arena);
    arena.write(USED + 2, &setup.start.to_le_bytes());
    exercise(input, setup, &arena, &mut driver);
}

struct SplitDriver {
    setup: Setup,
    posted: u16,
}

impl SplitDriver {
    fn write_avail_idx(&self, arena: &Arena) {
        arena.write(AVAIL + 2, &self.posted.to_le_bytes());
    }
}

fn slot(index: u16) -> u64 {
    u64::from(index % SIZE)
}

impl Driver for SplitDriver {
    fn config(&self) -> RingConfig {
        let addrs = RingAddrs {
            desc: DESC,
            driver: AVAIL,
            device: USED,
        };
        let cursor = Cursor {
            avail: self.setup.start,
            used: None,
            ..Cursor::default()
        };
        RingConfig {
            layout: Layout::Split,
            size: SIZE,
            addrs,
            event_idx: self.setup.event_idx,
            indirect: self.setup.indirect,
            in_order: self.setup.mode & 1 != 0,
            cursor,
            ..RingConfig::default()
        }
    }

    fn describe(&mut self, arena: &Arena, index: u16, desc: Desc) {
        arena.write(DESC + 16 * slot(index), &desc.to_bytes());
    }

    fn post(&mut self, arena: &Arena, head: u16) {
        let head = if head < 0x80 { head % SIZE } else { head };
        arena.write(AVAIL + 4 + 2 * slot(self.posted), &head.to_le_bytes());
        self.posted = self.posted.wrapping_add(1);
        self.write_avail_idx(arena);
    }

    fn used(&mut self, arena: &Arena, from: Cursor, to: Cursor) -> Vec<u32> {
        let (from, to) = (from.used.unwrap_or(0), to.used.unwrap_or(0));
        let count = to.wrapping_sub(from);
        let len = |n: u16| USED + 4 + 8 * slot(from.wrapping_add(n)) + 4;
        let oldest = count.saturating_sub(SIZE);
        (oldest..count)
            .map(|n| u32::from_le_bytes(arena.read(len(n))))
            .collect()
    }

    fn drained(&self, arena: &Arena, cursor: Cursor, clean: bool) -> bool {
        let idx = u16::from_le_bytes(arena.read(AVAIL + 2));
        cursor.avail == if clean { self.posted } else { idx }
    }
}

fn seeds() -> Vec<Seed> {
    let jump = Script::new(TX, 0, &[]).write(AVAIL as u16, [0xff; 8]).run();
    let mut seeds = script::seeds();
    seeds.extend(laps::seeds());
    seeds.push(("avail_jump", jump.0));
    seeds
}
