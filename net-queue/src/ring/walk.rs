//! Where a chain's pieces go, and the rules that hold for a piece in any layout.

use crate::fault::DropCause;
use crate::ram::{BadAddress, GuestRam, Hint};
use crate::ring::layout::{Area, DESC_SIZE, Desc};
use crate::ring::{Chain, Popped};

/// Receives the pieces of a chain in order.
pub trait PieceSink {
    /// Takes one buffer of the chain, which may be empty.
    ///
    /// # Errors
    /// The chain is of no use because of this buffer; the ring stops walking it.
    fn piece(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), DropCause>;
}

impl Chain {
    /// The chain with what became of its content. Of one that cannot be used nobody knows the room.
    #[inline]
    pub(super) fn looked_at(mut self, content: Result<(), DropCause>) -> Popped {
        if content.is_err() {
            self.room = u64::MAX;
        }
        (self, content)
    }

    /// Hands one buffer of this chain to `sink`.
    #[inline]
    pub(super) fn piece<S: PieceSink>(
        &mut self,
        desc: &Desc,
        ram: &GuestRam,
        sink: &mut S,
    ) -> Result<(), DropCause> {
        let writable = desc.has(Desc::WRITE);
        if writable {
            self.room += u64::from(desc.len);
        }
        sink.piece(ram, desc.addr, desc.len, writable)
    }
}

impl From<BadAddress> for DropCause {
    fn from(_: BadAddress) -> Self {
        Self::BadAddress
    }
}

/// Finds the table that `desc` refers to; `entries` bounds its length. VirtIO 1.4 §2.7.5.3 (VQ-SPL-09).
pub(super) fn indirect_table(
    ram: &GuestRam,
    desc: &Desc,
    most: u16,
) -> Result<(Area, usize), DropCause> {
    let len = desc.len as usize;
    let entries = len / DESC_SIZE;
    if entries == 0 || !len.is_multiple_of(DESC_SIZE) || entries > usize::from(most) {
        return Err(DropCause::IndirectTable);
    }
    let (host, gpa) = ram.contiguous(desc.addr, len, crate::ram::Access::Read)?;
    Ok((Area::new(host, gpa), entries))
}

/// Keeps the region hint of a sink and pushes resolved pieces.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    hint: Hint,
}

impl Resolver {
    /// Resolves one buffer and hands its host parts to `push`.
    #[inline]
    pub(crate) fn resolve(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
        push: impl FnMut(crate::iovec::HostSlice, u64) -> Result<(), DropCause>,
    ) -> Result<(), DropCause> {
        // An empty buffer has no address worth looking at (NET-TX-03).
        if len == 0 {
            return Ok(());
        }
        let access = if writable {
            crate::ram::Access::Write
        } else {
            crate::ram::Access::Read
        };
        ram.resolve(&mut self.hint, addr, len, access, push)
    }
}
