//! Guest bytes as the kernel and the CPU reach them: checked host ranges, scatter lists, copies.
//!
//! One of the crate's modules with `unsafe`. Its one invariant: a [`HostSlice`] covers addresses
//! that some [`GuestRam`](crate::GuestRam) keeps mapped, and whoever holds a slice holds that
//! `GuestRam` too. The guest may change these bytes at any moment, so no Rust reference to them is
//! ever made: bytes move by raw copies only, and what was copied out is what is checked and used. A
//! page of the mapping may be out of reach; a copy fails then (`guard`).
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{self, NonNull};
use std::slice;

use libc::c_int;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{GuestMemoryRegion, MemoryRegionAddress, VolatileSlice};

use super::guard::MemoryFault;
use crate::header::group::Group;

mod copy;

pub(crate) use copy::{
    copy_from, copy_into, copy_to_front, header_at_front, put_front, put_front_with,
};

#[cfg(test)]
mod tests;

/// The most segments that one `readv` or `writev` takes (Linux `UIO_MAXIOV`).
pub const MAX_SEGMENTS: usize = 1024;

/// A checked range of host memory that backs guest memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostSlice {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a `HostSlice` is a plain address range; every access to it goes through raw copies and
// atomics that assume concurrent writers (the guest), so moving or sharing it between threads adds
// no new hazard.
unsafe impl Send for HostSlice {}
// SAFETY: as above.
unsafe impl Sync for HostSlice {}

impl HostSlice {
    /// A range of no bytes.
    pub(super) const EMPTY: Self = Self {
        ptr: NonNull::dangling(),
        len: 0,
    };

    /// The whole of a mapped region, or `None` when the region has no host mapping for all of it.
    ///
    /// The slice borrows from the region, which whoever keeps the result keeps in its place.
    pub(crate) fn of_region<R: GuestMemoryRegion>(region: &R) -> Option<Self> {
        let len = usize::try_from(region.len()).ok().filter(|len| *len > 0)?;
        let slice = region.get_slice(MemoryRegionAddress(0), len).ok()?;
        (slice.len() == len).then(|| Self::of_volatile(&slice))
    }

    /// The `len` bytes at `ptr`, or `None` when there is no such range.
    ///
    /// # Safety
    /// They are mapped as long as the result is in use, and no Rust reference to them exists.
    pub(crate) unsafe fn from_raw(ptr: *mut u8, len: usize) -> Option<Self> {
        let ptr = NonNull::new(ptr)?;
        let fits = len > 0 && isize::try_from(len).is_ok() && ptr.addr().checked_add(len).is_some();
        fits.then_some(Self { ptr, len })
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
    #[inline(always)]
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

    /// Host address of the first byte, to be compared with others.
    pub(crate) fn addr(&self) -> usize {
        self.ptr.addr().get()
    }

    #[inline]
    pub(crate) fn io(&self) -> IoVec {
        IoVec(libc::iovec {
            iov_base: self.ptr.as_ptr().cast(),
            iov_len: self.len,
        })
    }
}

/// One segment of a scatter list: the kernel's `iovec` over a checked range.
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
    /// A segment of no bytes.
    pub(crate) const EMPTY: Self = Self(libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    });

    /// Host address of the first byte, to be compared with others.
    pub(crate) fn addr(&self) -> usize {
        self.0.iov_base.addr()
    }

    /// Its length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Returns whether it covers no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iov_len == 0
    }

    /// Drops the first `count` bytes (at most all of them).
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        let count = count.min(self.0.iov_len);
        // SAFETY: `count` is within the segment.
        self.0.iov_base = unsafe { self.0.iov_base.cast::<u8>().add(count) }.cast();
        self.0.iov_len -= count;
    }
}

/// The segments as the kernel knows them.
#[inline]
fn bare(segments: &[IoVec]) -> &[libc::iovec] {
    // SAFETY: `IoVec` is a transparent wrapper of `libc::iovec`.
    unsafe { slice::from_raw_parts(segments.as_ptr().cast(), segments.len()) }
}

/// Makes a system call again as long as signals interrupt it.
#[inline]
fn transfer(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A frame on its way out: the checked header, then the frame's bytes where the guest left them.
#[derive(Debug)]
pub struct Gather<'a> {
    segments: &'a [IoVec],
    header: usize,
    len: usize,
    /// It holds several frames of one flow.
    group: Option<&'a Group>,
    guest: PhantomData<&'a [u8]>,
}

impl<'a> Gather<'a> {
    /// `segments[0]` is the header of `header` bytes; `len` counts header and frame.
    pub(crate) fn new(segments: &'a [IoVec], header: usize, len: usize) -> Self {
        Self {
            segments,
            header,
            len,
            group: None,
            guest: PhantomData,
        }
    }

    /// The same bytes, which hold the frames of `group`.
    pub(crate) fn with_group(self, group: &'a Group) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    /// Number of frames of the driver's that these bytes are: more than one where the engine put
    /// several into the shape of one that is to be segmented.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.group.map_or(1, |group| group.frames)
    }

    /// Copies frame `index` of those that these bytes are, with its header, into `dst`; returns the
    /// bytes copied, at most `dst.len()`. A frame of several has a partial checksum.
    ///
    /// # Errors
    /// As for [`Gather::copy_to`].
    pub fn copy_frame(&self, index: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        let Some(group) = self.group else {
            return self.copy_to(dst);
        };
        let headers = (self.header + group.packet.payload).min(dst.len());
        let payload = group.payload(index, self.len - self.header);
        let end = (headers + payload.len()).min(dst.len());
        let (head, rest) = dst[..end].split_at_mut(headers);
        copy_from(self.segments, 0, head)?;
        copy_from(self.segments, self.header + payload.start, rest)?;
        group.restore_behind(index, &mut dst[..end], self.header);
        Ok(end)
    }

    /// A frame that this process owns, header first: for tests and for backends that pass frames
    /// on.
    #[must_use]
    pub fn with_bytes<T>(bytes: &[u8], header: usize, f: impl FnOnce(&Gather<'_>) -> T) -> T {
        let segment = IoVec(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        f(&Gather::new(
            &[segment],
            header.min(bytes.len()),
            bytes.len(),
        ))
    }

    /// Bytes of header and frame together.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the header.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header
    }

    /// The segments, for system calls that gather: mapped while `self` is borrowed, at most
    /// [`MAX_SEGMENTS`].
    ///
    /// Their bytes are not for this process to look at: a guest may write them at any time, and
    /// they need not be there.
    #[inline]
    #[must_use]
    pub fn as_iovecs(&self) -> &[libc::iovec] {
        bare(self.segments)
    }

    /// Sends header and frame to `fd`, with one `write` or `writev` that is repeated when a signal
    /// interrupts it; returns how many bytes it took.
    ///
    /// # Errors
    /// The system call's error; `EFAULT` is guest memory that is not there.
    /// [`SendError`](crate::SendError) is made `From` it.
    #[inline]
    pub fn write_to(&self, fd: impl AsFd) -> io::Result<usize> {
        let fd = fd.as_fd().as_raw_fd();
        match self.as_iovecs() {
            // SAFETY: the segment is mapped while `self` is borrowed (module invariant); the kernel
            // only reads it.
            [one] => transfer(|| unsafe { libc::write(fd, one.iov_base, one.iov_len) }),
            // SAFETY: as above, for each of them.
            all => transfer(|| unsafe { libc::writev(fd, all.as_ptr(), all.len() as c_int) }),
        }
    }

    /// Copies header and frame into `dst`; returns the bytes copied, at most `dst.len()`.
    ///
    /// # Errors
    /// The frame cannot be read: the guest's memory is not there.
    #[inline]
    pub fn copy_to(&self, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(self.segments, 0, dst)
    }

    /// Copies from byte `skip` (counted from the header's first byte) on.
    ///
    /// # Errors
    /// As for [`Gather::copy_to`].
    pub fn copy_from_offset(&self, skip: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(self.segments, skip, dst)
    }
}

/// Room for one frame and its header, spread over guest buffers.
#[derive(Debug)]
pub struct Scatter<'a> {
    segments: &'a [IoVec],
    len: usize,
    guest: PhantomData<&'a mut [u8]>,
}

impl<'a> Scatter<'a> {
    pub(crate) fn new(segments: &'a [IoVec], len: usize) -> Self {
        Self {
            segments,
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

    /// Returns whether there is no room at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments, for system calls that scatter: mapped while `self` is borrowed, at most
    /// [`MAX_SEGMENTS`].
    ///
    /// Their bytes are not for this process to look at: a guest may write them at any time, and
    /// they need not be there.
    #[inline]
    #[must_use]
    pub fn as_iovecs(&mut self) -> &[libc::iovec] {
        bare(self.segments)
    }

    /// Receives header and frame from `fd`, with one `read` or `readv` that is repeated when a
    /// signal interrupts it; returns how many bytes came.
    ///
    /// # Errors
    /// The system call's error; `EFAULT` is guest memory that is not there.
    /// [`RecvError`](crate::RecvError) is made `From` it.
    #[inline]
    pub fn read_from(&mut self, fd: impl AsFd) -> io::Result<usize> {
        let fd = fd.as_fd().as_raw_fd();
        match self.as_iovecs() {
            // SAFETY: the segment is mapped while `self` is borrowed, and no reference to its bytes
            // exists (module invariant).
            [one] => transfer(|| unsafe { libc::read(fd, one.iov_base, one.iov_len) }),
            // SAFETY: as above, for each of them.
            all => transfer(|| unsafe { libc::readv(fd, all.as_ptr(), all.len() as c_int) }),
        }
    }

    /// Copies `src` in at byte `skip`; returns how many bytes found room.
    ///
    /// # Errors
    /// The room cannot be written: the guest's memory is not there.
    pub fn write_at(&mut self, skip: usize, src: &[u8]) -> Result<usize, MemoryFault> {
        copy_into(self.segments, skip, src)
    }

    /// Copies out what was put in before, from byte `skip` on: for decorators that look at a
    /// received frame.
    ///
    /// # Errors
    /// It cannot be read: the guest's memory is not there any more.
    pub fn read_at(&self, skip: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(self.segments, skip, dst)
    }
}
