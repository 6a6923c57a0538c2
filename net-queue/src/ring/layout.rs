//! Ring memory as typed, bounds-checked accesses: the only place that loads and stores ring words.
//!
//! The driver writes these words while the device reads them, so every access is an atomic or volatile one of
//! the width the specification gives it, and a value is loaded once and then used from a local copy.
#![allow(unsafe_code)]

use crate::iovec::HostSlice;
use crate::ram::{Access, GuestRam};
use crate::ring::RingError;
use crate::ring::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Bytes of one descriptor, in rings of both layouts and in indirect tables. VirtIO 1.4 §2.7.5, §2.8.13.
pub(crate) const DESC_SIZE: usize = 16;

/// One descriptor, copied out once (VQ-SPL-14), in a split ring's order of fields. See [`Desc::packed`].
///
/// It is kept as the two words that it was loaded as: fields stored one by one would be waited for when they are moved
/// as a whole.
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

/// A part of a ring in guest memory, and where the guest sees it (for the dirty log).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    host: HostSlice,
    pub(crate) gpa: u64,
}

impl Area {
    /// Stands for `host`, which the caller keeps mapped (see the invariant of `iovec`).
    pub(crate) fn new(host: HostSlice, gpa: u64) -> Self {
        Self { host, gpa }
    }

    /// Finds `len` bytes of a ring at `addr`, which must be a multiple of `align` for guest and host.
    pub(crate) fn find(
        ram: &GuestRam,
        addr: u64,
        align: u64,
        len: usize,
        access: Access,
    ) -> Result<Self, RingError> {
        let (host, gpa) = ram.contiguous(addr, len, access)?;
        // An IOMMU or an odd mapping could put an aligned address at an unaligned place.
        let places = addr | host.as_ptr().addr() as u64;
        if !places.is_multiple_of(align) {
            return Err(RingError::Alignment { addr, align });
        }
        Ok(Self::new(host, gpa))
    }

    #[inline]
    fn word16(&self, offset: usize) -> Option<&AtomicU16> {
        let slice = self.host.sub(offset, 2)?;
        // SAFETY: two mapped bytes (`sub` checked), aligned (areas are checked to be, offsets are even), and only
        // ever accessed by atomics in this process.
        slice
            .as_ptr()
            .addr()
            .is_multiple_of(2)
            .then(|| unsafe { &*slice.as_ptr().cast::<AtomicU16>() })
    }

    /// Loads the little-endian word at `offset`; 0 beyond the area, which no caller asks for.
    #[inline]
    pub(crate) fn load16(&self, offset: usize, order: Ordering) -> u16 {
        self.word16(offset)
            .map_or(0, |word| u16::from_le(word.load(order)))
    }

    /// Stores the little-endian word at `offset`.
    #[inline]
    pub(crate) fn store16(&self, offset: usize, value: u16, order: Ordering) {
        if let Some(word) = self.word16(offset) {
            word.store(value.to_le(), order);
        }
    }

    /// Stores the little-endian 32-bit word at `offset`.
    #[inline]
    pub(crate) fn store32(&self, offset: usize, value: u32) {
        let Some(slice) = self.host.sub(offset, 4) else {
            return;
        };
        let ptr = slice.as_ptr().cast::<AtomicU32>();
        if ptr.is_aligned() {
            // SAFETY: four mapped, aligned bytes (checked above), accessed by atomics only.
            unsafe { &*ptr }.store(value.to_le(), Ordering::Relaxed);
        }
    }

    /// Stores two little-endian 32-bit words, the used element of a split ring.
    #[inline]
    pub(crate) fn store32x2(&self, offset: usize, first: u32, second: u32) {
        self.store32(offset, first);
        self.store32(offset + 4, second);
    }

    /// Copies out descriptor `index` of a ring's table, or `None` beyond the area.
    #[inline]
    pub(crate) fn desc(&self, index: usize) -> Option<Desc> {
        let slice = self.host.sub(index * DESC_SIZE, DESC_SIZE)?;
        let ptr = slice.as_ptr().cast::<AtomicU64>();
        if ptr.is_aligned() {
            // SAFETY: sixteen mapped, aligned bytes (checked above), read by atomics only.
            let (addr, rest) = unsafe {
                let rest = (*ptr.add(1)).load(Ordering::Relaxed);
                ((*ptr).load(Ordering::Relaxed), rest)
            };
            return Some(Desc::from_words(addr, rest));
        }
        Some(Self::unaligned_desc(slice))
    }

    /// An indirect table may start at any address (VQ-SPL-08).
    #[cold]
    fn unaligned_desc(slice: HostSlice) -> Desc {
        let mut bytes = [0u8; DESC_SIZE];
        for (at, byte) in bytes.iter_mut().enumerate().take(slice.len()) {
            // SAFETY: within the mapped bytes; a volatile byte read has no alignment to keep.
            *byte = unsafe { slice.as_ptr().add(at).read_volatile() };
        }
        let (addr, rest) = bytes.split_at(8);
        let word = |half: &[u8]| {
            half.iter()
                .rev()
                .fold(0u64, |word, byte| word << 8 | u64::from(*byte))
        };
        Desc::from_words(word(addr).to_le(), word(rest).to_le())
    }
}
