//! Chains and rings that are not what they should be.

use net_queue::header::HDR_LEN;
use net_queue::ring::{AnyRing, Layout, Ring, RingConfig, RingError};
use net_queue::testing::{
    At, GuestRing, PackedFields, Piece, RawDesc, Shape, SplitFields, TestMemory,
};
use net_queue::{DropCause, Engine, MAX_SEGMENTS, QueueFault, Stop};

use crate::pieces::{take, try_take};
use crate::rig::{MERGE, RxRig, TxRig, every_layout, every_ring, frame, packet, restores, ring};

/// VQ-SPL-02: what cannot be a ring is refused, whatever the address.
#[test]
fn ring_outside_memory() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let good = GuestRing::new(&memory, ring(layout, 256)).config();
        let fails = |config: RingConfig| AnyRing::new(&memory.ram(), &config).err();
        assert!(fails(good).is_none());
        let lens = match layout {
            Layout::Split => [256 * 16, 4 + 256 * 2, 4 + 256 * 8],
            Layout::Packed => [256 * 16, 4, 4],
        };
        // Region edges: one with another region right behind it, the last, and the ends of the
        // address space.
        let edge = |region: usize| memory.regions()[region].0 + memory.regions()[region].1 as u64;
        let ends = [edge(0), edge(1), edge(2), 0x1_0000_0000];
        for (area, len) in lens.into_iter().enumerate() {
            let with = |addr| {
                let mut addrs = good.addrs;
                *[&mut addrs.desc, &mut addrs.driver, &mut addrs.device][area] = addr;
                RingConfig { addrs, ..good }
            };
            let align = [16, 2, 4][area];
            for end in ends.into_iter().filter(|_| len > align) {
                assert!(fails(with(end - len + align)).is_some(), "over {end:#x}");
            }
            for end in &ends[..3] {
                let aligned = (end - len) & !15;
                assert!(fails(with(aligned)).is_none(), "up to {end:#x}");
            }
            for addr in [0, 0x8000_0000, !15] {
                assert!(fails(with(addr)).is_some(), "{addr:#x}");
            }
        }
        for (desc, driver, device) in [(8, 0, 0), (0, 1, 0), (0, 0, 2), (0, 3, 0), (1, 0, 0)] {
            let mut config = good;
            config.addrs.desc += desc;
            config.addrs.driver += driver;
            config.addrs.device += device;
            assert!(matches!(fails(config), Some(RingError::Alignment { .. })));
        }
    });
}

/// Whole or refused, never past the edge.
#[test]
fn buffer_at_region_edge() {
    every_layout(|layout| {
        let bytes = packet(60, 1);
        let len = bytes.len() as u64;
        for region in [1, 2] {
            let mut rig = TxRig::new(ring(layout, 16));
            let memory = rig.guest.memory().clone();
            let (start, size) = memory.regions()[region];
            let end = start + size as u64;
            memory.write(end - len, &bytes);
            rig.guest.add(&[Piece::readable(end - len, len as u32)]);
            rig.guest.publish();
            assert_eq!(rig.drain(), [&bytes[..]], "up to the edge");
            rig.guest.poll_all();
            for addr in [end - len + 1, end - 1, end, end + 1] {
                rig.guest.add(&[Piece::readable(addr, len as u32)]);
            }
            rig.guest.publish();
            assert_eq!(rig.survive().0.len(), 4);
            assert_eq!(rig.dropped_for(DropCause::BadAddress), 4);
        }
    });
}

#[test]
fn buffer_over_two_regions() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let seam = memory.regions()[1].0;
        let bytes = packet(1000, 1);
        for before in [1, 5, 12, 13, 500, 1011] {
            let addr = seam - before;
            let mut tx = TxRig::new(ring(layout, 16));
            tx.guest.memory().write(addr, &bytes);
            tx.guest.add(&[Piece::readable(addr, bytes.len() as u32)]);
            tx.guest.publish();
            assert_eq!(tx.drain(), [&bytes[..]], "{before} bytes before the seam");

            let mut rx = RxRig::new(ring(layout, 16), MERGE);
            rx.guest.add(&[Piece::writable(addr, 1100)]);
            rx.guest.publish();
            rx.wire.inject(&bytes[..]);
            rx.drain();
            assert_eq!(rx.take_frame().expect("a frame").1, frame(1000, 1));
        }
    });
}

#[test]
fn zero_length_descriptors() {
    every_layout(|layout| {
        for shape in [Shape::Direct, Shape::Indirect] {
            let mut rig = TxRig::new(ring(layout, 16));
            let nothing = Piece::readable(rig.guest.memory().alloc(1, 1), 0);
            rig.guest.add_as(shape, &vec![nothing; 16]);
            rig.guest.publish();
            assert_eq!(rig.survive().0.len(), 1);
            assert_eq!(rig.dropped_for(DropCause::TooShort), 1);

            let mut rig = RxRig::new(ring(layout, 16), MERGE);
            let nothing = Piece::writable(nothing.addr, 0);
            rig.guest.add_as(shape, &vec![nothing; 15]);
            rig.guest.publish();
            assert_eq!(rig.survive().len(), 1);
        }
    });
}

/// An empty buffer has no address worth looking at.
#[test]
fn zero_length_bad_address() {
    every_layout(|layout| {
        for addr in [0, 0x8000_0000, u64::MAX] {
            let mut rig = TxRig::new(ring(layout, 16));
            let bytes = packet(60, 1);
            let [head, tail] = rig.guest.memory().cut(&bytes, &[20])[..] else {
                unreachable!("two pieces");
            };
            let hole = Piece::readable(addr, 0);
            rig.guest.add(&[hole, head, hole, tail, hole]);
            rig.guest.publish();
            assert_eq!(rig.drain(), [bytes]);
        }
    });
}

/// Memory that is there, time and again: in 32 bits the lengths add up to that of a short frame.
#[test]
fn lengths_that_wrap() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 128));
        let (addr, len) = rig.guest.memory().regions()[2];
        let count = (1 << 32) / len;
        let mut pieces = vec![rig.guest.memory().filled(&packet(60, 1))];
        pieces.extend(vec![Piece::readable(addr, len as u32); count]);
        rig.guest.add(&pieces);
        rig.guest.publish();
        assert_eq!(rig.survive().0.len(), 1);
        assert_eq!(rig.dropped_for(DropCause::TooLong), 1);
    });
}

/// Lengths and addresses that lead out of memory, some beyond 64 bits: refused before anything is
/// done with them.
#[test]
fn huge_length() {
    every_layout(|layout| {
        let region = TestMemory::new().regions()[2];
        let inside = region.0 + 4096;
        let bad: [(u64, u32); 4] = [
            (inside, u32::MAX),
            (u64::MAX - 100, 1000),
            (!0, 1),
            (0x8000_0000, 60),
        ];
        for (addr, len) in bad {
            for count in [1, 2, 9] {
                let mut rig = TxRig::new(ring(layout, 16));
                let head = rig.guest.memory().filled(&[0; HDR_LEN]);
                let mut pieces = vec![head];
                pieces.extend(vec![Piece::readable(addr, len); count]);
                rig.guest.add(&pieces);
                rig.guest.publish();
                assert_eq!(rig.survive().0.len(), 1);
                assert_eq!(rig.dropped_for(DropCause::BadAddress), 1);

                let mut rig = RxRig::new(ring(layout, 16), MERGE);
                pieces.iter_mut().for_each(|piece| piece.writable = true);
                rig.guest.add(&pieces);
                rig.guest.publish();
                assert_eq!(rig.survive().len(), 1);
                assert_eq!(rig.dropped_for(DropCause::BadAddress), 1);
            }
        }
    });
}

/// VQ-SPL-11 and, for a packed ring, more descriptors than there are.
#[test]
fn avail_jump() {
    for (start, jump) in [(0, 17), (0, 1000), (5, 0x8000), (5, 0xffff), (0xfff0, 17)] {
        let cursor = net_queue::ring::Cursor {
            avail: start,
            used: Some(start),
            ..Default::default()
        };
        let mut rig = TxRig::new(RingConfig {
            cursor,
            ..ring(Layout::Split, 16)
        });
        let fields = SplitFields::of(&rig.guest.config());
        rig.guest
            .memory()
            .store(fields.avail_idx(), start.wrapping_add(jump));
        let (used, broken) = rig.survive();
        assert!(broken && used.is_empty());
        assert_eq!(rig.engine.fault(), Some(QueueFault::AvailIndex));
    }
}

/// Chains that the device still has, made available again.
#[test]
fn heads_reused_in_flight() {
    every_layout(|layout| {
        let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, 4));
        let mut device = guest.device();
        let buffer = guest.memory().room(100);
        for _ in 0..4 {
            guest.add(&[buffer]);
        }
        guest.publish();
        let held: Vec<_> = std::iter::from_fn(|| take(&mut device)).collect();
        assert_eq!(held.len(), 4);
        let memory = guest.memory();
        match layout {
            Layout::Split => {
                let fields = SplitFields::of(&guest.config());
                memory.store::<u16>(fields.avail_idx(), 5);
            }
            Layout::Packed => {
                let fields = PackedFields::of(&guest.config());
                memory.store::<u16>(fields.desc_flags(0), 0x8000);
            }
        }
        assert_eq!(try_take(&mut device).err(), Some(QueueFault::AvailIndex));
        restores(guest.memory(), guest.config(), device.cursor());
        for (chain, _) in held {
            device.push_used(chain, 0);
        }
        device.publish();
        restores(guest.memory(), guest.config(), device.cursor());
    });
}

/// VQ-SPL-13, VQ-PKD-13: the same head or id twice, or one beyond the ring, indexes nothing of this
/// side.
#[test]
fn duplicate_heads_and_odd_ids() {
    let mut rig = TxRig::new(ring(Layout::Split, 16));
    rig.send(&packet(60, 1), &[]);
    let fields = SplitFields::of(&rig.guest.config());
    let memory = rig.guest.memory().clone();
    let head = memory.load::<u16>(fields.avail_element(0));
    memory.store(fields.avail_element(1), head);
    memory.store::<u16>(fields.avail_idx(), 2);
    assert_eq!(rig.drain().len(), 2);
    assert_eq!(memory.load::<u16>(fields.used_idx()), 2);

    let mut rig = TxRig::new(ring(Layout::Packed, 16));
    for id in [0xffff, 7, 7] {
        let pieces = rig.guest.memory().cut(&packet(60, 1), &[]);
        rig.guest
            .add_with(Shape::Direct, &pieces, |_, desc| desc.next = id);
    }
    rig.guest.publish();
    assert_eq!(rig.drain().len(), 3);
    let fields = PackedFields::of(&rig.guest.config());
    let id = |slot| rig.guest.memory().load::<u16>(fields.desc(slot) + 12);
    assert_eq!([id(0), id(1), id(2)], [0xffff, 7, 7]);
}

/// VQ-SPL-10: a head or a next that names no descriptor.
#[test]
fn descriptor_beyond_the_table() {
    for head in [16, 0x7fff, 0xffff] {
        let mut rig = TxRig::new(ring(Layout::Split, 16));
        let fields = SplitFields::of(&rig.guest.config());
        rig.guest.memory().store(fields.avail_element(0), head);
        rig.guest.memory().store::<u16>(fields.avail_idx(), 1);
        assert!(rig.survive().1);

        let mut rig = TxRig::new(ring(Layout::Split, 16));
        let pieces = rig.guest.memory().cut(&packet(60, 1), &[12]);
        rig.guest
            .add_with(Shape::Direct, &pieces, |_, desc| desc.next = head);
        rig.guest.publish();
        assert!(rig.survive().1);
        assert_eq!(rig.engine.fault(), Some(QueueFault::DescriptorIndex));
    }
}

/// Fault of a table: changes the descriptor that refers to it, or one entry.
struct BadTable {
    name: &'static str,
    at: At,
    spoil: fn(&mut RawDesc),
}

const fn bad(name: &'static str, at: At, spoil: fn(&mut RawDesc)) -> BadTable {
    BadTable { name, at, spoil }
}

const BAD_TABLES: [BadTable; 6] = [
    bad("no entry", At::Ring(0), |desc| desc.len = 0),
    bad("half an entry", At::Ring(0), |desc| desc.len -= 8),
    bad("one byte more", At::Ring(0), |desc| desc.len += 1),
    bad("longer than any frame's", At::Ring(0), |desc| {
        desc.len = 16 * (MAX_SEGMENTS as u32 + 1)
    }),
    bad("huge", At::Ring(0), |desc| desc.len = !15),
    bad("outside memory", At::Ring(0), |desc| {
        desc.addr = 0x8000_0000
    }),
];

const BAD_SPLIT_TABLES: [BadTable; 3] = [
    bad("nested", At::Table(1), |desc| {
        desc.flags |= RawDesc::INDIRECT
    }),
    bad("next beyond", At::Table(0), |desc| desc.next = 3),
    bad("next far beyond", At::Table(1), |desc| desc.next = 0xffff),
];

/// VQ-SPL-09, VQ-PKD-11: each way in which a table can be wrong costs its chain only.
#[test]
fn indirect_tables() {
    every_layout(|layout| {
        let of_split = BAD_SPLIT_TABLES.iter().filter(|_| layout == Layout::Split);
        for table in BAD_TABLES.iter().chain(of_split) {
            println!("{}", table.name);
            let mut rig = TxRig::new(ring(layout, 16));
            let pieces = rig.guest.memory().cut(&packet(60, 1), &[12, 30]);
            rig.guest.add_with(Shape::Indirect, &pieces, |at, desc| {
                if at == table.at {
                    (table.spoil)(desc);
                }
            });
            rig.guest.publish();
            let (used, broken) = rig.survive();
            assert!(!broken && used.len() == 1);
            assert_eq!(rig.counters.dropped(), 1);
        }
    });
}

/// A sound table whose reference goes on, or (packed) is not alone.
#[test]
fn indirect_tables_in_lists() {
    every_layout(|layout| {
        for place in 0..3 {
            if layout == Layout::Split && place == 2 {
                // That is allowed, and has its own test.
                continue;
            }
            let mut rig = TxRig::new(ring(layout, 16));
            let memory = rig.guest.memory().clone();
            let mut pieces = memory.cut(&packet(60, 1), &[20, 40]);
            let mut entry = [0; 16];
            entry[..8].copy_from_slice(&pieces[place].addr.to_le_bytes());
            entry[8] = pieces[place].len as u8;
            pieces[place] = memory.filled(&entry);
            rig.guest.add_with(Shape::Direct, &pieces, |at, desc| {
                if at == At::Ring(place) {
                    desc.flags |= RawDesc::INDIRECT;
                }
            });
            rig.guest.publish();
            let (used, broken) = rig.survive();
            assert!(!broken && used.len() == 1);
            assert_eq!(rig.dropped_for(DropCause::IndirectTable), 1);
        }
    });
}

#[test]
fn indirect_tables_without_the_feature() {
    every_layout(|layout| {
        let config = RingConfig {
            indirect: false,
            ..ring(layout, 16)
        };
        let mut rig = TxRig::new(config);
        let pieces = rig.guest.memory().cut(&packet(60, 1), &[12, 30]);
        rig.guest.add_as(Shape::Indirect, &pieces);
        rig.guest.publish();
        let (used, broken) = rig.survive();
        assert!(!broken && used.len() == 1);
        assert_eq!(rig.dropped_for(DropCause::IndirectTable), 1);
    });
}

/// Self-loop, cycle of two, all in a circle: the walk ends within the queue's size.
#[test]
fn circular_chain() {
    for (count, len) in [(1, 0), (1, 1), (2, 0), (2, 1), (16, 0), (16, 1)] {
        let mut rig = TxRig::new(ring(Layout::Split, 16));
        let memory = rig.guest.memory().clone();
        let fields = SplitFields::of(&rig.guest.config());
        for index in 0..count {
            let next = u64::from((index + 1) % count);
            memory.store(fields.desc(index), memory.regions()[2].0);
            memory.store(fields.desc(index) + 8, next << 48 | 1 << 32 | len);
        }
        memory.store::<u16>(fields.avail_idx(), 1);
        assert!(rig.survive().1, "{count} of length {len}");

        let mut rig = TxRig::new(ring(Layout::Packed, 16));
        let piece = Piece::readable(rig.guest.memory().alloc(1, 1), len as u32);
        let pieces = vec![piece; usize::from(count)];
        rig.guest.add_with(Shape::Direct, &pieces, |_, desc| {
            desc.flags |= RawDesc::NEXT
        });
        rig.guest.publish();
        assert!(rig.survive().1, "{count} of length {len}");
    }
}

#[test]
fn circle_in_a_table() {
    let mut rig = TxRig::new(ring(Layout::Split, 16));
    let pieces = vec![Piece::readable(rig.guest.memory().alloc(64, 1), 1); 5];
    rig.guest.add_with(Shape::Indirect, &pieces, |at, desc| {
        if let At::Table(_) = at {
            desc.flags |= RawDesc::NEXT;
            desc.next = 0;
        }
    });
    rig.guest.publish();
    assert!(rig.survive().1);
}

/// A chain that fails half-way, then a good one: nothing of the first is left in the second.
#[test]
fn stale_iovecs() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        let good = packet(200, 2);
        for _ in 0..3 {
            let mut pieces = rig.guest.memory().cut(&packet(300, 1), &[12, 40, 100]);
            pieces.push(Piece::readable(0x8000_0000, 10));
            rig.guest.add(&pieces);
            rig.send(&good, &[5, 12, 60]);
        }
        assert_eq!(rig.drain(), vec![good; 3]);

        let mut rig = RxRig::new(config, MERGE);
        let mut pieces = rig.rooms(&[100, 100]);
        pieces.push(Piece::writable(0x8000_0000, 10));
        rig.guest.add(&pieces);
        assert_eq!(rig.survive().len(), 1);
        let written = rig.guest.memory().gather(&pieces[..2], 200);
        assert!(written.iter().all(|byte| *byte == 0xaa));
    });
}

/// A driver that breaks its ring is told so once, and can still be stopped.
#[test]
fn fault_is_latched_and_the_rest_is_published() {
    let mut rig = RxRig::new(ring(Layout::Split, 16), MERGE);
    rig.post(&[100]);
    rig.wire.inject(packet(60, 1));
    rig.wire.inject(packet(60, 2));
    let fields = SplitFields::of(&rig.guest.config());
    rig.drain_one();
    rig.guest.memory().store::<u16>(fields.avail_idx(), 999);
    let stop = rig.run().stop;
    assert!(
        matches!(stop, Stop::Fault(QueueFault::AvailIndex)),
        "{stop:?}"
    );
    assert!(matches!(rig.run().stop, Stop::Fault(_)));
    assert!(!rig.engine.enable_notification());
    rig.engine.drain(&mut rig.limit, None, 0);
    assert_eq!(rig.take_frame().expect("the first frame").1, frame(60, 1));

    let mut rig = TxRig::new(ring(Layout::Split, 16));
    let good = packet(60, 1);
    rig.send(&good, &[]);
    rig.guest
        .memory()
        .store::<u16>(SplitFields::of(&rig.guest.config()).avail_element(1), 77);
    rig.guest
        .memory()
        .store::<u16>(SplitFields::of(&rig.guest.config()).avail_idx(), 2);
    let outcome = rig.run();
    assert!(matches!(outcome.stop, Stop::Fault(_)) && outcome.interrupt);
    assert_eq!(rig.wire.take_sent(), [good]);
    assert_eq!(rig.guest.poll_all().len(), 1);
}
