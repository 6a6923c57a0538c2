use super::{AVAIL, Position, USED};

fn all(size: u16) -> impl Iterator<Item = Position> {
    (0..size).flat_map(|slot| [false, true].map(|wrap| Position { slot, wrap }))
}

/// Step by step, each step over the end changes the lap.
#[test]
fn a_way_forward_is_that_many_steps_and_back_is_its_reverse() {
    for size in [1, 2, 3, 8] {
        for start in all(size) {
            let mut step = start;
            for count in 0..=size {
                assert_eq!(start.forward(count, size), step);
                assert_eq!(step.back(count, size), start);
                assert_eq!(step.since(start, size), Some(count));
                step.slot += 1;
                if step.slot == size {
                    (step.slot, step.wrap) = (0, !step.wrap);
                }
            }
        }
    }
}

#[test]
fn the_largest_ring_fits() {
    let last = Position {
        slot: 0x7fff,
        wrap: true,
    };
    let lap_on = last.forward(0x8000, 0x8000);
    assert_eq!((lap_on.slot, lap_on.wrap), (0x7fff, false));
    assert_eq!(lap_on.back(0x8000, 0x8000), last);
    assert_eq!(lap_on.since(last, 0x8000), Some(0x8000));
    assert_eq!(last.event(), 0xffff);
    assert_eq!(last.offset(), 0x7_fff0);
}

#[test]
fn what_is_more_than_a_lap_apart_has_no_distance() {
    let at = |slot, wrap| Position { slot, wrap };
    assert_eq!(at(2, true).since(at(3, true), 8), None);
    assert_eq!(at(4, false).since(at(3, true), 8), None);
}

/// VQ-PKD-03: AVAIL is the lap, USED is not.
#[test]
fn a_descriptor_is_available_in_its_lap_alone_vq_pkd_03() {
    for (wrap, available) in [(true, AVAIL), (false, USED)] {
        for flags in [0, AVAIL, USED, AVAIL | USED] {
            let at = Position { slot: 0, wrap };
            assert_eq!(at.is_available(flags), flags == available, "{flags:#x}");
            assert_eq!(at.is_available(flags | 0x7f7f), flags == available);
        }
    }
}
