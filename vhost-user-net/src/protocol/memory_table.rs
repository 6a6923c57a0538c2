//! The memory table: which file holds which part of the guest's memory, mapped here.
//!
//! A front-end names memory in two ways. Buffers in rings are guest-physical addresses; the rings
//! themselves are addresses in the front-end's own process, which only this table can translate.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use net_device::GuestRam;
use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, GuestRegionCollectionError, MmapRegion};

use crate::protocol::iotlb::{Iotlb, Known};
use crate::sys::foreign::is_memory_file;
use crate::sys::mapping::{FileMapping, MappedMemory, Misfit, exclude_from_core_dumps};

#[cfg(test)]
mod tests;

/// Most regions that the table may have.
pub const MAX_SLOTS: usize = 256;

/// Most bytes that one front-end's memory table may map.
///
/// A sparse file costs nothing and may be as long as one likes, but a process has only 2^47 bytes
/// of addresses for all of its devices. The largest hosts have a few of these units, and a table
/// that replaces another is mapped before the other one goes.
pub const MAX_MEMORY: u64 = 8 << 40;

/// Most bytes of a dirty log: a bit for each page of 52 bits of addresses, more than any processor
/// has.
const MAX_LOG: u64 = 1 << 37;

/// Reasons to refuse a file to map.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The file's size is unknown.
    #[error("cannot examine the file")]
    Examine(#[source] io::Error),
    /// Not a file of which no process but the kernel is asked, and whose size says how much can be
    /// touched.
    #[error(
        "the descriptor is not a file in tmpfs or hugetlbfs; pass a memfd, or a file in /dev/shm"
    )]
    NotAFile,
    /// More than one front-end may have of the address space.
    #[error("{len:#x} bytes are mapped for one front-end, at most {max:#x} can be")]
    TooMuch {
        /// Bytes that it would have.
        len: u64,
        /// Largest number.
        max: u64,
    },
    /// Touching what lies beyond the end would kill the process.
    #[error("the file ends at {size:#x}, {end:#x} is asked for")]
    PastEnd {
        /// Size of the file in bytes.
        size: u64,
        /// End of the wanted range in the file.
        end: u64,
    },
    /// The file may shrink while it is used.
    #[error("the file may shrink (it lacks F_SEAL_SHRINK), which --require-sealed refuses")]
    Unsealed,
    /// The kernel refuses.
    #[error("cannot map the file")]
    Map(#[source] io::Error),
    /// The kernel refuses to map a log.
    #[error("cannot map the file")]
    MapLog(#[source] MmapRegionError),
    /// The guest's memory would be written to this process' core dumps.
    #[error("cannot keep the file out of core dumps")]
    CoreDump(#[source] io::Error),
}

/// Reasons to leave the memory table as it was.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A region's file.
    #[error("region at {gpa:#x}")]
    Region {
        /// Guest-physical address of the region.
        gpa: u64,
        /// The cause.
        #[source]
        source: MapError,
    },
    /// Two regions share guest-physical addresses.
    #[error("regions do not fit together")]
    Overlap(#[source] GuestRegionCollectionError),
    /// A region's end is beyond the last address.
    #[error("region at {0:#x} wraps")]
    Wraps(u64),
    /// The table is full.
    #[error("more than {MAX_SLOTS} regions")]
    Full,
    /// The region to take away is not there.
    #[error("no region at {0:#x} with this size and address")]
    Unknown(u64),
}

/// Takes `fd` as a file of which `len` bytes from `offset` can be mapped, `max` at most.
fn memory_file(fd: OwnedFd, offset: u64, len: u64, max: u64) -> Result<(File, usize), MapError> {
    // Before anything else: see there.
    if !is_memory_file(fd.as_fd()) {
        return Err(MapError::NotAFile);
    }
    let file = File::from(fd);
    // Not by a name, which a filter of system calls could not tell from that of any file.
    let found = fstat(&file).map_err(|errno| MapError::Examine(errno.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(MapError::NotAFile);
    }
    let size = u64::try_from(found.st_size).unwrap_or(0);
    let end = offset.saturating_add(len);
    if len > max {
        return Err(MapError::TooMuch { len, max });
    }
    match usize::try_from(len) {
        Ok(len) if end <= size => Ok((file, len)),
        _ => Err(MapError::PastEnd { size, end }),
    }
}

/// Makes sure that no owner of `fd` can take bytes of it away.
///
/// # Errors
/// It can shrink.
pub(crate) fn check_sealed(fd: BorrowedFd<'_>) -> Result<(), MapError> {
    // No answer is that of a file which is refused for what it is later.
    let sealed = fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    sealed.then_some(()).ok_or(MapError::Unsealed)
}

/// Maps the `len` bytes of a dirty log in `fd` from `offset`, shared with whoever else has the
/// file.
///
/// # Errors
/// The range is not wholly inside a file in tmpfs or hugetlbfs, or the kernel refuses.
pub fn map_shared(fd: OwnedFd, offset: u64, len: u64) -> Result<MmapRegion, MapError> {
    let (file, len) = memory_file(fd, offset, len, MAX_LOG)?;
    let region = MmapRegion::from_file(FileOffset::new(file, offset), len);
    let region = region.map_err(MapError::MapLog)?;
    exclude_from_core_dumps(&region).map_err(MapError::CoreDump)?;
    Ok(region)
}

/// Maps `len` bytes of a file that a front-end passed from `offset`, `max` at most; the descriptor
/// is closed.
///
/// # Errors
/// The range is not wholly inside a file in tmpfs or hugetlbfs, or the kernel refuses.
pub(crate) fn map_file(
    fd: OwnedFd,
    offset: u64,
    len: u64,
    max: u64,
) -> Result<FileMapping, MapError> {
    let (file, len) = memory_file(fd, offset, len, max)?;
    FileMapping::new(&file, offset, len).map_err(MapError::Map)
}

/// One region, mapped. Clones share the mapping, which goes with the last of them.
#[derive(Clone, Debug)]
struct Region {
    gpa: u64,
    size: u64,
    user_addr: u64,
    mapping: Arc<FileMapping>,
}

impl Region {
    fn map(asked: &VhostUserMemoryRegion, fd: OwnedFd) -> Result<Self, MemoryError> {
        let (gpa, size) = (asked.guest_phys_addr, asked.memory_size);
        let offset = asked.mmap_offset;
        let mapping = map_file(fd, offset, size, MAX_MEMORY)
            .map_err(|source| MemoryError::Region { gpa, source })?;
        Ok(Self {
            gpa,
            size,
            user_addr: asked.user_addr,
            mapping: Arc::new(mapping),
        })
    }

    /// Returns whether both mean the same region: what a file offset says about it is not part of
    /// its name.
    fn is(&self, asked: &VhostUserMemoryRegion) -> bool {
        let (gpa, size, user_addr) = (asked.guest_phys_addr, asked.memory_size, asked.user_addr);
        (self.gpa, self.size, self.user_addr) == (gpa, size, user_addr)
    }
}

/// The table, as a value: a change makes another one, and the old one stays good until the new one
/// is in use.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable {
    /// Sorted by guest-physical address, without overlap.
    regions: Vec<Region>,
    /// Translations of the driver's addresses, where rings lie at such as well.
    iotlb: Option<Arc<Iotlb>>,
}

impl MemoryTable {
    /// The table that SET_MEM_TABLE announces.
    ///
    /// # Errors
    /// A region cannot be mapped, or two of them overlap.
    pub fn new(regions: Vec<(VhostUserMemoryRegion, OwnedFd)>) -> Result<Self, MemoryError> {
        let mut table = Self::default();
        for (asked, fd) in regions {
            table.check_room(&asked)?;
            table.regions.push(Region::map(&asked, fd)?);
        }
        Self::sorted(table.regions, None)
    }

    /// The same table, for a driver whose addresses `iotlb` translates, if any does.
    #[must_use]
    pub fn behind(mut self, iotlb: Option<Arc<Iotlb>>) -> Self {
        self.iotlb = iotlb;
        self
    }

    /// Returns whether the driver's addresses are translated.
    #[must_use]
    pub fn is_behind_iotlb(&self) -> bool {
        self.iotlb.is_some()
    }

    /// Checks that one more region is within [`MAX_MEMORY`].
    fn check_room(&self, asked: &VhostUserMemoryRegion) -> Result<(), MemoryError> {
        let mapped: u64 = self.regions.iter().map(|region| region.size).sum();
        let (gpa, len, max) = (
            asked.guest_phys_addr,
            mapped.saturating_add(asked.memory_size),
            MAX_MEMORY,
        );
        if len <= max {
            return Ok(());
        }
        let source = MapError::TooMuch { len, max };
        Err(MemoryError::Region { gpa, source })
    }

    /// The table with one more region; a region that is there already changes nothing (QEMU 7.2
    /// announces a region once for each queue pair).
    ///
    /// # Errors
    /// The table is full, the region cannot be mapped, or overlaps another.
    pub fn with(&self, asked: &VhostUserMemoryRegion, fd: OwnedFd) -> Result<Self, MemoryError> {
        if self.regions.iter().any(|region| region.is(asked)) {
            return Ok(self.clone());
        }
        if self.regions.len() >= MAX_SLOTS {
            return Err(MemoryError::Full);
        }
        self.check_room(asked)?;
        let mut regions = self.regions.clone();
        regions.push(Region::map(asked, fd)?);
        Self::sorted(regions, self.iotlb.clone())
    }

    /// The table without one of its regions.
    ///
    /// # Errors
    /// No region has this guest address, front-end address and size.
    pub fn without(&self, asked: &VhostUserMemoryRegion) -> Result<Self, MemoryError> {
        let mut regions = self.regions.clone();
        regions.retain(|region| !region.is(asked));
        if regions.len() == self.regions.len() {
            return Err(MemoryError::Unknown(asked.guest_phys_addr));
        }
        let iotlb = self.iotlb.clone();
        Ok(Self { regions, iotlb })
    }

    /// Returns whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    fn sorted(mut regions: Vec<Region>, iotlb: Option<Arc<Iotlb>>) -> Result<Self, MemoryError> {
        regions.sort_by_key(|region| region.gpa);
        let table = Self { regions, iotlb };
        table.guest_memory().map(|_| table)
    }

    /// The guest's memory as the device takes it; `None` without any region.
    ///
    /// # Errors
    /// Regions overlap or wrap, which a table that exists does not.
    pub fn guest_memory(&self) -> Result<Option<Arc<MappedMemory>>, MemoryError> {
        if self.regions.is_empty() {
            return Ok(None);
        }
        let regions = self.regions.iter();
        let memory = MappedMemory::new(regions.map(|it| (it.gpa, Arc::clone(&it.mapping))));
        match memory {
            Ok(memory) => Ok(Some(Arc::new(memory))),
            Err(Misfit::Wraps(gpa)) => Err(MemoryError::Wraps(gpa)),
            Err(Misfit::Overlap(error)) => Err(MemoryError::Overlap(error)),
        }
    }

    /// The guest-physical address after the last region.
    #[must_use]
    pub fn end(&self) -> u64 {
        let last = self.regions.last();
        last.map_or(0, |region| region.gpa.saturating_add(region.size))
    }

    /// The guest-physical address of the `len` bytes that the front-end has at `user_addr`, if they
    /// lie in one region.
    #[must_use]
    pub fn guest_addr(&self, user_addr: u64, len: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = user_addr.checked_sub(region.user_addr)?;
            let rest = region.size.checked_sub(offset)?;
            (rest > 0 && len <= rest).then(|| region.gpa + offset)
        })
    }

    /// The driver's address of what the front-end says about a ring: one of its own addresses, or
    /// the driver's where those are translated.
    #[must_use]
    pub fn translate(&self, said: u64) -> Option<u64> {
        match &self.iotlb {
            None => self.guest_addr(said, 1),
            Some(_) => Some(said),
        }
    }

    /// Copies what lies at the driver's address `addr` to `bytes`; `None` when that is not guest
    /// memory, or not any more, or the translation is not known.
    #[must_use]
    pub fn read(&self, addr: u64, bytes: &mut [u8]) -> Option<()> {
        let mut memory = GuestRam::new(self.guest_memory().ok()??).ok()?;
        if let Some(iotlb) = &self.iotlb {
            memory = memory.with_access_platform(Arc::new(Known(Arc::clone(iotlb))));
        }
        memory.read(addr, bytes).ok()
    }
}
