//! Devices that are killed between any two stores, and those that go on from the journal.
//!
//! [`kill_after`] keeps every store of ring and journal from memory from some moment on, which is
//! how a process that was killed leaves both. The driver then has to see each chain used once and
//! in order, and each frame as a whole.

use std::collections::VecDeque;
use std::sync::Arc;

use net_queue::SharedBytes;
use net_queue::ring::{AnyRing, JournalError, Layout, Ring, RingConfig, UsedElements, UsedJournal};
use net_queue::testing::{
    DirtyRanges, GuestRing, Piece, Random, TestMemory, is_killed, kill_after, revive,
};
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

use crate::pieces::take;
use crate::rig::{every_layout, ring};

mod engines;

/// A journal, and its bytes as the front-end keeps them.
struct Kept {
    memory: Arc<MmapRegion>,
    journal: UsedJournal,
    len: usize,
}

impl Kept {
    fn new(layout: Layout, size: u16) -> Self {
        let len = UsedJournal::len(layout, size);
        let memory = Arc::new(MmapRegion::new(len.next_multiple_of(4096)).unwrap());
        let part = SharedBytes::new(Arc::clone(&memory)).part(0, len).unwrap();
        let journal = UsedJournal::new(part);
        Self {
            memory,
            journal,
            len,
        }
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        let slice = self.memory.as_volatile_slice();
        slice.read_slice(&mut bytes, 0).unwrap();
        bytes
    }

    fn write(&self, bytes: &[u8]) {
        let slice = self.memory.as_volatile_slice();
        slice.write_slice(bytes, 0).unwrap();
    }

    /// The device that goes on in the ring of `config`.
    fn replacement(&self, memory: &TestMemory, config: RingConfig) -> AnyRing {
        let ram = memory.ram();
        let cursor = self.journal.recover(&ram, &config).unwrap().unwrap();
        let device = AnyRing::new(&ram, &RingConfig { cursor, ..config }).unwrap();
        device.with_journal(self.journal.clone())
    }
}

/// A chain as the driver knows it: its first buffer's address, and bytes that the device wrote.
type Told = (u64, u32);

/// Device and driver of one run.
struct World {
    guest: GuestRing,
    device: AnyRing,
    kept: Kept,
    random: Random,
    /// Chains that the driver waits for, in order.
    posted: VecDeque<u64>,
    /// Frames that are used, and that the driver has not seen.
    frames: VecDeque<Vec<Told>>,
    /// A frame that was being marked used when the device was killed.
    uncertain: Option<Vec<Told>>,
    /// Only one chain is a frame, and it is read.
    transmits: bool,
}

impl World {
    fn new(config: RingConfig, seed: u64) -> Self {
        let guest = GuestRing::new(&TestMemory::new(), config);
        let kept = Kept::new(config.layout, config.size);
        Self {
            device: guest.device().with_journal(kept.journal.clone()),
            guest,
            kept,
            random: Random::new(seed),
            posted: VecDeque::new(),
            frames: VecDeque::new(),
            uncertain: None,
            transmits: config.used_elements == UsedElements::PerBatch,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn post(&mut self) {
        while self.guest.free() > 3 && self.below(8) > 0 {
            let count = 1 + self.below(3);
            let memory = self.guest.memory().clone();
            let pieces: Vec<Piece> = (0..count)
                .map(|_| match self.transmits {
                    true => memory.filled(&[1; 8]),
                    false => memory.room(64),
                })
                .collect();
            self.guest.add(&pieces);
            self.posted.push_back(pieces[0].addr);
        }
        self.guest.publish();
    }

    /// The driver takes what it sees: in order, once, as the device said, and no frame in part.
    fn poll(&mut self) {
        let mut seen: VecDeque<Told> = VecDeque::new();
        for used in self.guest.poll_all() {
            let addr = used.pieces[0].addr;
            assert_eq!(self.posted.pop_front(), Some(addr), "out of order");
            seen.push_back((addr, used.len));
        }
        while !seen.is_empty() {
            let frame = self.frames.pop_front().or_else(|| self.uncertain.take());
            for told in frame.expect("nothing else was used") {
                assert_eq!(seen.pop_front(), Some(told));
            }
        }
    }

    /// The device marks a frame used, if there are chains for it.
    fn push_frame(&mut self) {
        let count = if self.transmits { 1 } else { 1 + self.below(3) };
        let mut chains: Vec<_> = (0..count).map_while(|_| take(&mut self.device)).collect();
        // A frame that does not fit waits.
        if chains.len() < count as usize {
            while let Some((chain, _)) = chains.pop() {
                self.device.undo_pop(chain);
            }
            return;
        }
        let mut frame = Vec::new();
        for (place, (chain, pieces)) in chains.into_iter().enumerate() {
            let written = if self.transmits {
                0
            } else {
                self.below(64) as u32
            };
            frame.push((pieces[0].addr, written));
            let last = place + 1 == count as usize;
            self.device.push_part(chain, written, last);
        }
        if is_killed() {
            self.uncertain = Some(frame);
        } else {
            self.frames.push_back(frame);
        }
    }

    /// Rounds of the device until it is killed.
    fn live(&mut self) {
        loop {
            for _ in 0..1 + self.below(6) {
                self.push_frame();
                if is_killed() {
                    return;
                }
            }
            self.device.publish();
            if is_killed() {
                return;
            }
            self.poll();
            self.post();
        }
    }

    /// Another device takes over, or is killed over that in turn.
    fn replace(&mut self) {
        let (config, memory) = (self.guest.config(), self.guest.memory().clone());
        let stores = self.below(12);
        kill_after(stores);
        let device = self.kept.replacement(&memory, config);
        if revive() {
            self.device = self.kept.replacement(&memory, config);
        } else {
            self.device = device;
        }
        self.poll();
        // What was used is seen now, and what was not is taken again.
        assert!(self.frames.is_empty(), "used chains are lost");
        self.uncertain = None;
    }

    /// Everything that was posted comes back.
    fn finish(&mut self) {
        self.transmits = true;
        while let Some((chain, pieces)) = take(&mut self.device) {
            self.frames.push_back(vec![(pieces[0].addr, 0)]);
            self.device.push_used(chain, 0);
        }
        self.device.publish();
        self.poll();
        assert!(self.posted.is_empty() && self.frames.is_empty());
    }
}

/// Kills the devices of a ring, each at a store between the first ones of its life.
fn kill_many(config: RingConfig, seed: u64) {
    let mut world = World::new(config, seed);
    world.post();
    for _ in 0..12 {
        let stores = 1 + world.below(60);
        kill_after(stores);
        world.live();
        assert!(revive());
        world.replace();
        world.post();
    }
    world.finish();
}

#[test]
fn a_device_that_is_killed_at_any_store_is_replaced_without_a_trace() {
    every_layout(|layout| {
        for size in [4, 8, 64] {
            for in_order in [false, true] {
                for seed in 0..20 {
                    kill_many(
                        RingConfig {
                            in_order,
                            ..ring(layout, size)
                        },
                        seed,
                    );
                }
            }
        }
    });
}

#[test]
fn chains_of_an_element_that_stands_for_a_batch_are_kept_one_by_one() {
    every_layout(|layout| {
        for size in [4, 8, 64] {
            for seed in 0..20 {
                let config = RingConfig {
                    in_order: true,
                    used_elements: UsedElements::PerBatch,
                    ..ring(layout, size)
                };
                kill_many(config, seed);
            }
        }
    });
}

/// A ring of eight descriptors, its journal, and where the ring is.
fn kept_ring(layout: Layout) -> (GuestRing, Kept) {
    let guest = GuestRing::new(&TestMemory::new(), ring(layout, 8));
    (guest, Kept::new(layout, 8))
}

#[test]
fn the_journal_has_the_layout_of_an_in_flight_region() {
    let word = |bytes: &[u8], at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    every_layout(|layout| {
        let (mut guest, kept) = kept_ring(layout);
        let mut device = guest.device().with_journal(kept.journal.clone());
        let memory = guest.memory().clone();
        for _ in 0..2 {
            guest.add(&[memory.room(64), memory.room(64)]);
        }
        let id = guest.add(&[memory.room(64)]);
        guest.publish();
        while let Some((chain, _)) = take(&mut device) {
            device.push_used(chain, 0x0003_0007);
        }
        let bytes = kept.read();
        // Features, version, number of descriptors.
        assert_eq!(
            (&bytes[..8], word(&bytes, 8), word(&bytes, 10)),
            (&[0; 8][..], 1, 8)
        );
        if layout == Layout::Split {
            assert_eq!(bytes.len(), 16 + 8 * 16);
            // Head of the last chain, used index.
            assert_eq!((word(&bytes, 12), word(&bytes, 14)), (id, 3));
            assert!(bytes[16..].iter().all(|byte| *byte == 0));
            return;
        }
        assert_eq!(bytes.len(), 32 + 8 * 32);
        // Free entries, used index, the one before the batch, both wrap counters.
        assert_eq!((word(&bytes, 12), word(&bytes, 14)), (0, 0));
        assert_eq!((word(&bytes, 16), word(&bytes, 18)), (5, 0));
        assert_eq!((bytes[20], bytes[21]), (1, 1));
        // The last chain's entry: mark, next, last, number, id, flags, length.
        let entry = &bytes[32 + 4 * 32..][..32];
        assert_eq!((entry[0], word(entry, 2), word(entry, 4)), (0, 5, 4));
        assert_eq!((word(entry, 6), word(entry, 16)), (1, id));
        assert_eq!(
            (word(entry, 18), word(entry, 20), word(entry, 22)),
            (1 << 15 | 1 << 7 | 2, 7, 3)
        );
        device.publish();
        assert_eq!(word(&kept.read(), 18), 5);
    });
}

#[test]
fn a_journal_that_is_of_no_use_is_refused_and_a_closed_one_says_nothing() {
    every_layout(|layout| {
        let (guest, kept) = kept_ring(layout);
        let (config, ram) = (guest.config(), guest.memory().ram());
        let recover = |size| {
            let config = RingConfig { size, ..config };
            kept.journal.recover(&ram, &config)
        };
        assert!(recover(8).unwrap().is_none());
        let _device = guest.device().with_journal(kept.journal.clone());
        assert!(recover(8).unwrap().is_some());
        // A front-end may have room for more than the driver's ring.
        assert!(recover(4).unwrap().is_some());
        assert!(matches!(recover(0), Err(JournalError::Ring(_))));
        let good = kept.read();
        let refusal = |changes: &[(usize, u8)]| {
            let mut other = good.clone();
            for (at, value) in changes {
                other[*at] = *value;
            }
            kept.write(&other);
            recover(8).unwrap_err()
        };
        for change in [(8, 2), (10, 7), (10, 9)] {
            let error = refusal(&[change]);
            assert!(
                matches!(error, JournalError::Form { .. }),
                "{change:?}: {error}"
            );
        }
        // The last entry is marked as in flight.
        let entry = if layout == Layout::Split { 16 } else { 32 };
        let error = refusal(&[(entry + 7 * entry, 1)]);
        assert!(matches!(error, JournalError::OutOfOrder));
        if layout == Layout::Packed {
            // Beyond the ring; used before published in one lap, or more than a lap behind.
            for changes in [
                &[(16, 8)][..],
                &[(18, 9)],
                &[(16, 1), (18, 2)],
                &[(16, 3), (18, 2), (20, 0)],
            ] {
                let error = refusal(changes);
                assert!(matches!(error, JournalError::Positions(_)), "{changes:?}");
            }
        }
        kept.write(&good);
        kept.journal.close();
        assert!(recover(8).unwrap().is_none());
    });
}

#[test]
fn elements_that_do_not_fill_the_gap_are_refused_before_the_ring_is_touched() {
    let (mut guest, kept) = kept_ring(Layout::Packed);
    let mut device = guest.device().with_journal(kept.journal.clone());
    let memory = guest.memory().clone();
    for _ in 0..3 {
        guest.add(&[memory.room(64)]);
    }
    guest.publish();
    while let Some((chain, _)) = take(&mut device) {
        device.push_used(chain, 7);
    }
    let (config, ram) = (guest.config(), guest.memory().ram());
    let ring = || memory.read(config.addrs.desc, 8 * 16);
    let (good, before) = (kept.read(), ring());
    // The second of three chains takes no slot, or one too many for the last one.
    for places in [0, 3] {
        let mut other = good.clone();
        other[32 + 32 + 6] = places;
        kept.write(&other);
        let error = kept.journal.recover(&ram, &config).unwrap_err();
        assert!(matches!(error, JournalError::Positions(_)), "{error}");
        assert_eq!(ring(), before);
    }
    kept.write(&good);
    kept.journal.recover(&ram, &config).unwrap();
    assert_eq!(guest.poll_all().len(), 3);
}

#[test]
fn the_journal_of_another_life_of_a_split_ring_shows_nothing() {
    let (guest, kept) = kept_ring(Layout::Split);
    let _device = guest.device().with_journal(kept.journal.clone());
    let mut bytes = kept.read();
    // The driver has nothing available.
    bytes[14] = 5;
    kept.write(&bytes);
    let (config, ram) = (guest.config(), guest.memory().ram());
    let cursor = kept.journal.recover(&ram, &config).unwrap().unwrap();
    assert_eq!((cursor.avail, cursor.used), (0, Some(0)));
    assert_eq!(guest.memory().load::<u16>(config.addrs.device + 2), 0);
}

/// Or else a migration would miss what the driver was shown, or copy more than that.
#[test]
fn what_is_shown_from_the_journal_is_marked_and_nothing_else() {
    every_layout(|layout| {
        let (mut guest, kept) = kept_ring(layout);
        let mut device = guest.device().with_journal(kept.journal.clone());
        let memory = guest.memory().clone();
        for _ in 0..8 {
            guest.add(&[memory.room(64)]);
        }
        guest.publish();
        while let Some((chain, _)) = take(&mut device) {
            device.push_used(chain, 7);
        }
        let (config, marks) = (guest.config(), Arc::new(DirtyRanges::default()));
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        kept.journal.recover(&ram, &config).unwrap().unwrap();
        let mut marked = marks.take();
        marked.sort_unstable();
        let shown: Vec<_> = match layout {
            // The index alone: its elements were in the ring before.
            Layout::Split => vec![(config.addrs.device + 2, 2)],
            Layout::Packed => (0..8)
                .map(|n| (config.addrs.desc + 16 * n + 8, 8))
                .collect(),
        };
        assert_eq!(marked, shown);
    });
}
