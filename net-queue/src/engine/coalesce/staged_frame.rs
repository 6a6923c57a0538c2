//! A frame at hand, of which the headers were copied and the payload may lie where the guest left
//! it.

use super::rules::HEADERS;
use crate::header::{NetHdr, flags};
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::guard::MemoryFault;
use crate::memory::iovec::{IoVec, copy_from};

/// A short frame behind its virtio-net header. Each byte of it is fetched once.
pub(in crate::engine) struct StagedFrame<'a> {
    /// Its first bytes.
    pub(in crate::engine) bounce: &'a mut BounceBuffer,
    /// Number of these: with the headers of any frame that can join a group.
    pub(in crate::engine) copied: &'a mut usize,
    /// All of it, where the guest left it.
    pub(in crate::engine) iovecs: &'a [IoVec],
    /// Bytes of all of it.
    pub(in crate::engine) len: usize,
    /// Bytes of the virtio-net header.
    pub(in crate::engine) size: usize,
    /// The checked copy of that header.
    pub(in crate::engine) header: NetHdr,
}

impl StagedFrame<'_> {
    /// First bytes of the frame, with all its headers if it can join a group.
    #[inline]
    pub(super) fn head(&self) -> &[u8] {
        &self.bounce[self.size..self.len.min(self.size + HEADERS)]
    }

    /// As many bytes of the buffer as headers can have: behind a shorter frame's they mean nothing.
    #[inline]
    pub(super) fn headers(&self) -> Option<&[u8; HEADERS]> {
        self.bounce.get(self.size..)?.first_chunk()
    }

    /// Bytes of the frame.
    #[inline]
    pub(super) fn frame_len(&self) -> usize {
        self.len - self.size
    }

    /// Returns whether it came with a partial checksum.
    #[inline]
    pub(super) fn is_partial(&self) -> bool {
        self.header.flags() & flags::NEEDS_CSUM != 0
    }

    /// Copies what is behind the first `skip` bytes of the frame into `payload`, which has as many.
    ///
    /// # Errors
    /// The guest's memory cannot be read; any part of `payload` may have been written.
    #[inline]
    pub(super) fn copy_payload(&self, skip: usize, payload: &mut [u8]) -> Result<(), MemoryFault> {
        let front = &self.bounce[self.size + skip..(*self.copied).max(self.size + skip)];
        let (copied, rest) = payload.split_at_mut(front.len());
        copied.copy_from_slice(front);
        if !rest.is_empty() {
            copy_from(self.iovecs, *self.copied, rest)?;
        }
        Ok(())
    }

    /// Takes back what [`Self::copy_payload`] made of the frame: all of it is in the bounce buffer
    /// then.
    #[cold]
    pub(super) fn take_back(&mut self, payload: &[u8]) {
        let rest = &mut self.bounce[*self.copied..self.len];
        rest.copy_from_slice(&payload[payload.len() - rest.len()..]);
        *self.copied = self.len;
    }

    /// Copies what is left, and lets the buffer change places with `buffer`.
    ///
    /// # Errors
    /// The guest's memory cannot be read; the buffers are where they were.
    #[inline]
    pub(super) fn move_to(&mut self, buffer: &mut BounceBuffer) -> Result<(), MemoryFault> {
        let rest = &mut self.bounce[*self.copied..self.len];
        if !rest.is_empty() {
            copy_from(self.iovecs, *self.copied, rest)?;
        }
        std::mem::swap(buffer, self.bounce);
        Ok(())
    }
}
