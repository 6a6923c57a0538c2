//! The walk over a chain's buffers, and the rules that hold for a buffer in any layout.

use crate::drop_cause::DropCause;
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::{Access, BadAddress, GuestRam, Hint};
use crate::memory::segment::{HostSlice, MAX_SEGMENTS};
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc};
use crate::ring::{Chain, PoppedChain};

/// Receiver of the buffers of a chain, in order.
pub trait BufferSink {
    /// Takes one buffer of the chain, which may be empty.
    ///
    /// # Errors
    /// The chain is of no use because of this buffer; the ring stops walking it.
    fn buffer(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), DropCause>;

    /// Takes an entry of a table of a packed ring.
    ///
    /// # Errors
    /// As for [`BufferSink::buffer`].
    #[inline]
    fn table_entry(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), DropCause> {
        self.buffer(ram, addr, len, writable)
    }
}

/// A chain while it is walked.
pub(super) struct Walk<'a, S> {
    ram: &'a GuestRam,
    sink: &'a mut S,
    writable_len: u64,
}

impl<'a, S: BufferSink> Walk<'a, S> {
    /// At the head of a chain whose buffers lie in `ram` and go to `sink`.
    #[inline]
    pub(super) fn new(ram: &'a GuestRam, sink: &'a mut S) -> Self {
        Self {
            ram,
            sink,
            writable_len: 0,
        }
    }

    /// Hands over one buffer.
    #[inline]
    pub(super) fn buffer(&mut self, desc: Desc) -> Result<(), DropCause> {
        let writable = desc.has(Desc::WRITE);
        if writable {
            self.writable_len += u64::from(desc.len());
        }
        self.sink.buffer(self.ram, desc.addr, desc.len(), writable)
    }

    /// Hands over an entry of a packed ring's table.
    #[inline]
    pub(super) fn table_entry(&mut self, desc: Desc) -> Result<(), DropCause> {
        let writable = desc.has(Desc::WRITE);
        if writable {
            self.writable_len += u64::from(desc.len());
        }
        self.sink
            .table_entry(self.ram, desc.addr, desc.len(), writable)
    }

    /// The chain, known as `id`, with what became of its content. Nobody knows the length of one
    /// that cannot be used.
    #[inline]
    pub(super) fn end(
        self,
        id: u16,
        descriptors: u16,
        content: Result<(), DropCause>,
    ) -> PoppedChain {
        let writable_len = if content.is_ok() {
            self.writable_len
        } else {
            u64::MAX
        };
        PoppedChain {
            chain: Chain::new(id, descriptors, writable_len),
            content,
        }
    }
}

impl From<BadAddress> for DropCause {
    fn from(_: BadAddress) -> Self {
        Self::BadAddress
    }
}

/// Finds the table that `desc`, in a ring of `size`, refers to. VirtIO 1.4 §2.7.5.3 (VQ-SPL-09).
///
/// A driver must not make a chain longer than the ring; but Linux builds tables of as many entries
/// as a frame has fragments, whatever the ring's size. So the bound is what a system call takes, or
/// the ring where that is more.
pub(super) fn indirect_table(
    ram: &GuestRam,
    desc: Desc,
    size: u16,
) -> Result<(Area, usize), DropCause> {
    let len = desc.len() as usize;
    let entries = len / DESC_SIZE;
    let most = usize::from(size).max(MAX_SEGMENTS);
    if entries == 0 || !len.is_multiple_of(DESC_SIZE) || entries > most {
        return Err(DropCause::IndirectTable);
    }
    let (host, gpa) = ram.contiguous(desc.addr, len, Access::Read)?;
    Ok((Area::new(host, gpa), entries))
}

/// Cause for which `table` has no entry where one was looked for.
#[cold]
pub(super) fn no_entry(table: &Area) -> DropCause {
    if table.faulted() {
        MemoryFault.into()
    } else {
        DropCause::IndirectTable
    }
}

/// Keeper of the host addresses of buffers.
pub(crate) trait SegmentSink {
    /// Takes the next host-contiguous segment, which lies at guest-physical `gpa`.
    fn push(&mut self, host: HostSlice, gpa: u64) -> Result<(), DropCause>;
}

impl<F: FnMut(HostSlice, u64) -> Result<(), DropCause>> SegmentSink for F {
    fn push(&mut self, host: HostSlice, gpa: u64) -> Result<(), DropCause> {
        self(host, gpa)
    }
}

/// Finds buffers, with the region of the last one as a hint.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    hint: Hint,
}

impl Resolver {
    /// Resolves one buffer and hands its segments to `segments`.
    #[inline]
    pub(crate) fn resolve<P: SegmentSink>(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
        segments: &mut P,
    ) -> Result<(), DropCause> {
        // An empty buffer has no address worth looking at (NET-TX-03).
        if len == 0 {
            return Ok(());
        }
        if let Some(host) = self.hint.part(ram, addr, len as usize) {
            return segments.push(host, addr);
        }
        let access = if writable {
            Access::Write
        } else {
            Access::Read
        };
        ram.resolve(&mut self.hint, addr, len, access, &mut |host, gpa| {
            segments.push(host, gpa)
        })
    }
}
