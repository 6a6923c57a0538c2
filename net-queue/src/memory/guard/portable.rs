//! Plain accesses, for processors without guarded ones and for interpreters: they never fail, the
//! process does.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, compiler_fence};
#[cfg(not(test))]
use std::sync::atomic::{AtomicU16, AtomicU32};

use super::fault::MemoryFault;

/// Copies `len` bytes.
///
/// # Safety
/// Both ranges are mapped and do not overlap; `dst` may be written.
pub(crate) unsafe fn copy(src: *const u8, dst: *mut u8, len: usize) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(src, dst, len) };
    Ok(())
}

/// Stores a header.
///
/// # Safety
/// 12 bytes at `dst` are mapped.
pub(crate) unsafe fn store_header(dst: *mut u8, header: [u8; 12]) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise; an array of bytes has no alignment to keep.
    unsafe { dst.cast::<[u8; 12]>().write(header) };
    Ok(())
}

/// Stores a header and eight more bytes behind it.
///
/// # Safety
/// 20 bytes at `dst` are mapped.
pub(crate) unsafe fn store_header_with(
    dst: *mut u8,
    header: [u8; 12],
    more: [u8; 8],
) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise; arrays of bytes have no alignment to keep.
    unsafe {
        dst.cast::<[u8; 12]>().write(header);
        dst.add(12).cast::<[u8; 8]>().write(more);
    }
    Ok(())
}

/// Loads a header.
///
/// # Safety
/// 12 bytes at `src` are mapped.
pub(crate) unsafe fn load_header(src: *const u8) -> Result<[u8; 12], MemoryFault> {
    // SAFETY: the caller's promise; an array of bytes has no alignment to keep.
    Ok(unsafe { src.cast::<[u8; 12]>().read() })
}

/// Sets bits of one byte, atomically.
///
/// # Safety
/// The byte is mapped.
pub(crate) unsafe fn fetch_or8(ptr: *mut u8, bits: u8) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise; other threads and processes access it atomically.
    unsafe { AtomicU8::from_ptr(ptr) }.fetch_or(bits, Ordering::Release);
    Ok(())
}

/// Loads a word.
///
/// # Safety
/// The word is mapped and aligned, and only accessed atomically.
#[cfg(not(test))]
pub(crate) unsafe fn load16(ptr: *const u16, order: Ordering) -> Result<u16, MemoryFault> {
    // SAFETY: the caller's promise.
    Ok(unsafe { AtomicU16::from_ptr(ptr.cast_mut()) }.load(order))
}

/// Stores a word.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
pub(crate) unsafe fn store16(
    ptr: *mut u16,
    value: u16,
    order: Ordering,
) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise.
    unsafe { AtomicU16::from_ptr(ptr) }.store(value, order);
    Ok(())
}

/// Stores a double word.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
pub(crate) unsafe fn store32(ptr: *mut u32, value: u32) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise.
    unsafe { AtomicU32::from_ptr(ptr) }.store(value, Ordering::Relaxed);
    Ok(())
}

/// Stores a quad word, as one.
///
/// # Safety
/// As for [`copy`], of eight bytes at an address that is a multiple of eight.
pub(crate) unsafe fn store64(ptr: *mut u64, value: u64) -> Result<(), MemoryFault> {
    // The order in this thread alone counts for whoever takes its place.
    compiler_fence(Ordering::SeqCst);
    // SAFETY: the caller's promise.
    unsafe { AtomicU64::from_ptr(ptr) }.store(value, Ordering::Release);
    compiler_fence(Ordering::SeqCst);
    Ok(())
}

/// Stores two neighbouring double words.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
pub(crate) unsafe fn store32x2(ptr: *mut u32, first: u32, second: u32) -> Result<(), MemoryFault> {
    // SAFETY: the caller's promise.
    unsafe {
        store32(ptr, first)?;
        store32(ptr.add(1), second)
    }
}

/// Loads two neighbouring quad words.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
pub(crate) unsafe fn load64x2(ptr: *const u64) -> Result<(u64, u64), MemoryFault> {
    // SAFETY: the caller's promise.
    let (low, high) = unsafe {
        (
            AtomicU64::from_ptr(ptr.cast_mut()),
            AtomicU64::from_ptr(ptr.add(1).cast_mut()),
        )
    };
    let high = high.load(Ordering::Relaxed);
    Ok((low.load(Ordering::Relaxed), high))
}

/// Loads two neighbouring quad words, the last two bytes first: what was written before those is
/// seen.
///
/// # Safety
/// As for [`load16`].
#[cfg(not(test))]
pub(crate) unsafe fn load64x2_acquire(ptr: *const u64) -> Result<(u64, u64), MemoryFault> {
    // SAFETY: the caller's promise.
    let (flags, (low, high)) = unsafe {
        let flags = load16(ptr.cast::<u16>().add(7), Ordering::Acquire)?;
        (flags, load64x2(ptr)?)
    };
    // What was loaded after them may be younger, and the rest of it not.
    let [b0, b1, b2, b3, b4, b5, ..] = high.to_ne_bytes();
    let [b6, b7] = flags.to_ne_bytes();
    Ok((low, u64::from_ne_bytes([b0, b1, b2, b3, b4, b5, b6, b7])))
}
