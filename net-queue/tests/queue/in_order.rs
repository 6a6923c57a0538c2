//! `VIRTIO_F_IN_ORDER`: one used element for a batch. VQ-SPL-19, VQ-SPL-20, VQ-PKD-15.

use net_queue::ring::{Cursor, Layout, Ring, RingConfig};
use net_queue::testing::{GuestRing, PackedFields, Piece, SplitFields, TestMemory};

use crate::pieces::take;
use crate::rig::{MERGE, RxRig, TxRig, every_layout, frame, packet, ring};

fn config(layout: Layout, size: u16) -> RingConfig {
    RingConfig {
        in_order: true,
        ..ring(layout, size)
    }
}

/// The used elements that the device wrote, as (id, length), in the order they lie: a view that
/// knows nothing of batches.
fn elements(guest: &GuestRing) -> Vec<(u16, u32)> {
    let memory = guest.memory();
    let size = guest.config().size;
    match guest.config().layout {
        Layout::Split => {
            let fields = SplitFields::of(&guest.config());
            let at = (0..size).map(|slot| fields.used_element(slot));
            let read = at.map(|at| (memory.load::<u32>(at), memory.load::<u32>(at + 4)));
            let written = read.filter(|(id, _)| *id != u32::MAX);
            written.map(|(id, len)| (id as u16, len)).collect()
        }
        Layout::Packed => {
            let fields = PackedFields::of(&guest.config());
            let used = |slot: &u16| memory.load::<u16>(fields.desc_flags(*slot)) & 0x8080 == 0x8080;
            let read = |slot| {
                let at = fields.desc(slot);
                (memory.load::<u16>(at + 12), memory.load::<u32>(at + 8))
            };
            (0..size).filter(used).map(read).collect()
        }
    }
}

/// Fills the used ring so that what the device does not write can be told.
fn poison(guest: &GuestRing) {
    if guest.config().layout == Layout::Split {
        let fields = SplitFields::of(&guest.config());
        let len = 8 * usize::from(guest.config().size);
        guest
            .memory()
            .write(fields.used_element(0), &vec![0xff; len]);
    }
}

#[test]
fn transmitted_batch_is_one_element() {
    every_layout(|layout| {
        let mut rig = TxRig::new(config(layout, 64));
        poison(&rig.guest);
        let packets: Vec<_> = (0..10).map(|n| packet(60, n)).collect();
        let ids: Vec<_> = packets.iter().map(|bytes| rig.send(bytes, &[12])).collect();
        assert_eq!(rig.drain(), packets);
        assert_eq!(elements(&rig.guest), [(ids[9], 0)]);
        assert!(rig.guest.poll_all().iter().map(|used| used.id).eq(ids));
    });
}

/// What a batch skips counts as filled: a chain that is not ends its element.
#[test]
fn receive_batches_skip_full_chains_only() {
    every_layout(|layout| {
        let mut rig = RxRig::new(config(layout, 64), MERGE);
        poison(&rig.guest);
        let ids: Vec<_> = (0..8).map(|_| rig.post(&[40, 60])).collect();
        for len in [250, 50, 88, 188] {
            rig.wire.inject(packet(len, 1));
        }
        rig.drain();
        // 262 bytes: two full, 62. Then 62. Then 100, which is full, and 200.
        let expected = [(ids[2], 62), (ids[3], 62), (ids[6], 100)];
        assert_eq!(elements(&rig.guest), expected);
        let lens: Vec<_> = rig.guest.poll_all().iter().map(|used| used.len).collect();
        assert_eq!(lens, [100, 100, 62, 62, 100, 100, 100]);
    });
}

#[test]
fn refused_chain_is_not_taken_for_a_full_one() {
    every_layout(|layout| {
        let mut rig = RxRig::new(config(layout, 64), MERGE);
        for len in [3, 5, 100] {
            rig.post(&[len]);
        }
        rig.wire.inject(packet(60, 1));
        rig.drain();
        let used = rig.guest.poll_all();
        assert_eq!(
            used.iter().map(|used| used.len).collect::<Vec<_>>(),
            [0, 0, 72]
        );
        assert_eq!(rig.guest.bytes(&used[2])[12..], frame(60, 1));
    });
}

/// Nor one whose writable part nobody came to look at.
#[test]
fn malformed_chain_is_not_taken_for_a_full_one() {
    every_layout(|layout| {
        let mut rig = TxRig::new(config(layout, 64));
        let memory = rig.guest.memory().clone();
        let hole = Piece::readable(0x8000_0000, 60);
        rig.guest.add(&[hole, memory.room(100)]);
        rig.send(&packet(60, 1), &[]);
        rig.drain();
        let lens: Vec<_> = rig.guest.poll_all().iter().map(|used| used.len).collect();
        assert_eq!(lens, [0, 0]);
    });
}

/// Batches over the ring's end, lap after lap.
#[test]
fn batches_cross_the_end() {
    every_layout(|layout| {
        let size = if layout == Layout::Packed { 7 } else { 8 };
        for start in 0..size {
            let cursor = Cursor {
                avail: start,
                used: Some(start),
                ..Cursor::default()
            };
            let config = RingConfig {
                cursor,
                ..config(layout, size)
            };
            let mut guest = GuestRing::new(&TestMemory::new(), config);
            let mut device = guest.device();
            let buffer: Piece = guest.memory().room(5);
            for lap in 0..40 {
                let mut ids = Vec::new();
                while guest.free() >= 2 {
                    ids.push(guest.add(&[buffer, buffer][..1 + ids.len() % 2]));
                }
                guest.publish();
                let mut lens = Vec::new();
                while let Some((chain, pieces)) = take(&mut device) {
                    // Full or not, in every pattern.
                    let full = (lap >> (lens.len() % 5)) & 1 == 0;
                    lens.push(if full { 5 * pieces.len() as u32 } else { 1 });
                    device.push_used(chain, *lens.last().expect("one"));
                }
                device.publish();
                let used = guest.poll_all();
                let seen: Vec<_> = used.iter().map(|used| (used.id, used.len)).collect();
                assert_eq!(seen, ids.into_iter().zip(lens).collect::<Vec<_>>());
            }
        }
    });
}
