//! EVENT_IDX: whether the other side asked to hear of what was added. VirtIO 1.4 §2.7.10, §2.8.10.
//!
//! It names one place in the ring. It is told when that place is among those that were filled
//! since the last time it could have been told, and not for places ahead or behind:
//!
//! ```text
//!          already told      added now       still free
//!    ... [   |   |   |   ][   |   |   ][   |   |   |   ] ...
//!                         old          new
//!         event here: no     yes           not yet
//! ```

use crate::ring::position::Position;

/// Returns whether `event` is one of the free-running indices from `old` up to, not including,
/// `new` (VQ-NTF-02).
#[inline]
pub(super) fn asks_for_index(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// Returns whether `event`, a slot and the wrap counter of its lap, is one of the `added` slots
/// before `end` in a packed ring of `size` (VQ-NTF-07, VQ-PKD-18).
#[inline]
pub(super) fn asks_for_slot(event: u16, end: Position, added: u16, size: u16) -> bool {
    let lap_before = (event >> 15 != 0) != end.wrap;
    let lap = if lap_before { i32::from(size) } else { 0 };
    let slot = i32::from(event & 0x7fff) - lap;
    let end = i32::from(end.slot);
    (end - i32::from(added)..end).contains(&slot)
}

#[cfg(test)]
mod tests;
