//! Copies between segments of guest memory and memory of this process.
#![allow(unsafe_code)]

use super::IoVec;
use crate::memory::guard::{self, MemoryFault};

/// Copies from `segments`, after the first `skip` bytes, into `dst`; returns how many bytes there
/// were.
///
/// # Errors
/// Some of them cannot be read; any part of `dst` may have been written.
#[inline]
pub(crate) fn copy_from(
    segments: &[IoVec],
    skip: usize,
    dst: &mut [u8],
) -> Result<usize, MemoryFault> {
    let most = dst.len();
    each_part(segments, skip, most, |guest, done, count| {
        // SAFETY: `count` bytes at `guest` are within a segment, which is mapped (module
        // invariant); `done + count <= dst.len()`, and `dst` is this process's own.
        unsafe { guard::copy(guest, dst.as_mut_ptr().add(done), count) }
    })
}

/// Copies `src` into `segments`, after their first `skip` bytes; returns how many bytes found room.
///
/// # Errors
/// Some of the room cannot be written; any part of it may have been.
#[inline]
pub(crate) fn copy_into(segments: &[IoVec], skip: usize, src: &[u8]) -> Result<usize, MemoryFault> {
    each_part(segments, skip, src.len(), |guest, done, count| {
        // SAFETY: `count` bytes at `guest` are within a segment, which is mapped (module
        // invariant); `done + count <= src.len()`, and `src` is this process's own.
        unsafe { guard::copy(src.as_ptr().add(done), guest, count) }
    })
}

/// Calls `copy(guest, done, count)` for each contiguous part of the `most` bytes that lie `skip`
/// bytes behind the start of `segments`; returns how many bytes there were.
#[inline(always)]
fn each_part(
    segments: &[IoVec],
    mut skip: usize,
    most: usize,
    mut copy: impl FnMut(*mut u8, usize, usize) -> Result<(), MemoryFault>,
) -> Result<usize, MemoryFault> {
    let mut done = 0;
    for segment in segments {
        if done == most {
            break;
        }
        let len = segment.len();
        if skip >= len {
            skip -= len;
            continue;
        }
        let count = (len - skip).min(most - done);
        copy(
            segment.0.iov_base.cast::<u8>().wrapping_add(skip),
            done,
            count,
        )?;
        skip = 0;
        done += count;
    }
    Ok(done)
}

/// Copies `src` to the start of `segments`, if the first one has room for all of it.
///
/// Like a header, compiled into the path of each frame: a call, and a loop over segments, would be
/// code that is fetched anew behind each system call.
///
/// # Errors
/// The room cannot be written; any part of it may have been.
#[inline(always)]
pub(crate) fn copy_to_front(segments: &[IoVec], src: &[u8]) -> Option<Result<(), MemoryFault>> {
    let segment = segments
        .first()
        .filter(|segment| segment.len() >= src.len())?;
    // SAFETY: the segment has as many bytes, and is mapped (module invariant); `src` is this
    // process's own.
    Some(unsafe { guard::copy(src.as_ptr(), segment.0.iov_base.cast(), src.len()) })
}

/// Copies a header to the start of `segments`: from registers when the first one has room for it.
///
/// # Errors
/// The room cannot be written.
#[inline(always)]
pub(crate) fn put_front(segments: &[IoVec], header: [u8; 12]) -> Result<(), MemoryFault> {
    match segments.first() {
        // SAFETY: the segment has the header's bytes, and is mapped (module invariant).
        Some(segment) if segment.len() >= header.len() => unsafe {
            guard::store_header(segment.0.iov_base.cast(), header)
        },
        _ => put_in_parts(segments, header, &[]),
    }
}

/// The same for a header and `more` behind it.
///
/// # Errors
/// The room cannot be written.
#[inline(always)]
pub(crate) fn put_front_with(
    segments: &[IoVec],
    header: [u8; 12],
    more: [u8; 8],
) -> Result<(), MemoryFault> {
    match segments.first() {
        // SAFETY: the segment has the bytes of both, and is mapped (module invariant).
        Some(segment) if segment.len() >= header.len() + more.len() => unsafe {
            guard::store_header_with(segment.0.iov_base.cast(), header, more)
        },
        _ => put_in_parts(segments, header, &more),
    }
}

/// The same for one that several segments hold.
#[cold]
#[inline(never)]
fn put_in_parts(segments: &[IoVec], header: [u8; 12], more: &[u8]) -> Result<(), MemoryFault> {
    copy_into(segments, 0, &header)?;
    copy_into(segments, header.len(), more).map(|_| ())
}

/// Returns the first 12 bytes of `segments`, if the first one has them: by registers.
///
/// # Errors
/// They cannot be read.
#[inline]
pub(crate) fn header_at_front(segments: &[IoVec]) -> Option<Result<[u8; 12], MemoryFault>> {
    let segment = segments.first().filter(|segment| segment.len() >= 12)?;
    // SAFETY: the segment has 12 bytes, and is mapped (module invariant).
    Some(unsafe { guard::load_header(segment.0.iov_base.cast()) })
}
