//! A descriptor and a wish for interrupts, as drivers of either layout have them.

use crate::testing::Piece;

/// One descriptor as the driver writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawDesc {
    /// Buffer address.
    pub addr: u64,
    /// Buffer length.
    pub len: u32,
    /// [`RawDesc::NEXT`] and the others. A packed driver adds AVAIL and USED.
    pub flags: u16,
    /// Next descriptor (split), buffer id (packed).
    pub next: u16,
}

impl RawDesc {
    /// The chain goes on.
    pub const NEXT: u16 = 1;
    /// The device writes the buffer.
    pub const WRITE: u16 = 2;
    /// The buffer is a table of descriptors.
    pub const INDIRECT: u16 = 4;

    pub(super) fn of(piece: &Piece) -> Self {
        Self {
            addr: piece.addr,
            len: piece.len,
            flags: if piece.writable { Self::WRITE } else { 0 },
            next: 0,
        }
    }
}

/// Time at which the driver wants an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// At the next used chain (with `EVENT_IDX` once, without at each).
    Always,
    /// Not at all.
    Never,
    /// With `EVENT_IDX`: at the n-th used element from here (n from 1; ring slots for a packed
    /// ring).
    After(u16),
}
