//! The walk over a chain's buffers, and the rules that hold for a buffer in any layout.

use crate::drop_cause::{DropCause, QueueFault};
use crate::memory::guest_ram::{Access, BadAddress};
use crate::memory::iovec::{IoVec, MAX_SEGMENTS};
use crate::memory::resolver::Resolver;
use crate::ring::ring_memory::{DESC_SIZE, Desc, DescTable, NoDesc};
use crate::ring::{BufferRules, Buffers, Chain, Direction, PoppedChain};

/// Reason why no chain can be taken although one is there.
#[derive(Debug)]
pub(super) enum NoChain {
    /// The ring is broken.
    Fault(QueueFault),
    /// The translation of one of its addresses is on its way.
    Awaited,
}

impl<T: Into<QueueFault>> From<T> for NoChain {
    fn from(fault: T) -> Self {
        Self::Fault(fault.into())
    }
}

/// A chain while it is walked.
///
/// It moves by value, so that it stays in registers.
pub(super) struct Walk<'a> {
    resolver: &'a mut Resolver,
    segments: &'a mut Vec<IoVec>,
    rules: BufferRules,
    /// Index or id by which the driver knows the chain.
    pub(super) id: u16,
    /// Descriptors of the ring that were walked.
    pub(super) descriptors: u16,
    /// Length of `segments` at the chain's head, and behind its readable buffers.
    start: usize,
    readable_end: usize,
    readable_len: u64,
    writable_len: u64,
}

impl<'a> Walk<'a> {
    /// At the head of a chain whose buffers are found by `resolver` and added to `segments`.
    #[inline(always)]
    pub(super) fn new(
        resolver: &'a mut Resolver,
        segments: &'a mut Vec<IoVec>,
        rules: BufferRules,
    ) -> Self {
        let start = segments.len();
        Self {
            resolver,
            segments,
            rules,
            id: 0,
            descriptors: 0,
            start,
            readable_end: start,
            readable_len: 0,
            writable_len: 0,
        }
    }

    /// At the head again.
    #[inline]
    pub(super) fn again(self) -> Self {
        self.segments.truncate(self.start);
        Self {
            readable_end: self.start,
            readable_len: 0,
            writable_len: 0,
            ..self
        }
    }

    /// Adds one buffer.
    #[inline(always)]
    pub(super) fn buffer(&mut self, desc: Desc) -> Result<(), DropCause> {
        let writable = desc.has(Desc::WRITE);
        let allowed = match self.rules.direction {
            Direction::Readable => !writable,
            Direction::Writable => writable,
            Direction::ReadableThenWritable => writable || self.writable_len == 0,
        };
        if !allowed {
            return Err(DropCause::Direction);
        }
        if writable {
            self.add(desc, Access::Write)
        } else {
            self.add(desc, Access::Read)
        }
    }

    /// Adds an entry of a packed ring's table. See [`Direction::Readable`].
    #[inline(always)]
    pub(super) fn table_entry(&mut self, entry: Desc) -> Result<(), DropCause> {
        if self.rules.direction == Direction::Readable {
            self.add(entry, Access::Read)
        } else {
            self.buffer(entry)
        }
    }

    /// Adds a buffer of a direction that is allowed. An empty one has no address worth looking at
    /// (NET-TX-03).
    #[inline(always)]
    fn add(&mut self, desc: Desc, access: Access) -> Result<(), DropCause> {
        let len = desc.len();
        if len == 0 {
            return Ok(());
        }
        let (segments, most) = (&mut *self.segments, self.rules.most_segments);
        self.resolver.resolve(desc.addr, len, access, |host| {
            if segments.len() == most {
                return Err(DropCause::Segments);
            }
            segments.push(host.io());
            Ok(())
        })?;
        match access {
            Access::Write => self.writable_len += u64::from(len),
            Access::Read => {
                self.readable_len += u64::from(len);
                self.readable_end = self.segments.len();
            }
        }
        Ok(())
    }

    /// The table that `desc`, in a ring of `size`, refers to. VirtIO 1.4 §2.7.5.3 (VQ-SPL-09).
    ///
    /// A driver must not make a chain longer than the ring; but Linux builds tables of as many
    /// entries as a frame has fragments, whatever the ring's size. So the bound is what a system
    /// call takes, or the ring where that is more.
    pub(super) fn table(&mut self, desc: Desc, size: u16) -> Result<DescTable, DropCause> {
        let len = desc.len() as usize;
        let entries = len / DESC_SIZE;
        let most = usize::from(size).max(MAX_SEGMENTS);
        if entries == 0 || !len.is_multiple_of(DESC_SIZE) || entries > most {
            return Err(DropCause::IndirectTable);
        }
        let host = self.resolver.contiguous(desc.addr, len)?;
        Ok(DescTable::new(host))
    }

    /// The chain with its buffers.
    #[inline(always)]
    pub(super) fn usable(self) -> PoppedChain {
        PoppedChain {
            chain: Chain::new(self.id, self.descriptors, self.writable_len),
            content: Ok(Buffers::new(
                self.readable_end - self.start,
                self.segments.len() - self.readable_end,
                self.readable_len,
            )),
        }
    }

    /// The chain, with the cause for which it cannot be used: nobody knows its length then.
    ///
    /// # Errors
    /// It may be usable once a translation is there.
    #[cold]
    #[inline(never)]
    pub(super) fn unusable(self, cause: DropCause) -> Result<PoppedChain, NoChain> {
        self.segments.truncate(self.start);
        if self.resolver.take_awaited() {
            return Err(NoChain::Awaited);
        }
        Ok(PoppedChain {
            chain: Chain::new(self.id, self.descriptors, u64::MAX),
            content: Err(cause),
        })
    }

    /// The chain, with its buffers or the cause for which they cannot be used.
    ///
    /// # Errors
    /// As for [`Walk::unusable`].
    pub(super) fn end(self, content: Result<(), DropCause>) -> Result<PoppedChain, NoChain> {
        match content {
            Ok(()) => Ok(self.usable()),
            Err(cause) => self.unusable(cause),
        }
    }

    /// Ends the walk of a chain that shows the ring to be broken.
    #[cold]
    pub(super) fn broken(self, fault: QueueFault) -> QueueFault {
        self.segments.truncate(self.start);
        fault
    }
}

impl From<BadAddress> for DropCause {
    fn from(_: BadAddress) -> Self {
        Self::BadAddress
    }
}

/// For an entry of an indirect table.
impl From<NoDesc> for DropCause {
    fn from(none: NoDesc) -> Self {
        match none {
            NoDesc::Beyond => Self::IndirectTable,
            NoDesc::Fault(fault) => fault.into(),
        }
    }
}
