//! Guest physical memory, shared by every embedded guest of the process.
//!
//! The driver crate allocates through functions without `self`, so there is one arena for the
//! process, and it is never unmapped. Its pages are touched on first use, so an idle arena costs
//! address space only.

use std::ptr::NonNull;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use thiserror::Error;
use virtio_drivers::PAGE_SIZE;
use vm_memory::mmap::FromRangesError;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap};

use super::pages::PageMap;

/// Guest-physical address of the first byte. Not 0, which drivers read as "no memory".
pub const BASE: u64 = 0x4000_0000;

/// Size in bytes: room for some thirty guests.
pub const SIZE: usize = 128 << 20;

static ARENA: LazyLock<Result<Arena, ArenaError>> = LazyLock::new(Arena::map);

/// Reason why there is no guest memory.
#[derive(Debug, Error)]
pub enum ArenaError {
    /// The host refused the mapping.
    #[error("guest memory cannot be mapped")]
    Map(#[source] FromRangesError),
    /// The mapping has no host address.
    #[error("guest memory cannot be reached")]
    Reach(#[source] GuestMemoryError),
    /// Every page is in use.
    #[error("guest memory is used up")]
    Exhausted,
}

/// The memory of the embedded guests, and which of its pages are free.
#[derive(Debug)]
pub struct Arena {
    memory: Arc<GuestMemoryMmap>,
    /// Host address of [`BASE`], for comparing only.
    host: usize,
    pages: Mutex<PageMap>,
}

/// Adjacent pages that one owner holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageRun {
    /// Guest-physical address.
    pub(super) gpa: u64,
    /// Host address of the same byte, aligned to a page.
    pub(super) host: NonNull<u8>,
    /// Length in pages.
    pub(super) pages: usize,
}

impl Arena {
    /// The arena of this process, mapped on first use.
    ///
    /// # Errors
    /// Error of the host when it was mapped; the answer does not change later.
    pub fn global() -> Result<&'static Self, &'static ArenaError> {
        ARENA.as_ref()
    }

    /// The memory, for the device that serves these guests.
    pub fn memory(&self) -> Arc<GuestMemoryMmap> {
        Arc::clone(&self.memory)
    }

    /// Takes enough zeroed pages for `len` bytes, or `None` when the arena is used up.
    pub(super) fn take(&self, pages: usize) -> Option<PageRun> {
        let first = self.pages().take(pages)?;
        let gpa = BASE + (first * PAGE_SIZE) as u64;
        let zeroed = (0..pages).all(|page| {
            let at = GuestAddress(gpa + (page * PAGE_SIZE) as u64);
            self.memory.write_slice(&[0; PAGE_SIZE], at).is_ok()
        });
        let host = self.memory.get_host_address(GuestAddress(gpa)).ok();
        let host = host.and_then(NonNull::new).filter(|_| zeroed)?;
        Some(PageRun { gpa, host, pages })
    }

    /// Gives pages back. `false` when they were not taken.
    pub(super) fn give(&self, gpa: u64, pages: usize) -> bool {
        let Some(offset) = gpa.checked_sub(BASE).map(|offset| offset as usize) else {
            return false;
        };
        offset.is_multiple_of(PAGE_SIZE) && self.pages().give(offset / PAGE_SIZE, pages)
    }

    /// The guest-physical address of host bytes, when they lie in the arena.
    pub(super) fn locate(&self, bytes: NonNull<[u8]>) -> Option<u64> {
        let offset = bytes.addr().get().checked_sub(self.host)?;
        (offset.checked_add(bytes.len())? <= SIZE).then_some(BASE + offset as u64)
    }

    fn map() -> Result<Self, ArenaError> {
        let base = GuestAddress(BASE);
        let memory = GuestMemoryMmap::from_ranges(&[(base, SIZE)]).map_err(ArenaError::Map)?;
        let host = memory
            .get_host_address(base)
            .map_err(ArenaError::Reach)?
            .addr();
        Ok(Self {
            memory: Arc::new(memory),
            host,
            pages: Mutex::new(PageMap::new(SIZE / PAGE_SIZE)),
        })
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, PageMap> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
