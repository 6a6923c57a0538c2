//! Bytes that this process shares with another one which may take them away.
#![allow(unsafe_code)]

use std::any::Any;
use std::sync::Arc;

use vm_memory::VolatileMemory;

use super::guard::{self, MemoryFault};
use super::iovec::{HostSlice, copy_from};
use super::kill_switch;

#[cfg(test)]
mod tests;

/// A mapping that may vanish under its user, such as the dirty log of a vhost-user front-end: an
/// access to what is gone fails instead of ending the process. Clones share it.
#[derive(Clone)]
pub struct SharedBytes {
    slice: HostSlice,
    /// Keeps the addresses mapped.
    _owner: Arc<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

impl SharedBytes {
    /// All bytes of `memory`, which stays alive as long as any clone of the result.
    #[must_use]
    pub fn new<M>(memory: Arc<M>) -> Self
    where
        M: VolatileMemory + Send + Sync + 'static,
    {
        let slice = HostSlice::of_volatile(&memory.as_volatile_slice());
        Self {
            slice,
            _owner: memory,
        }
    }

    /// Returns how many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// Returns whether there is no byte at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets `bits` of the byte at `offset`, atomically; beyond the end there is nothing to set.
    ///
    /// Everything that this thread wrote before is visible to whoever sees the bits.
    ///
    /// # Errors
    /// The byte is not there any more.
    pub fn fetch_or(&self, offset: usize, bits: u8) -> Result<(), MemoryFault> {
        match self.slice.sub(offset, 1) {
            // SAFETY: one byte of a mapping that `_owner` keeps, accessed by raw copies and atomics
            // only.
            Some(byte) => unsafe { guard::fetch_or8(byte.as_ptr(), bits) },
            None => Ok(()),
        }
    }

    /// The `len` bytes from `offset` on, if there are so many.
    #[must_use]
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        Some(Self {
            slice: self.slice.sub(offset, len)?,
            _owner: Arc::clone(&self._owner),
        })
    }

    /// Stores `value` at `offset` in the machine's byte order, as one word, between the stores
    /// before and behind this call as they are written. Beyond the end, at an address that is not a
    /// multiple of eight, and in bytes that are not there any more nothing happens.
    #[inline]
    pub(crate) fn store64(&self, offset: usize, value: u64) {
        if let Some(bytes) = self.slice.sub(offset, 8)
            && bytes.as_ptr().cast::<u64>().is_aligned()
            && kill_switch::lands()
        {
            // SAFETY: eight aligned bytes of a mapping that `_owner` keeps, accessed by raw copies
            // and atomics only.
            let _ = unsafe { guard::store64(bytes.as_ptr().cast(), value) };
        }
    }

    /// Copies out what lies at `offset`; returns how many bytes there were.
    ///
    /// # Errors
    /// Some of them are not there any more.
    pub fn read(&self, offset: usize, dst: &mut [u8]) -> Result<usize, MemoryFault> {
        copy_from(&[self.slice.io()], offset, dst)
    }
}
