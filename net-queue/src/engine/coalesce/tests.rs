use super::*;
use crate::header::HDR_LEN;

/// This says how much of the next frame is copied at first; the frame is the same either way.
#[test]
fn groups_grow_as_long_as_the_last_frame_joined_one() {
    let mut coalescer = Coalescer::new(KINDS, HDR_LEN);
    coalescer.misses += 1;
    assert!(!coalescer.is_growing());
    let held = coalescer.grown(3, Some(GroupEnd::Last));
    assert!(coalescer.is_growing());
    assert_eq!((held.slot, held.complete), (3, Some(GroupEnd::Last)));
    coalescer.misses += 1;
    assert!(!coalescer.is_growing());
}

/// With none, a run ends without the longer way.
#[test]
fn a_coalescer_keeps_none_of_the_chains_at_first() {
    let mut coalescer = Coalescer::new(KINDS, HDR_LEN);
    assert!(coalescer.keeps_none());
    coalescer.pending.push(Chain::new(1, 1, 0), 60, SENT);
    assert!(!coalescer.keeps_none());
}
