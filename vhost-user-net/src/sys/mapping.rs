//! Files of a front-end, mapped: guest memory, and other memory that it shares.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::fs::fstat;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use vm_memory::volatile_memory::{self, VolatileMemory, VolatileSlice};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionCollectionError, GuestRegionMmap,
    MmapRegion,
};

/// Leaves `region` out of core dumps of this process, which the guest's memory does not belong in.
///
/// # Errors
/// The kernel's error.
pub(crate) fn exclude_from_core_dumps(region: &MmapRegion) -> io::Result<()> {
    // SAFETY: the range is the region's own mapping, which its borrow keeps alive; the advice
    // changes no byte of it and no access to it.
    unsafe { madvise(region.as_ptr().cast(), region.size(), Advice::LinuxDontDump)? };
    Ok(())
}

/// Bytes of a file, mapped shared, readable and writable. They stay mapped without any descriptor.
#[derive(Debug)]
pub(crate) struct FileMapping {
    addr: NonNull<c_void>,
    len: usize,
    /// Size of the file's blocks: that of its pages, if they are huge.
    block: u64,
}

// SAFETY: the address is a number here; who accesses what it points at does so as with any guest
// memory.
unsafe impl Send for FileMapping {}
// SAFETY: as for Send.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps `len` bytes of `file` from `offset`, and keeps them out of core dumps: they are the
    /// guest's.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let block = fstat(file)?.st_blksize as u64;
        let (prot, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
        );
        // SAFETY: a new mapping at an address of the kernel's choice replaces none.
        let addr = unsafe { mmap(ptr::null_mut(), len, prot, flags, file, offset)? };
        let addr = NonNull::new(addr).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self { addr, len, block };
        // SAFETY: the range is the mapping that was just made; the advice changes no byte of it.
        unsafe { madvise(addr.as_ptr(), len, Advice::LinuxDontDump)? };
        Ok(mapping)
    }
}

impl VolatileMemory for FileMapping {
    type B = ();

    fn len(&self) -> usize {
        self.len
    }

    fn get_slice(
        &self,
        offset: usize,
        count: usize,
    ) -> volatile_memory::Result<VolatileSlice<'_, ()>> {
        self.compute_end_offset(offset, count)?;
        // SAFETY: the range is within the mapping, as was just checked, and the borrow of its owner
        // keeps it mapped.
        Ok(unsafe { VolatileSlice::new(self.addr.as_ptr().cast::<u8>().add(offset), count) })
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        let addr = self.addr.as_ptr();
        // SAFETY: this is the mapping's owner; whoever uses it holds a reference to this. The
        // kernel refuses a length within a huge page: the mapping then reaches to the end of that
        // page.
        unsafe {
            if munmap(addr, self.len).is_err() {
                let whole = (self.len as u64).next_multiple_of(self.block.max(1));
                let _ = munmap(addr, whole as usize);
            }
        }
    }
}

/// Guest memory made of mapped files, which stay mapped as long as this exists.
#[derive(Debug)]
pub struct MappedMemory {
    regions: GuestMemoryMmap,
    _mappings: Vec<Arc<FileMapping>>,
}

/// Reason why mapped files do not make up a guest's memory.
#[derive(Debug)]
pub(crate) enum Misfit {
    /// The region at this guest-physical address ends beyond the last address.
    Wraps(u64),
    /// Regions share addresses.
    Overlap(GuestRegionCollectionError),
}

impl MappedMemory {
    /// Memory of mappings at guest-physical addresses, sorted by these.
    pub(crate) fn new(
        mappings: impl IntoIterator<Item = (u64, Arc<FileMapping>)>,
    ) -> Result<Self, Misfit> {
        let mut regions = Vec::new();
        let mut held = Vec::new();
        for (gpa, mapping) in mappings {
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            // SAFETY: the range is a mapping that `mapping` keeps, and the result holds `mapping`
            // besides the region, of which it hands out references only.
            let region = unsafe {
                MmapRegion::build_raw(mapping.addr.as_ptr().cast(), mapping.len, prot, flags)
            };
            let region = region
                .ok()
                .and_then(|region| GuestRegionMmap::new(region, GuestAddress(gpa)));
            regions.push(region.ok_or(Misfit::Wraps(gpa))?);
            held.push(mapping);
        }
        Ok(Self {
            regions: GuestMemoryMmap::from_regions(regions).map_err(Misfit::Overlap)?,
            _mappings: held,
        })
    }
}

impl GuestMemoryBackend for MappedMemory {
    type R = GuestRegionMmap;

    fn iter(&self) -> impl Iterator<Item = &Self::R> {
        self.regions.iter()
    }
}
