//! Positions in a packed ring: a slot, and in which lap.

use crate::ring::ring_memory::DESC_SIZE;

/// `VIRTQ_DESC_F_AVAIL`.
pub(super) const AVAIL: u16 = 1 << 7;
/// `VIRTQ_DESC_F_USED`.
pub(super) const USED: u16 = 1 << 15;

/// A slot, and the wrap counter of the side that stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) slot: u16,
    pub(super) wrap: bool,
}

impl Position {
    /// `count` slots on in a ring of `size`; at most one lap.
    #[inline]
    pub(super) fn forward(self, count: u16, size: u16) -> Self {
        let slot = u32::from(self.slot) + u32::from(count);
        match slot.checked_sub(u32::from(size)) {
            Some(slot) => Self {
                slot: slot as u16,
                wrap: !self.wrap,
            },
            None => Self {
                slot: slot as u16,
                wrap: self.wrap,
            },
        }
    }

    /// `count` slots back, at most one lap.
    #[inline]
    pub(super) fn back(self, count: u16, size: u16) -> Self {
        match self.slot.checked_sub(count) {
            Some(slot) => Self {
                slot,
                wrap: self.wrap,
            },
            None => Self {
                slot: self.slot + (size - count),
                wrap: !self.wrap,
            },
        }
    }

    /// Slots from `earlier` to here, if that is at most one lap.
    pub(super) fn since(self, earlier: Self, size: u16) -> Option<u16> {
        if self.wrap == earlier.wrap {
            self.slot.checked_sub(earlier.slot)
        } else {
            (self.slot <= earlier.slot).then(|| size - (earlier.slot - self.slot))
        }
    }

    /// Returns whether a descriptor with these flags was made available in this lap (VQ-PKD-03).
    #[inline]
    pub(super) fn is_available(self, flags: u16) -> bool {
        (flags & AVAIL != 0) == self.wrap && (flags & USED != 0) != self.wrap
    }

    /// Encodes the position for an event area.
    pub(super) fn event(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// Offset of its descriptor in the ring.
    pub(super) fn offset(self) -> usize {
        usize::from(self.slot) * DESC_SIZE
    }
}

#[cfg(test)]
mod tests;
