//! Properties of packed rings alone.

use net_queue::QueueFault;
use net_queue::ring::{Layout, Ring, RingConfig};
use net_queue::testing::{At, GuestRing, PackedFields, RawDesc, Shape, TestMemory};

use crate::pieces::{take, try_take};
use crate::rig::ring;

const AVAIL: u16 = 0x80;
const USED: u16 = 0x8000;

fn guest(size: u16) -> GuestRing {
    GuestRing::new(&TestMemory::new(), ring(Layout::Packed, size))
}

fn flags(guest: &GuestRing, slot: u16) -> u16 {
    guest
        .memory()
        .load(PackedFields::of(&guest.config()).desc_flags(slot))
}

/// VQ-PKD-03: a zeroed ring is empty, and so is one of used descriptors.
#[test]
fn stale_descriptors_are_not_available() {
    let mut guest = guest(4);
    let mut device = guest.device();
    for _ in 0..20 {
        assert!(take(&mut device).is_none());
        guest.add(&[guest.memory().room(1)]);
        assert!(take(&mut device).is_none(), "not shown yet");
        guest.publish();
        let (chain, _) = take(&mut device).expect("a chain");
        assert!(take(&mut device).is_none());
        device.push_used(chain, 0);
        assert!(take(&mut device).is_none());
        device.publish();
        guest.poll_all();
    }
}

/// VQ-PKD-08: both bits as the device's wrap counter, WRITE with bytes only.
#[test]
fn used_flags() {
    let mut guest = guest(2);
    let mut device = guest.device();
    for lap in 0..4 {
        for (slot, written) in [(0, 0), (1, 5)] {
            guest.add(&[guest.memory().room(8)]);
            guest.publish();
            let (chain, _) = take(&mut device).expect("a chain");
            device.push_used(chain, written);
            device.publish();
            let bits = if lap % 2 == 0 { AVAIL | USED } else { 0 };
            let write = if written > 0 { RawDesc::WRITE } else { 0 };
            assert_eq!(flags(&guest, slot), bits | write, "lap {lap}");
            guest.poll_all();
        }
    }
}

/// VQ-PKD-06, VQ-PKD-07, VQ-PKD-09: one used descriptor per list, at the next used place, whose id
/// is the last's.
#[test]
fn lists_are_used_by_one_descriptor_each() {
    let mut guest = guest(8);
    let mut device = guest.device();
    let rooms = |count: usize| vec![guest.memory().room(8); count];
    let (three, one, two) = (rooms(3), rooms(1), rooms(2));
    let ids = [guest.add(&three), guest.add(&one), guest.add(&two)];
    guest.publish();
    for _ in 0..3 {
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 4);
    }
    device.publish();
    let used: Vec<_> = (0..6).map(|slot| flags(&guest, slot) & USED != 0).collect();
    assert_eq!(used, [true, false, false, true, true, false]);
    assert!(guest.poll_all().iter().map(|used| used.id).eq(ids));
}

/// VQ-PKD-16, NET-RX-15: until the publish the first descriptor of a batch looks as the driver left
/// it.
#[test]
fn first_flags_of_a_batch_are_written_last() {
    let mut guest = guest(8);
    let mut device = guest.device();
    for _ in 0..3 {
        guest.add(&[guest.memory().room(8)]);
    }
    guest.publish();
    let before = flags(&guest, 0);
    for _ in 0..3 {
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 8);
    }
    assert_eq!(flags(&guest, 0), before);
    assert_eq!(flags(&guest, 1), AVAIL | USED | RawDesc::WRITE);
    device.publish();
    assert_eq!(flags(&guest, 0), AVAIL | USED | RawDesc::WRITE);
}

/// VQ-PKD-10: of a table's entries only WRITE counts, and that of the reference does not.
#[test]
fn table_entries_may_hold_junk() {
    let mut guest = guest(4);
    let mut device = guest.device();
    let pieces = [
        guest.memory().filled(b"abc"),
        guest.memory().room(5),
        guest.memory().room(6),
    ];
    guest.add_with(Shape::Indirect, &pieces, |at, desc| match at {
        At::Table(place) => {
            desc.flags |= [RawDesc::NEXT, RawDesc::INDIRECT, AVAIL | USED][place];
            desc.next = 0xffff;
        }
        At::Ring(_) => desc.flags |= RawDesc::WRITE,
    });
    guest.publish();
    assert_eq!(take(&mut device).expect("a chain").1, pieces);
}

/// VQ-PKD-03: a list that goes on in a descriptor which is not available is not followed.
#[test]
fn list_into_unavailable_descriptors() {
    for size in [1, 2, 5] {
        let mut guest = guest(size);
        let mut device = guest.device();
        guest.add_with(Shape::Direct, &[guest.memory().room(1)], |_, desc| {
            desc.flags |= RawDesc::NEXT;
        });
        guest.publish();
        let fault = if size == 1 {
            QueueFault::DescriptorLoop
        } else {
            QueueFault::NotAvailable
        };
        assert_eq!(try_take(&mut device).err(), Some(fault));
    }
}

/// VQ-PKD-17, VQ-NTF-08: the device's own event area, never with a reserved bit.
#[test]
fn device_event_area() {
    for event_idx in [false, true] {
        let config = RingConfig {
            event_idx,
            ..ring(Layout::Packed, 3)
        };
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let fields = PackedFields::of(&guest.config());
        let memory = guest.memory().clone();
        let mut device = guest.device();
        for lap in 0..7_u16 {
            device.enable_notification();
            let (slot, wrap) = (lap % 3, lap / 3 % 2 == 0);
            let event = if event_idx {
                slot | u16::from(wrap) << 15
            } else {
                0
            };
            assert_eq!(memory.load::<u16>(fields.device_event()), event);
            assert_eq!(
                memory.load::<u16>(fields.device_flags()),
                if event_idx { 2 } else { 0 }
            );
            guest.add(&[memory.room(1)]);
            assert!(guest.publish());
            device.disable_notification();
            assert_eq!(memory.load::<u16>(fields.device_flags()), 1);
            let (chain, _) = take(&mut device).expect("a chain");
            device.push_used(chain, 0);
            device.publish();
            guest.poll_all();
        }
    }
}

/// VQ-PKD-18: reserved flags, DESC without the feature, or a slot beyond the ring: told rather than
/// not.
#[test]
fn odd_driver_events() {
    for (event_idx, value, event, told) in [
        (false, 2, 0, true),
        (false, 3, 0, true),
        (true, 3, 0, true),
        (true, 0x8000, 0, true),
        (true, 2, 0x7fff, false),
        (true, 2, 0xffff, false),
        (true, 1, 0, false),
    ] {
        let config = RingConfig {
            event_idx,
            ..ring(Layout::Packed, 4)
        };
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let fields = PackedFields::of(&guest.config());
        let mut device = guest.device();
        guest.memory().store::<u16>(fields.driver_event(), event);
        guest.memory().store::<u16>(fields.driver_flags(), value);
        guest.add(&[guest.memory().room(1)]);
        guest.publish();
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 0);
        assert_eq!(device.publish(), told, "{event_idx} {value:#x} {event:#x}");
        assert_eq!(guest.poll_all().len(), 1);
    }
}

/// VQ-NTF-07: an event inside a list counts as passed with it.
#[test]
fn event_in_the_middle_of_a_list() {
    for event in 0..6_u16 {
        let config = RingConfig {
            event_idx: true,
            ..ring(Layout::Packed, 8)
        };
        let mut guest = GuestRing::new(&TestMemory::new(), config);
        let fields = PackedFields::of(&guest.config());
        let mut device = guest.device();
        let pieces = vec![guest.memory().room(1); 4];
        guest.add(&pieces);
        guest.publish();
        guest
            .memory()
            .store::<u16>(fields.driver_event(), event | 0x8000);
        guest.memory().store::<u16>(fields.driver_flags(), 2);
        let (chain, _) = take(&mut device).expect("a chain");
        device.push_used(chain, 0);
        assert_eq!(device.publish(), event < 4, "{event}");
    }
}
