//! Platform of the driver crate, and the only unsafe code of the guest.
//!
//! The holder of a buffer alone may touch it: see [`DmaBuf`] and [`Driver`].

#![allow(unsafe_code)]

mod buffer;
mod driver;

pub use buffer::DmaBuf;
pub use driver::{Driver, DriverError, Frame, QUEUE_SIZE};

use std::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_memory::{Bytes, GuestAddress};

use super::arena::Arena;

/// An address outside guest memory: the answer where the driver crate leaves no room for an error.
/// The device refuses it.
const NOWHERE: PhysAddr = 0;

/// The platform of the embedded guest: its DMA memory is the [`Arena`].
#[derive(Debug)]
pub struct ArenaHal;

// SAFETY: each method meets its "implementation safety" clause as the comment in it says.
unsafe impl Hal for ArenaHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // The arena is never unmapped and lends a page to one owner at a time, so the pointer is
        // valid, aligned to a page, zeroed and not aliased until `dma_dealloc`. Address 0 is the
        // crate's word for failure; the pointer is not used then.
        match Arena::global().ok().and_then(|arena| arena.take(pages)) {
            Some(run) => (run.gpa, run.host),
            None => (NOWHERE, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, _vaddr: NonNull<u8>, pages: usize) -> i32 {
        match Arena::global() {
            Ok(arena) if arena.give(paddr, pages) => 0,
            _ => -1,
        }
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("only a PCI transport maps registers, and this guest has none")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let Ok(arena) = Arena::global() else {
            return NOWHERE;
        };
        if let Some(gpa) = arena.locate(buffer) {
            return gpa;
        }
        let Some(copy) = arena.take(buffer.len().div_ceil(PAGE_SIZE)) else {
            return NOWHERE;
        };
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller says that the range is valid and that nobody else touches it
            // during this call.
            let bytes = unsafe { buffer.as_ref() };
            // The pages were just taken for this length, so the write cannot leave the memory.
            let _ = arena.memory().write_slice(bytes, GuestAddress(copy.gpa));
        }
        copy.gpa
    }

    unsafe fn unshare(paddr: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        let Ok(arena) = Arena::global() else {
            return;
        };
        if paddr == NOWHERE || arena.locate(buffer).is_some() {
            return;
        }
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller says that the range is valid and that nobody else touches it
            // during this call.
            let bytes = unsafe { buffer.as_mut() };
            // `share` took pages for this length at this address, so the read stays inside.
            let _ = arena.memory().read_slice(bytes, GuestAddress(paddr));
        }
        arena.give(paddr, buffer.len().div_ceil(PAGE_SIZE));
    }
}

#[cfg(test)]
mod tests;
