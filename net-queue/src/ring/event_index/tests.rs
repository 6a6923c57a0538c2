use std::collections::HashSet;

use super::{asks_for_index, asks_for_slot};
use crate::ring::position::Position;

/// Every index near the wrap of 16 bits, against the indices counted one by one.
#[test]
fn an_index_is_asked_for_where_it_is_among_those_added_vq_ntf_02() {
    for old in [0_u16, 1, 0x7fff, 0xfff0, 0xffff] {
        for added in 0..20_u16 {
            let new = old.wrapping_add(added);
            let counted: HashSet<u16> = (0..added).map(|n| old.wrapping_add(n)).collect();
            for event in (0..64).map(|n| old.wrapping_sub(20).wrapping_add(n)) {
                assert_eq!(
                    asks_for_index(event, old, new),
                    counted.contains(&event),
                    "{event} of {old}..{new}"
                );
            }
        }
    }
}

/// The largest batch, and a driver that named a place half a ring of indices away.
#[test]
fn an_index_of_another_time_is_not_asked_for() {
    assert!(asks_for_index(0, 0, 0x8000));
    assert!(asks_for_index(0x7fff, 0, 0x8000));
    assert!(!asks_for_index(0x8000, 0, 0x8000));
    assert!(!asks_for_index(0xffff, 0, 0x8000));
    assert!(!asks_for_index(5, 5, 5), "nothing was added");
}

/// Every event of both laps, against the slots counted one by one.
#[test]
fn a_slot_is_asked_for_where_it_is_among_those_added_vq_pkd_18() {
    for size in [1, 2, 3, 7, 8] {
        for slot in 0..size {
            for wrap in [false, true] {
                for added in 0..=size {
                    let end = Position { slot, wrap };
                    let start = end.back(added, size);
                    let counted: HashSet<u16> =
                        (0..added).map(|n| start.forward(n, size).event()).collect();
                    for event in (0..size).flat_map(|slot| [slot, slot | 1 << 15]) {
                        assert_eq!(
                            asks_for_slot(event, end, added, size),
                            counted.contains(&event),
                            "{event:#x} of {added} before {end:?} of {size}"
                        );
                    }
                }
            }
        }
    }
}

/// A driver can name a slot that the ring does not have, in either lap.
#[test]
fn a_slot_outside_the_ring_is_never_asked_for() {
    for wrap in [false, true] {
        let end = Position { slot: 3, wrap };
        for outside in [8, 9, 0x7ffe, 0x7fff] {
            let event = outside | u16::from(wrap) << 15;
            assert!(!asks_for_slot(event, end, 8, 8), "{event:#x}");
        }
    }
    let end = Position {
        slot: 0x7fff,
        wrap: true,
    };
    assert!(asks_for_slot(0xfffe, end, 0x7fff, 0x8000));
    assert!(
        asks_for_slot(0x7fff, end, 0x8000, 0x8000),
        "of the lap before"
    );
    assert!(
        !asks_for_slot(0xffff, end, 0x8000, 0x8000),
        "it is the next"
    );
}
