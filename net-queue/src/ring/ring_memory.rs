//! Ring memory as typed, bounds-checked accesses: the only place that loads and stores ring words.
//!
//! The driver writes these words while the device reads them, so every access is an atomic or
//! volatile one of the width the specification gives it, and a value is loaded once and then used
//! from a local copy. Memory that the guest was promised may be out of reach all the same: a load
//! that fails says so, a store that fails is remembered by its area.
#![allow(unsafe_code)]
#![cfg_attr(
    test,
    allow(unused_unsafe, reason = "the model's words are only names")
)]

use std::cell::Cell;

use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::{Access, GuestRam, GuestSlice};
use crate::memory::iovec::{HostSlice, copy_from};
use crate::memory::kill_switch;
use crate::ring::RingError;
use crate::ring::sync::{Ordering, words};

/// Bytes of one descriptor, in rings of both layouts and in indirect tables. VirtIO 1.4 §2.7.5,
/// §2.8.13.
pub(crate) const DESC_SIZE: usize = 16;

/// One descriptor, copied out once (VQ-SPL-14), in a split ring's order of fields. See
/// [`Desc::packed`].
///
/// It is kept as the two words that it was loaded as: fields stored one by one would be waited for
/// when they are moved as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Desc {
    pub(crate) addr: u64,
    /// From the lowest bit on: `len`, `flags`, `next`.
    rest: u64,
}

impl Desc {
    /// The chain goes on at `next`.
    pub(crate) const NEXT: u16 = 1;
    /// The device writes this buffer.
    pub(crate) const WRITE: u16 = 2;
    /// The buffer is a table of descriptors.
    pub(crate) const INDIRECT: u16 = 4;

    /// The same bytes as a packed ring orders them: `next` is the buffer id then.
    #[inline]
    pub(crate) fn packed(self) -> Self {
        let rest =
            u64::from(self.len()) | u64::from(self.next()) << 32 | u64::from(self.flags()) << 48;
        Self { rest, ..self }
    }

    #[inline]
    pub(crate) fn len(self) -> u32 {
        self.rest as u32
    }

    #[inline]
    pub(crate) fn flags(self) -> u16 {
        (self.rest >> 32) as u16
    }

    #[inline]
    pub(crate) fn next(self) -> u16 {
        (self.rest >> 48) as u16
    }

    #[inline]
    pub(crate) fn has(self, flag: u16) -> bool {
        self.flags() & flag != 0
    }

    #[inline]
    fn from_words(addr: u64, rest: u64) -> Self {
        Self {
            addr: u64::from_le(addr),
            rest: u64::from_le(rest),
        }
    }
}

/// Reason why there is no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDesc {
    /// It would lie beyond its table.
    Beyond,
    /// It cannot be read.
    Fault(MemoryFault),
}

/// A table of descriptors that one of a ring refers to. It may start at any address (VQ-SPL-08).
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescTable(HostSlice);

impl DescTable {
    /// Stands for `host`, which the caller keeps mapped (see the invariant of `memory::iovec`).
    pub(crate) fn new(host: HostSlice) -> Self {
        Self(host)
    }

    /// Number of its entries, which is that of a ring at most.
    pub(crate) fn entries(&self) -> u16 {
        (self.0.len() / DESC_SIZE) as u16
    }

    /// Copies out entry `index`.
    #[inline(always)]
    pub(crate) fn desc(&self, index: u16) -> Result<Desc, NoDesc> {
        let offset = usize::from(index) * DESC_SIZE;
        let slice = self.0.sub(offset, DESC_SIZE).ok_or(NoDesc::Beyond)?;
        let ptr = slice.as_ptr().cast::<u64>();
        if !ptr.is_aligned() {
            return unaligned_desc(slice);
        }
        // SAFETY: sixteen mapped, aligned bytes, read by atomics only.
        let words = unsafe { words::load64x2(ptr) };
        let (addr, rest) = words.map_err(NoDesc::Fault)?;
        Ok(Desc::from_words(addr, rest))
    }
}

#[cold]
fn unaligned_desc(slice: HostSlice) -> Result<Desc, NoDesc> {
    let mut words = [[0u8; 8]; 2];
    copy_from(&[slice.io()], 0, words.as_flattened_mut()).map_err(NoDesc::Fault)?;
    let [addr, rest] = words.map(u64::from_ne_bytes);
    Ok(Desc::from_words(addr, rest))
}

/// A part of a ring in guest memory, and where the guest sees it (for the dirty log).
#[derive(Debug)]
pub(crate) struct Area {
    host: HostSlice,
    pub(crate) gpa: u64,
    /// An access failed.
    faulted: Cell<bool>,
}

impl Area {
    /// Finds `len` bytes of a ring at `addr`, which must be a multiple of `align` for guest and
    /// host.
    pub(crate) fn find(
        ram: &GuestRam,
        addr: u64,
        align: u64,
        len: usize,
        access: Access,
    ) -> Result<Self, RingError> {
        let GuestSlice { host, gpa } = ram.contiguous(addr, len, access)?;
        // An IOMMU or an odd mapping could put an aligned address at an unaligned place.
        let places = addr | host.as_ptr().addr() as u64;
        if !places.is_multiple_of(align) {
            return Err(RingError::Alignment { addr, align });
        }
        Ok(Self {
            host,
            gpa,
            faulted: Cell::new(false),
        })
    }

    /// The address of `T` at `offset`, if that lies in the area and is aligned.
    #[inline(always)]
    fn word<T>(&self, offset: usize) -> Option<*mut T> {
        let ptr = self.host.sub(offset, size_of::<T>())?.as_ptr().cast::<T>();
        ptr.is_aligned().then_some(ptr)
    }

    /// Remembers that the area cannot be accessed.
    #[cold]
    fn fault(&self, fault: MemoryFault) -> MemoryFault {
        self.faulted.set(true);
        fault
    }

    /// Returns whether an access has failed since the area was found.
    #[inline]
    pub(crate) fn faulted(&self) -> bool {
        self.faulted.get()
    }

    /// Loads the little-endian word at `offset`.
    ///
    /// # Errors
    /// It cannot be read, or lies beyond the area, which no caller asks for.
    #[inline(always)]
    pub(crate) fn load16(&self, offset: usize, order: Ordering) -> Result<u16, MemoryFault> {
        let ptr = self.word::<u16>(offset).ok_or(MemoryFault)?;
        // SAFETY: two mapped, aligned bytes, only ever accessed by atomics in this process.
        match unsafe { words::load16(ptr, order) } {
            Ok(value) => Ok(u16::from_le(value)),
            Err(fault) => Err(self.fault(fault)),
        }
    }

    /// Stores the little-endian word at `offset`.
    #[inline(always)]
    pub(crate) fn store16(&self, offset: usize, value: u16, order: Ordering) {
        if kill_switch::lands()
            && let Some(ptr) = self.word::<u16>(offset)
            // SAFETY: two mapped, aligned bytes, only ever accessed by atomics in this process.
            && let Err(fault) = unsafe { words::store16(ptr, value.to_le(), order) }
        {
            self.fault(fault);
        }
    }

    /// Stores the little-endian 32-bit word at `offset`.
    #[inline(always)]
    pub(crate) fn store32(&self, offset: usize, value: u32) {
        if kill_switch::lands()
            && let Some(ptr) = self.word::<u32>(offset)
            // SAFETY: four mapped, aligned bytes, accessed by atomics only.
            && let Err(fault) = unsafe { words::store32(ptr, value.to_le()) }
        {
            self.fault(fault);
        }
    }

    /// Stores two little-endian 32-bit words: a used element of a split ring, the second half of a
    /// packed descriptor.
    #[inline(always)]
    pub(crate) fn store32x2(&self, offset: usize, first: u32, second: u32) {
        let Some(ptr) = self.word::<[u32; 2]>(offset) else {
            return;
        };
        // Two stores, between which a process may be killed.
        let lands = (kill_switch::lands(), kill_switch::lands());
        if lands != (true, true) {
            if lands.0 {
                // SAFETY: as below, of the first half.
                let _ = unsafe { words::store32(ptr.cast(), first.to_le()) };
            }
            return;
        }
        // SAFETY: eight mapped, aligned bytes, accessed by atomics only.
        let stored = unsafe { words::store32x2(ptr.cast(), first.to_le(), second.to_le()) };
        if let Err(fault) = stored {
            self.fault(fault);
        }
    }

    /// Copies out descriptor `index` of a ring.
    #[inline(always)]
    pub(crate) fn desc(&self, index: u16) -> Result<Desc, NoDesc> {
        DescTable(self.host).desc(index)
    }

    /// Copies out descriptor `index` of a packed ring, its flags first: what the driver wrote
    /// before them is seen.
    #[inline(always)]
    pub(crate) fn desc_by_flags(&self, index: u16) -> Result<Desc, NoDesc> {
        let offset = usize::from(index) * DESC_SIZE;
        let ptr = self.word::<[u64; 2]>(offset).ok_or(NoDesc::Beyond)?;
        // SAFETY: sixteen mapped, aligned bytes, read by atomics only.
        let words = unsafe { words::load64x2_acquire(ptr.cast()) };
        let (addr, rest) = words.map_err(NoDesc::Fault)?;
        Ok(Desc::from_words(addr, rest))
    }
}
