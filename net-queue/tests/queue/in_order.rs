//! `VIRTIO_F_IN_ORDER`: one used element for a batch that is sent, one for each chain that is
//! received. VQ-SPL-19, VQ-SPL-20, VQ-PKD-15.

use net_queue::ring::{Cursor, Layout, Ring, RingConfig, UsedElements};
use net_queue::testing::{GuestRing, Piece, TestMemory};

use crate::pieces::take;
use crate::rig::{MERGE, RxRig, TxRig, every_layout, frame, packet, ring};

fn config(layout: Layout, size: u16) -> RingConfig {
    RingConfig {
        in_order: true,
        ..ring(layout, size)
    }
}

/// The same, for chains that one element may stand for together.
fn batching(layout: Layout, size: u16) -> RingConfig {
    RingConfig {
        used_elements: UsedElements::PerBatch,
        ..config(layout, size)
    }
}

#[test]
fn transmitted_batch_is_one_element() {
    every_layout(|layout| {
        let mut rig = TxRig::new(config(layout, 64));
        rig.guest.poison_used();
        let packets: Vec<_> = (0..10).map(|n| packet(60, n)).collect();
        let ids: Vec<_> = packets.iter().map(|bytes| rig.send(bytes, &[12])).collect();
        assert_eq!(rig.drain(), packets);
        assert_eq!(rig.guest.used_elements(), [(ids[9], 0)]);
        assert!(rig.guest.poll_all().iter().map(|used| used.id).eq(ids));
    });
}

/// Drivers in the field read the length of each used element on receive: a batch would cut their
/// frames.
#[test]
fn received_chains_have_an_element_each() {
    every_layout(|layout| {
        let mut rig = RxRig::new(config(layout, 64), MERGE);
        rig.guest.poison_used();
        let ids: Vec<_> = (0..8).map(|_| rig.post(&[40, 60])).collect();
        for len in [250, 50, 88, 188] {
            rig.wire.inject(packet(len, 1));
        }
        rig.drain();
        // 262 bytes: two full, 62. Then 62. Then 100, which is full, and 200.
        let lens = [100, 100, 62, 62, 100, 100, 100];
        let expected: Vec<_> = ids.into_iter().zip(lens).collect();
        assert_eq!(rig.guest.used_elements(), expected);
        let seen = rig.guest.poll_all();
        assert!(seen.iter().map(|used| (used.id, used.len)).eq(expected));
    });
}

/// A driver counts what it has not taken as it counts what it waits for.
#[test]
fn what_was_used_and_not_taken_is_counted_by_chains_or_slots() {
    every_layout(|layout| {
        for config in [ring(layout, 64), config(layout, 64), batching(layout, 64)] {
            let mut guest = GuestRing::new(&TestMemory::new(), config);
            let mut device = guest.device();
            let buffers = [guest.memory().room(40), guest.memory().room(60)];
            for count in [1, 2, 2, 1] {
                guest.add(&buffers[..count]);
            }
            guest.publish();
            assert_eq!(guest.unseen(), 0);
            for len in [40, 100, 100] {
                let (chain, _) = take(&mut device).expect("a chain");
                device.push_used(chain, len);
            }
            device.publish();
            let packed = layout == Layout::Packed;
            assert_eq!(guest.unseen(), if packed { 5 } else { 3 });
            assert_eq!(guest.poll_all().len(), 3);
            assert_eq!(guest.unseen(), 0);
        }
    });
}

/// Chains that a batch skips count as filled: a chain that is not ends its element.
#[test]
fn batches_skip_full_chains_only() {
    every_layout(|layout| {
        let mut guest = GuestRing::new(&TestMemory::new(), batching(layout, 64));
        guest.poison_used();
        let mut device = guest.device();
        let buffers = [guest.memory().room(40), guest.memory().room(60)];
        let ids: Vec<_> = (0..7).map(|_| guest.add(&buffers)).collect();
        guest.publish();
        let lens = [100, 100, 62, 62, 100, 100, 100];
        for len in lens {
            let (chain, _) = take(&mut device).expect("a chain");
            device.push_used(chain, len);
        }
        device.publish();
        let expected = [(ids[2], 62), (ids[3], 62), (ids[6], 100)];
        assert_eq!(guest.used_elements(), expected);
        assert!(guest.poll_all().iter().map(|used| used.len).eq(lens));
    });
}

/// An element for each chain is what a ring writes unless it is made for batches.
#[test]
fn batches_are_never_written_unasked() {
    every_layout(|layout| {
        let mut guest = GuestRing::new(&TestMemory::new(), config(layout, 64));
        guest.poison_used();
        let mut device = guest.device();
        let buffer = guest.memory().filled(&[1; 4]);
        let ids: Vec<_> = (0..5).map(|_| guest.add(&[buffer])).collect();
        guest.publish();
        while let Some((chain, _)) = take(&mut device) {
            device.push_used(chain, 0);
        }
        device.publish();
        let expected: Vec<_> = ids.into_iter().map(|id| (id, 0)).collect();
        assert_eq!(guest.used_elements(), expected);
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
                ..batching(layout, size)
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
