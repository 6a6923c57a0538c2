//! Guest bytes as the kernel and the CPU reach them: checked host ranges, scatter lists, copies.
//!
//! One of the crate's modules with `unsafe`. Its one invariant: a [`HostSlice`] covers addresses that some
//! [`GuestRam`](crate::GuestRam) keeps mapped, and whoever holds a slice holds that `GuestRam` too. The guest may
//! change these bytes at any moment, so no Rust reference to them is ever made: bytes move by raw copies
//! only, and what was copied out is what is checked and used. A page of the mapping may be out of reach; a copy
//! fails then (`guard`).
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{GuestMemoryRegion, MemoryRegionAddress, VolatileSlice};

use crate::memory::guard::{self, MemoryFault};

/// The most pieces one `readv` or `writev` takes (Linux `UIO_MAXIOV`).
pub const MAX_SEGMENTS: usize = 1024;

/// A checked range of host memory that backs guest memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostSlice {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a `HostSlice` is a plain address range; every access to it goes through raw copies and atomics that
// assume concurrent writers (the guest), so moving or sharing it between threads adds no new hazard.
unsafe impl Send for HostSlice {}
// SAFETY: as above.
unsafe impl Sync for HostSlice {}

impl HostSlice {
    /// The whole of a mapped region, or `None` when the region has no host mapping.
    pub(crate) fn of_region<R: GuestMemoryRegion>(region: &R) -> Option<Self> {
        let ptr = region.get_host_address(MemoryRegionAddress(0)).ok()?;
        Some(Self {
            ptr: NonNull::new(ptr)?,
            len: usize::try_from(region.len()).ok()?,
        })
    }

    /// All of `slice`, whose memory the caller keeps mapped.
    pub(crate) fn of_volatile<B: BitmapSlice>(slice: &VolatileSlice<'_, B>) -> Self {
        Self {
            ptr: NonNull::new(slice.ptr_guard_mut().as_ptr()).unwrap_or(NonNull::dangling()),
            len: slice.len(),
        }
    }

    /// A range of memory that this process owns for as long as the slice is in use.
    pub(crate) fn of_buffer(buffer: &mut [u8]) -> Self {
        Self {
            ptr: NonNull::from(&mut *buffer).cast(),
            len: buffer.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `len` bytes from `offset`, or `None` when they leave the range.
    #[inline]
    pub(crate) fn sub(&self, offset: usize, len: usize) -> Option<Self> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset <= self.len`, so the result stays within the range the slice stands for.
        let ptr = unsafe { self.ptr.add(offset) };
        Some(Self { ptr, len })
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    #[inline]
    pub(crate) fn io(&self) -> IoVec {
        IoVec(libc::iovec {
            iov_base: self.ptr.as_ptr().cast(),
            iov_len: self.len,
        })
    }
}

/// One piece of a scatter list: the kernel's `iovec` over a checked range.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct IoVec(libc::iovec);

// SAFETY: as for `HostSlice`, from which every non-empty value is made.
unsafe impl Send for IoVec {}
// SAFETY: as above.
unsafe impl Sync for IoVec {}

impl std::fmt::Debug for IoVec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IoVec({} bytes)", self.0.iov_len)
    }
}

impl IoVec {
    /// A piece of no bytes.
    pub(crate) const EMPTY: Self = Self(libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    });

    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Whether it covers no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iov_len == 0
    }

    /// Drops the first `count` bytes (at most all of them).
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        let count = count.min(self.0.iov_len);
        // SAFETY: `count` is within the piece.
        self.0.iov_base = unsafe { self.0.iov_base.cast::<u8>().add(count) }.cast();
        self.0.iov_len -= count;
    }
}

/// Copies from `pieces`, after the first `skip` bytes, into `dst`; returns how many bytes there were.
///
/// # Errors
/// Some of them cannot be read; any part of `dst` may have been written.
#[inline]
pub(crate) fn copy_from(
    pieces: &[IoVec],
    skip: usize,
    dst: &mut [u8],
) -> Result<usize, MemoryFault> {
    let most = dst.len();
    each_part(pieces, skip, most, |guest, done, count| {
        // SAFETY: `count` bytes at `guest` are within a piece, which is mapped (module invariant);
        // `done + count <= dst.len()`, and `dst` is this process's own.
        unsafe { guard::copy(guest, dst.as_mut_ptr().add(done), count) }
    })
}

/// Copies `src` into `pieces`, after their first `skip` bytes; returns how many bytes found room.
///
/// # Errors
/// Some of the room cannot be written; any part of it may have been.
#[inline]
pub(crate) fn copy_into(pieces: &[IoVec], skip: usize, src: &[u8]) -> Result<usize, MemoryFault> {
    each_part(pieces, skip, src.len(), |guest, done, count| {
        // SAFETY: `count` bytes at `guest` are within a piece, which is mapped (module invariant);
        // `done + count <= src.len()`, and `src` is this process's own.
        unsafe { guard::copy(src.as_ptr().add(done), guest, count) }
    })
}

/// Calls `copy(guest, done, count)` for each contiguous part of the `most` bytes that lie `skip`
/// bytes behind the start of `pieces`; returns how many bytes there were.
#[inline(always)]
fn each_part(
    pieces: &[IoVec],
    mut skip: usize,
    most: usize,
    mut copy: impl FnMut(*mut u8, usize, usize) -> Result<(), MemoryFault>,
) -> Result<usize, MemoryFault> {
    let mut done = 0;
    for piece in pieces {
        if done == most {
            break;
        }
        let len = piece.len();
        if skip >= len {
            skip -= len;
            continue;
        }
        let count = (len - skip).min(most - done);
        copy(
            piece.0.iov_base.cast::<u8>().wrapping_add(skip),
            done,
            count,
        )?;
        skip = 0;
        done += count;
    }
    Ok(done)
}

/// Copies a header to the front of `pieces`, in registers when the first piece has room for it.
///
/// # Errors
/// The room cannot be written.
#[inline]
pub(crate) fn put_front<const N: usize>(
    pieces: &[IoVec],
    header: &[u8; N],
) -> Result<(), MemoryFault> {
    match pieces.first() {
        // SAFETY: the piece has `N` bytes and is mapped (module invariant).
        Some(piece) if piece.len() >= N => unsafe {
            guard::store_header(piece.0.iov_base.cast(), header)
        },
        _ => copy_into(pieces, 0, header).map(|_| ()),
    }
}

/// A frame on its way out: the checked header, then the frame's bytes where the guest left them.
#[derive(Debug)]
pub struct Gather<'a> {
    pieces: &'a [IoVec],
    header: usize,
    len: usize,
    guest: PhantomData<&'a [u8]>,
}

impl<'a> Gather<'a> {
    /// `pieces[0]` is the header of `header` bytes; `len` counts header and frame.
    pub(crate) fn new(pieces: &'a [IoVec], header: usize, len: usize) -> Self {
        Self {
            pieces,
            header,
            len,
            guest: PhantomData,
        }
    }

    /// A frame that this process owns, header first: for tests and for backends that pass frames on.
    #[must_use]
    pub fn with_bytes<T>(bytes: &[u8], header: usize, f: impl FnOnce(&Gather<'_>) -> T) -> T {
        let piece = IoVec(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        f(&Gather::new(&[piece], header.min(bytes.len()), bytes.len()))
    }

    /// Bytes of header and frame together.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the header.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header
    }

    /// The pieces, for `writev`: valid while `self` is borrowed, at most [`MAX_SEGMENTS`].
    #[inline]
    #[must_use]
    pub fn as_iovecs(&self) -> (*const libc::iovec, usize) {
        (self.pieces.as_ptr().cast(), self.pieces.len())
    }

    /// Copies header and frame into `dst`; returns the bytes copied, at most `dst.len()`.
    ///
    /// # Errors
    /// The frame cannot be read: the guest's memory is not there.
    #[inline]
    pub fn copy_to(&self, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(self.pieces, 0, dst)
    }

    /// Copies from byte `skip` (counted from the header's first byte) on.
    ///
    /// # Errors
    /// As for [`Gather::copy_to`].
    pub fn copy_from_offset(&self, skip: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(self.pieces, skip, dst)
    }
}

/// Room for one frame and its header, spread over guest buffers.
#[derive(Debug)]
pub struct Scatter<'a> {
    pieces: &'a [IoVec],
    len: usize,
    guest: PhantomData<&'a mut [u8]>,
}

impl<'a> Scatter<'a> {
    pub(crate) fn new(pieces: &'a [IoVec], len: usize) -> Self {
        Self {
            pieces,
            len,
            guest: PhantomData,
        }
    }

    /// Room in memory that this process owns: for tests and for decorators.
    #[must_use]
    pub fn with_bytes<T>(bytes: &mut [u8], f: impl FnOnce(&mut Scatter<'_>) -> T) -> T {
        let slice = HostSlice::of_buffer(bytes);
        f(&mut Scatter::new(&[slice.io()], slice.len()))
    }

    /// Bytes of room in all.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no room at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, for `readv`: valid while `self` is borrowed, at most [`MAX_SEGMENTS`].
    #[inline]
    #[must_use]
    pub fn as_iovecs(&mut self) -> (*const libc::iovec, usize) {
        (self.pieces.as_ptr().cast(), self.pieces.len())
    }

    /// Copies `src` in at byte `skip`; returns how many bytes found room.
    ///
    /// # Errors
    /// The room cannot be written: the guest's memory is not there.
    pub fn write_at(&mut self, skip: usize, src: &[u8]) -> Result<usize, MemoryFault> {
        copy_into(self.pieces, skip, src)
    }

    /// Copies out what was put in before, from byte `skip` on: for decorators that look at a received frame.
    ///
    /// # Errors
    /// It cannot be read: the guest's memory is not there any more.
    pub fn read_at(&self, skip: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(self.pieces, skip, dst)
    }
}
