//! The VMM's memory map, to be read again when it has changed.

use net_queue::{GuestRam, RamError};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryRegion};

/// A map of any type.
pub(super) struct MemoryMap(Box<dyn Fn() -> Result<GuestRam, RamError> + Send + Sync>);

impl MemoryMap {
    pub(super) fn new<M>(memory: GuestMemoryAtomic<M>) -> Self
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
        <M::R as GuestMemoryRegion>::B: 'static,
    {
        Self(Box::new(move || {
            GuestRam::new(memory.memory().into_inner())
        }))
    }

    /// The memory as it is now.
    pub(super) fn read(&self) -> Result<GuestRam, RamError> {
        (self.0)()
    }
}
