//! Properties of split rings alone.

use net_queue::ring::{Cursor, Layout, Ring, RingConfig};
use net_queue::testing::{At, GuestRing, RawDesc, Shape, SplitFields, TestMemory};

use crate::pieces::take;
use crate::rig::ring;

fn config(size: u16) -> RingConfig {
    ring(Layout::Split, size)
}

/// VQ-SPL-06, VQ-SPL-07, VQ-SPL-08: some descriptors directly, then a table in any order, WRITE on
/// its reference.
#[test]
fn direct_descriptors_may_end_in_a_table() {
    for direct in 0..=3 {
        let mut guest = GuestRing::new(&TestMemory::new(), config(8));
        let mut device = guest.device();
        let pieces = [5, 6, 7, 8].map(|len| guest.memory().room(len));
        guest.add_with(Shape::Mixed(direct), &pieces, |at, desc| {
            if at == At::Ring(direct) {
                desc.flags |= RawDesc::WRITE;
            }
        });
        guest.publish();
        assert_eq!(take(&mut device).expect("a chain").1, pieces);
    }
}

/// VQ-SPL-08: the order in a table is that of `next`, from entry 0.
#[test]
fn table_is_followed_by_next() {
    let mut guest = GuestRing::new(&TestMemory::new(), config(8));
    let mut device = guest.device();
    let pieces = [5, 6, 7, 8].map(|len| guest.memory().room(len));
    // 0 -> 2 -> 1, and 3 is never reached.
    guest.add_with(Shape::Indirect, &pieces, |at, desc| match at {
        At::Table(0) => desc.next = 2,
        At::Table(1) => desc.flags &= !RawDesc::NEXT,
        At::Table(2) => desc.next = 1,
        _ => {}
    });
    guest.publish();
    let taken = take(&mut device).expect("a chain").1;
    assert_eq!(taken, [pieces[0], pieces[2], pieces[1]]);
}

/// VQ-NTF-01, VQ-NTF-03, VQ-NTF-04: the flags and events that each side leaves alone.
#[test]
fn suppression_fields() {
    for event_idx in [false, true] {
        let config = RingConfig {
            event_idx,
            ..config(8)
        };
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let memory = guest.memory().clone();
        let fields = SplitFields::of(&guest.config());
        let mut device = guest.device();
        device.disable_notification();
        let flags = || memory.load::<u16>(fields.used_flags());
        assert_eq!(flags(), u16::from(!event_idx));
        device.enable_notification();
        assert_eq!(flags(), 0);

        // The other kind's field says the opposite and must not count.
        memory.store::<u16>(fields.avail_flags(), u16::from(event_idx));
        memory.store::<u16>(fields.used_event(), if event_idx { 0 } else { 0x1234 });
        guest.add(&[memory.room(1)]);
        guest.publish();
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 0);
        assert!(device.publish());
    }
}

/// Without `EVENT_IDX` the rings end earlier: nothing behind them is touched.
#[test]
fn event_words_are_not_touched_without_the_feature() {
    let mut guest = GuestRing::new(&TestMemory::new(), config(8));
    let fields = SplitFields::of(&guest.config());
    guest.memory().store::<u16>(fields.avail_event(), 0xbeef);
    let mut device = guest.device();
    for _ in 0..20 {
        guest.add(&[guest.memory().room(1)]);
        guest.publish();
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 0);
        device.publish();
        device.enable_notification();
        guest.poll_all();
    }
    assert_eq!(guest.memory().load::<u16>(fields.avail_event()), 0xbeef);
}

/// A cursor without a used index takes it from memory, as one that vhost-user hands over.
#[test]
fn used_index_may_come_from_memory() {
    let mut guest = GuestRing::new(&TestMemory::new(), config(8));
    let fields = SplitFields::of(&guest.config());
    for index in [fields.avail_idx(), fields.used_idx()] {
        guest.memory().store::<u16>(index, 0);
    }
    let mut device = guest.device();
    for _ in 0..3 {
        guest.add(&[guest.memory().room(1)]);
        guest.publish();
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 0);
        device.publish();
    }
    let cursor = Cursor {
        avail: 3,
        used: None,
        ..Cursor::default()
    };
    let config = RingConfig {
        cursor,
        ..guest.config()
    };
    let device = net_queue::ring::AnyRing::new(&guest.memory().ram(), &config).expect("a ring");
    assert_eq!(device.cursor().used, Some(3));
}
