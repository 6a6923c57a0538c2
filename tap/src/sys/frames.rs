//! The data path: one call, one frame.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use libc::c_int;

use crate::tap::Tap;

/// Repeats a transfer that a signal interrupted before it moved anything.
#[inline]
fn transfer(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(length) = usize::try_from(call()) {
            return Ok(length);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The data path on memory that Rust cannot see as a slice, because a guest shares it.
///
/// None of these allocates. A transfer that a signal interrupts is repeated; an empty or full
/// queue is [`io::ErrorKind::WouldBlock`].
impl Tap {
    /// Sends one frame, header first, gathered from `count` pieces (at most 1024, else `EINVAL`).
    ///
    /// # Safety
    ///
    /// `iov` points to `count` initialised `iovec`, and each of them to memory that stays mapped
    /// and readable until the call returns. Others may write to that memory meanwhile: the kernel
    /// then sends either value.
    #[inline]
    pub unsafe fn writev_raw(&self, iov: *const libc::iovec, count: usize) -> io::Result<usize> {
        let count = c_int::try_from(count).unwrap_or(c_int::MAX);
        // SAFETY: the caller upholds that `iov` and what it points to are readable; a smaller
        // count than given reads less of it.
        transfer(|| unsafe { libc::writev(self.as_raw_fd(), iov, count) })
    }

    /// Receives one frame, header first, scattered into `count` pieces (at most 1024, else
    /// `EINVAL`). What does not fit is cut off and lost.
    ///
    /// # Safety
    ///
    /// `iov` points to `count` initialised `iovec`, and each of them to memory that stays mapped
    /// and writable until the call returns, and to which no Rust reference exists meanwhile.
    #[inline]
    pub unsafe fn readv_raw(&self, iov: *const libc::iovec, count: usize) -> io::Result<usize> {
        let count = c_int::try_from(count).unwrap_or(c_int::MAX);
        // SAFETY: the caller upholds that `iov` is readable and what it points to writable and
        // unreferenced; a smaller count than given touches less of it.
        transfer(|| unsafe { libc::readv(self.as_raw_fd(), iov, count) })
    }

    /// Sends one frame, header first, from one piece of memory.
    ///
    /// # Safety
    ///
    /// The `length` bytes at `data` stay mapped and readable until the call returns.
    #[inline]
    pub unsafe fn write_raw(&self, data: *const u8, length: usize) -> io::Result<usize> {
        // SAFETY: the caller upholds that the bytes are readable.
        transfer(|| unsafe { libc::write(self.as_raw_fd(), data.cast(), length) })
    }

    /// Receives one frame, header first, into one piece of memory. What does not fit is cut off
    /// and lost.
    ///
    /// # Safety
    ///
    /// The `length` bytes at `data` stay mapped and writable until the call returns, and no Rust
    /// reference to them exists meanwhile.
    #[inline]
    pub unsafe fn read_raw(&self, data: *mut u8, length: usize) -> io::Result<usize> {
        // SAFETY: the caller upholds that the bytes are writable and unreferenced.
        transfer(|| unsafe { libc::read(self.as_raw_fd(), data.cast(), length) })
    }
}

/// The data path on ordinary memory.
impl Tap {
    /// Sends one frame, header first.
    #[inline]
    pub fn write(&self, frame: &[u8]) -> io::Result<usize> {
        // SAFETY: a slice is readable for its length.
        unsafe { self.write_raw(frame.as_ptr(), frame.len()) }
    }

    /// Receives one frame, header first; returns its length. What does not fit is cut off and
    /// lost.
    #[inline]
    pub fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        // SAFETY: a mutable slice is writable for its length and nothing else refers to it.
        unsafe { self.read_raw(frame.as_mut_ptr(), frame.len()) }
    }

    /// Sends one frame, header first, gathered from pieces (at most 1024, else `EINVAL`).
    #[inline]
    pub fn write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: an `IoSlice` is guaranteed to be laid out as an `iovec`, and borrows what it
        // points to.
        unsafe { self.writev_raw(pieces.as_ptr().cast(), pieces.len()) }
    }

    /// Receives one frame, header first, scattered into pieces (at most 1024, else `EINVAL`);
    /// returns its length. What does not fit is cut off and lost.
    #[inline]
    pub fn read_vectored(&self, pieces: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        // SAFETY: an `IoSliceMut` is guaranteed to be laid out as an `iovec`, and borrows what it
        // points to exclusively.
        unsafe { self.readv_raw(pieces.as_ptr().cast(), pieces.len()) }
    }
}
