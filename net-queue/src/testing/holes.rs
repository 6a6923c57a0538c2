//! Guest memory of which a part is out of reach, as balloons, virtio-mem and other processes leave
//! it.

use std::fs::File;
use std::io;

use vm_memory::bitmap::AtomicBitmap;
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use crate::testing::memory::{REGIONS, TestMemory};

/// Cause for which a part of guest memory cannot be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// It is mapped without any permission: unplugged, or ballooned.
    NoAccess,
    /// It is mapped read-only: a ROM, or a page that is being saved.
    ReadOnly,
    /// The file behind it was shortened after it was mapped.
    Truncated,
}

impl Hole {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::NoAccess, Self::ReadOnly, Self::Truncated];
}

/// Test memory whose second region is a [`Hole`], and whose first one, where rings lie, can vanish.
#[derive(Debug)]
pub struct HoledMemory {
    /// The memory; only its third region is for a test to write once the others are out of reach.
    pub memory: TestMemory,
    rings: File,
}

impl HoledMemory {
    /// Maps the first two regions from files that `file` makes, both empty and on a file system in
    /// memory.
    ///
    /// # Errors
    /// A file cannot be made or mapped.
    pub fn new(hole: Hole, file: impl Fn() -> io::Result<File>) -> io::Result<Self> {
        let (rings, second) = (file()?, file()?);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let permission = match hole {
            Hole::NoAccess => libc::PROT_NONE,
            Hole::ReadOnly => libc::PROT_READ,
            Hole::Truncated => access,
        };
        let memory = GuestMemoryMmap::from_regions(vec![
            region(0, Some(&rings), access)?,
            region(1, Some(&second), permission)?,
            region(2, None, access)?,
        ]);
        if hole == Hole::Truncated {
            second.set_len(0)?;
        }
        let memory = TestMemory::over(memory.map_err(io::Error::other)?);
        Ok(Self { memory, rings })
    }

    /// An address in the hole, with a lot of it before and behind.
    #[must_use]
    pub fn hole(&self) -> u64 {
        let (start, len) = REGIONS[1];
        start + len as u64 / 2
    }

    /// Takes the memory of all rings away. A test must not touch them afterwards.
    ///
    /// # Errors
    /// The file behind them cannot be shortened.
    pub fn vanish_rings(&self) -> io::Result<()> {
        self.rings.set_len(0)
    }

    /// Brings memory for rings back, zeroed.
    ///
    /// # Errors
    /// The file behind them cannot be extended.
    pub fn restore_rings(&self) -> io::Result<()> {
        self.rings.set_len(REGIONS[0].1 as u64)
    }
}

fn region(
    index: usize,
    file: Option<&File>,
    permission: i32,
) -> io::Result<GuestRegionMmap<AtomicBitmap>> {
    let (start, len) = REGIONS[index];
    let unusable = |error: MmapRegionError| io::Error::other(error);
    let mut builder = MmapRegionBuilder::new_with_bitmap(len, page_bitmap(len));
    let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    if let Some(file) = file {
        file.set_len(len as u64)?;
        builder = builder.with_file_offset(FileOffset::new(file.try_clone()?, 0));
        flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    }
    let mapped = builder.with_mmap_prot(permission).with_mmap_flags(flags);
    let mapped = mapped.build().map_err(unusable)?;
    GuestRegionMmap::new(mapped, GuestAddress(start))
        .ok_or_else(|| io::Error::other("a test region wraps"))
}

fn page_bitmap(len: usize) -> AtomicBitmap {
    use vm_memory::bitmap::NewBitmap;
    AtomicBitmap::with_len(len)
}
