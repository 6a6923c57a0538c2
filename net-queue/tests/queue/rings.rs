//! Both layouts: chains go round and round, and the cursor tells all.

use net_queue::ring::{AnyRing, Cursor, Layout, Ring, RingAddrs, RingConfig, RingError};
use net_queue::testing::{GuestRing, Interrupts, LAYOUTS, Piece, Shape, TestMemory};
use net_queue::{DropCause, MAX_SEGMENTS};

use crate::pieces::{filled, take};
use crate::rig::{RxRig, SINGLE, TxRig, every_layout, every_ring, frame, packet, ring};

/// Sizes that are fine for `layout`.
fn sizes(layout: Layout) -> Vec<u16> {
    match layout {
        Layout::Split => vec![1, 2, 16, 256, 1 << 15],
        Layout::Packed => vec![1, 2, 3, 7, 16, 100, 256, (1 << 15) - 1, 1 << 15],
    }
}

/// VQ-SPL-17, VQ-PKD-01, VQ-PKD-02: far more chains than the indices count.
#[test]
fn many_laps_in_rings_of_all_sizes() {
    every_layout(|layout| {
        for size in sizes(layout) {
            let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, size));
            let mut device = guest.device();
            let buffer = guest.memory().room(64);
            let enough = match layout {
                Layout::Split => 70_000,
                Layout::Packed => 3 * u32::from(size) + 10,
            };
            let mut chains = 0_u32;
            while chains < enough {
                let batch = guest.free().min(1000);
                let ids: Vec<_> = (0..batch).map(|_| guest.add(&[buffer])).collect();
                guest.publish();
                while let Some((chain, pieces)) = take(&mut device) {
                    assert_eq!(pieces, [buffer]);
                    device.push_used(chain, 7);
                }
                device.publish();
                let used = guest.poll_all();
                assert!(used.iter().map(|used| used.id).eq(ids));
                assert!(used.iter().all(|used| used.len == 7));
                chains += used.len() as u32;
            }
        }
    });
}

/// Chains of all lengths and shapes, so that they cross the ring's end in every way.
#[test]
fn chains_of_varied_length_cross_the_end() {
    every_layout(|layout| {
        for size in sizes(layout).into_iter().filter(|size| *size <= 256) {
            let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, size));
            let mut device = guest.device();
            for lap in 0..2000 {
                let len = 1 + lap % usize::from(size).min(9);
                let pieces: Vec<_> = (0..len).map(|n| guest.memory().room(n)).collect();
                let shape = if lap % 5 == 4 {
                    Shape::Indirect
                } else {
                    Shape::Direct
                };
                let id = guest.add_as(shape, &pieces);
                guest.publish();
                let (chain, taken) = take(&mut device).expect("a chain");
                assert_eq!(taken, filled(&pieces));
                device.push_used(chain, 0);
                device.publish();
                assert_eq!(guest.poll().expect("the chain").id, id);
            }
        }
    });
}

#[test]
fn undone_chain_is_taken_again() {
    every_layout(|layout| {
        let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, 8));
        let mut device = guest.device();
        for lap in 0..50 {
            let first: Vec<_> = (0..1 + lap % 3).map(|n| guest.memory().room(n)).collect();
            let second: Vec<_> = (0..1 + lap % 4).map(|n| guest.memory().room(n)).collect();
            guest.add(&first);
            guest.add(&second);
            guest.publish();
            for _ in 0..3 {
                let (one, pieces) = take(&mut device).expect("the first");
                assert_eq!(pieces, filled(&first));
                let (two, pieces) = take(&mut device).expect("the second");
                assert_eq!(pieces, filled(&second));
                device.undo_pop(two);
                device.undo_pop(one);
            }
            let (one, _) = take(&mut device).expect("the first");
            device.push_used(one, 0);
            let (two, _) = take(&mut device).expect("the second");
            device.undo_pop(two);
            device.publish();
            let (two, pieces) = take(&mut device).expect("the second");
            assert_eq!(pieces, filled(&second));
            device.push_used(two, 0);
            device.publish();
            assert_eq!(guest.poll_all().len(), 2);
        }
    });
}

/// Nothing shows before the publish, then all of it does (NET-RX-05, VQ-SPL-15).
#[test]
fn batch_is_published_at_once() {
    every_layout(|layout| {
        let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, 7_u16.next_power_of_two()));
        let mut device = guest.device();
        for count in 1..=8 {
            let buffer = guest.memory().room(16);
            for _ in 0..count {
                guest.add(&[buffer]);
            }
            guest.publish();
            for n in 0..count {
                let (chain, _) = take(&mut device).expect("a chain");
                device.push_used(chain, n);
                assert_eq!(guest.poll(), None);
            }
            assert!(device.publish());
            assert!(!device.publish(), "nothing new");
            let lens: Vec<_> = guest.poll_all().iter().map(|used| used.len).collect();
            assert_eq!(lens, (0..count).collect::<Vec<_>>());
        }
    });
}

/// The saved position is enough to go on with another ring, anywhere in a lap.
#[test]
fn ring_goes_on_from_its_cursor() {
    every_ring(8, |config| {
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let mut device = guest.device();
        for lap in 0..100 {
            let pieces: Vec<_> = (0..1 + lap % 3).map(|n| guest.memory().room(n)).collect();
            guest.add(&pieces);
            guest.publish();
            let cursor = device.cursor();
            let config = RingConfig {
                cursor,
                ..guest.config()
            };
            device = AnyRing::new(&guest.memory().ram(), &config).expect("its own cursor");
            let (chain, taken) = take(&mut device).expect("a chain");
            assert_eq!(taken, filled(&pieces));
            device.push_used(chain, 0);
            device.publish();
            assert_eq!(guest.poll_all().len(), 1);
        }
    });
}

/// VQ-NTF-06: whatever is published between taking and arming is seen by one of them.
#[test]
fn arm_tells_whether_a_chain_is_there() {
    every_ring(4, |config| {
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let mut device = guest.device();
        for _ in 0..20 {
            assert!(!device.enable_notification());
            let buffer = guest.memory().room(16);
            guest.add(&[buffer]);
            assert!(guest.publish(), "the device asked for a kick");
            assert!(device.enable_notification());
            device.disable_notification();
            let (chain, _) = take(&mut device).expect("a chain");
            guest.add(&[buffer]);
            let kick = guest.publish();
            assert!(config.event_idx || !kick, "the device asked for none");
            device.push_used(chain, 0);
            let (chain, _) = take(&mut device).expect("a chain");
            device.push_used(chain, 0);
            device.publish();
            assert_eq!(guest.poll_all().len(), 2);
        }
    });
}

/// VQ-NTF-04: a device that is awake anyway takes its wish back before the driver has followed it.
#[test]
fn a_wish_that_is_taken_back_brings_no_kick() {
    every_ring(4, |config| {
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let mut device = guest.device();
        let buffer = guest.memory().room(1);
        // Once round every index there is.
        for _ in 0..0x1_0000 / 2 + 3 {
            assert!(!device.enable_notification());
            device.disable_notification();
            for _ in 0..2 {
                guest.add(&[buffer]);
                assert!(!guest.publish(), "a kick that nobody asked for");
                let (chain, _) = take(&mut device).expect("a chain");
                device.push_used(chain, 0);
            }
            device.publish();
            assert_eq!(guest.poll_all().len(), 2);
        }
    });
}

#[test]
fn driver_says_whether_it_wants_interrupts() {
    every_ring(16, |config| {
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let mut device = guest.device();
        let buffer = guest.memory().room(16);
        let mut use_one = |guest: &mut GuestRing| {
            guest.add(&[buffer]);
            guest.publish();
            let (chain, _) = take(&mut device).expect("a chain");
            device.push_used(chain, 0);
            let interrupt = device.publish();
            guest.poll_all();
            interrupt
        };
        for _ in 0..40 {
            guest.ask(Interrupts::Never);
            assert!(!use_one(&mut guest));
            guest.ask(Interrupts::Always);
            assert!(use_one(&mut guest));
        }
    });
}

/// VQ-NTF-02, VQ-NTF-07: every distance and batch size, at every place of a lap and round the end
/// of the indices.
#[test]
fn event_index_is_met_exactly() {
    every_layout(|layout| {
        let starts = match layout {
            Layout::Split => vec![0, 3, 65_520, 65_535],
            Layout::Packed => vec![0, 3, 7],
        };
        for start in starts {
            for batch in 1..=8_u16 {
                for wanted in 1..=8_u16 {
                    let told = interrupts_of_batch(layout, start, batch, wanted);
                    assert_eq!(told, wanted <= batch, "{start} {batch} {wanted}");
                }
            }
        }
    });
}

fn interrupts_of_batch(layout: Layout, start: u16, batch: u16, wanted: u16) -> bool {
    let cursor = Cursor {
        avail: start,
        used: Some(start),
        ..Cursor::default()
    };
    let config = RingConfig {
        cursor,
        event_idx: true,
        ..ring(layout, 8)
    };
    let mut guest = GuestRing::new(&TestMemory::new(), config);
    let mut device = guest.device();
    let buffer = guest.memory().room(16);
    for _ in 0..batch {
        guest.add(&[buffer]);
    }
    guest.publish();
    guest.ask(Interrupts::After(wanted));
    while let Some((chain, _)) = take(&mut device) {
        device.push_used(chain, 0);
    }
    device.publish()
}

#[test]
fn sizes_that_no_ring_has() {
    let memory = TestMemory::new();
    for layout in LAYOUTS {
        let good = GuestRing::new(&memory, ring(layout, 256)).config();
        for size in [0, 3, 100, (1 << 15) + 1, u16::MAX] {
            let made = AnyRing::new(&memory.ram(), &RingConfig { size, ..good });
            let fine = layout == Layout::Packed && [3, 100].contains(&size);
            assert_eq!(made.is_ok(), fine, "{layout:?} {size}");
        }
    }
}

/// A saved cursor is input like any other.
#[test]
fn cursors_that_no_ring_has() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let good = GuestRing::new(&memory, ring(layout, 8)).config();
        let at = |avail, used, avail_wrap, used_wrap| Cursor {
            avail,
            used,
            avail_wrap,
            used_wrap,
        };
        let bad = match layout {
            Layout::Split => vec![
                at(9, Some(0), true, true),
                at(0, Some(1), true, true),
                at(65_535, Some(6), true, true),
                at(9, None, true, true),
            ],
            Layout::Packed => vec![
                at(8, Some(0), true, true),
                at(0, Some(8), true, true),
                at(0, Some(1), true, true),
                at(1, Some(0), false, true),
                at(7, Some(6), true, false),
                at(0, None, true, true),
            ],
        };
        for cursor in bad {
            let made = AnyRing::new(&memory.ram(), &RingConfig { cursor, ..good });
            assert!(matches!(made, Err(RingError::Cursor { .. })), "{cursor:?}");
        }
        let fine = match layout {
            Layout::Split => vec![
                at(8, Some(0), true, true),
                at(3, Some(65_535), true, true),
                at(8, None, true, true),
            ],
            Layout::Packed => vec![
                at(7, Some(0), true, true),
                at(0, Some(0), false, true),
                at(2, Some(5), true, false),
            ],
        };
        for cursor in fine {
            let made = AnyRing::new(&memory.ram(), &RingConfig { cursor, ..good });
            assert!(made.is_ok(), "{cursor:?}");
        }
    });
}

/// VQ-SPL-05, VQ-PKD-17: what is the driver's is never written.
#[test]
fn driver_areas_are_never_written() {
    every_ring(8, |config| {
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let mut device = guest.device();
        let pieces: [Piece; 3] = [1, 2, 3].map(|len| guest.memory().room(len));
        guest.add_as(Shape::Indirect, &pieces);
        guest.add(&pieces);
        guest.publish();
        let addrs = guest.config().addrs;
        let split = config.layout == Layout::Split;
        let memory = guest.memory().clone();
        let areas = || {
            let desc = memory.read(addrs.desc, if split { 16 * 8 } else { 0 });
            let driver = memory.read(addrs.driver, if split { 6 + 2 * 8 } else { 4 });
            (desc, driver)
        };
        let before = areas();
        device.enable_notification();
        device.disable_notification();
        while let Some((chain, _)) = take(&mut device) {
            device.push_used(chain, 1);
        }
        device.publish();
        device.enable_notification();
        assert_eq!(areas(), before);
        assert_eq!(guest.poll_all().len(), 2);
    });
}

/// VQ-SPL-09, VQ-PKD-11: Linux builds tables of as many entries as a frame has fragments, whatever
/// the ring's size.
#[test]
fn indirect_table_may_be_longer_than_the_ring() {
    for size in [1, 2, 16] {
        every_ring(size, |config| {
            for entries in [17, 19, 256, 1023] {
                let bytes = packet(2500, u64::from(size));
                let cuts: Vec<usize> = (1..entries).collect();
                let mut tx = TxRig::new(config);
                let pieces = tx.guest.memory().cut(&bytes, &cuts);
                tx.guest.add_as(Shape::Indirect, &pieces);
                tx.guest.publish();
                assert_eq!(tx.drain(), [&bytes[..]], "{entries} entries");
                assert_eq!(tx.guest.poll_all().len(), 1);

                let mut rx = RxRig::new(config, SINGLE);
                let mut lens = vec![3; entries - 1];
                lens.push(2600);
                let rooms = rx.rooms(&lens);
                rx.guest.add_as(Shape::Indirect, &rooms);
                rx.guest.publish();
                rx.wire.inject(bytes);
                rx.drain();
                let (_, received, _) = rx.take_frame().expect("a frame");
                assert_eq!(received, frame(2500, u64::from(size)), "{entries} entries");
            }
        });
    }
}

/// As many entries as one system call takes pieces, of which some may be empty, and no more.
#[test]
fn indirect_table_is_bounded_by_what_a_frame_can_have() {
    every_ring(16, |config| {
        for (entries, fits) in [(MAX_SEGMENTS, true), (MAX_SEGMENTS + 1, false)] {
            let mut rig = TxRig::new(config);
            let bytes = packet(60, 1);
            let mut pieces = rig.guest.memory().cut(&bytes, &[12]);
            pieces.resize(entries, Piece::readable(0, 0));
            rig.guest.add_as(Shape::Indirect, &pieces);
            rig.guest.publish();
            assert_eq!(rig.drain().len(), usize::from(fits));
            assert_eq!(rig.dropped_for(DropCause::IndirectTable), u64::from(!fits));
        }
    });
}

#[test]
fn a_ring_says_where_its_areas_lie() {
    for (layout, event_idx, lens) in [
        (Layout::Split, false, [128, 20, 68]),
        (Layout::Split, true, [128, 22, 70]),
        (Layout::Packed, false, [128, 4, 4]),
        (Layout::Packed, true, [128, 4, 4]),
    ] {
        let config = RingConfig {
            addrs: RingAddrs {
                desc: 0x1000,
                driver: 0x2000,
                device: 0x3000,
            },
            event_idx,
            ..ring(layout, 8)
        };
        let packed = layout == Layout::Packed;
        let [desc, driver, device] = lens;
        let areas = [
            (0x1000, desc, packed),
            (0x2000, driver, false),
            (0x3000, device, true),
        ];
        assert_eq!(config.areas(), areas, "{layout:?} {event_idx}");
        for (at, len, _) in areas {
            let end = at + len;
            assert!(config.overlaps(end - 1, 1) && config.overlaps(at - 1, 2));
            assert!(!config.overlaps(end, 1) && !config.overlaps(at - 1, 1));
        }
    }
}
