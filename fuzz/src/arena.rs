//! A guest memory that watches what the device does to it.
//!
//! Two regions with a hole between them, each an allocation of its own, so that a sanitizer sees
//! every access past their ends. [`Arena::watch`] compares what the device changed with what it
//! marked in the dirty log.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_queue::{Access, AccessPlatform, DirtyLog, GuestRam, TranslateError};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Guest addresses below this may be memory.
pub const END: u16 = 0x2000;

/// Start and length of each region; between them lies the hole.
const REGIONS: [(u64, usize); 2] = [(0, 0x1000), (0x1800, 0x800)];

/// Size of the pieces that the IOMMU maps.
const PAGE: u64 = 0x400;

/// Memory, its dirty log, and the view of it that a device gets.
pub struct Arena {
    memory: Arc<GuestMemoryMmap>,
    log: Arc<Log>,
}

thread_local! {
    /// Made once a thread: a mapping per input would be most of the work.
    static MEMORY: Arc<GuestMemoryMmap> = Arc::new(allocate());
}

/// Addresses of all memory ever made, so that a leak checker sees that it is kept on purpose.
static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn allocate() -> GuestMemoryMmap {
    let regions = REGIONS.map(|(start, len)| {
        let layout = Layout::from_size_align(len, 0x1000).expect("a page size");
        // SAFETY: `len` is not 0.
        let bytes = unsafe { alloc_zeroed(layout) };
        if bytes.is_null() {
            handle_alloc_error(layout);
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(bytes.expose_provenance());
        // SAFETY: `len` bytes that are never freed, and of which no reference is ever made.
        let region = unsafe { MmapRegion::build_raw(bytes, len, 0, 0) }.expect("aligned to a page");
        GuestRegionMmap::new(region, GuestAddress(start)).expect("far from the end")
    });
    GuestMemoryMmap::from_regions(regions.into()).expect("in order")
}

impl Default for Arena {
    fn default() -> Self {
        let memory = MEMORY.with(Arc::clone);
        for (start, len) in REGIONS {
            let _ = memory.write_slice(&vec![0; len], GuestAddress(start));
        }
        let log = Arc::new(Log(Mutex::new(vec![false; END.into()])));
        Self { memory, log }
    }
}

impl Arena {
    /// Memory as the device sees it, directly or through an IOMMU.
    pub fn ram(&self, iommu: bool) -> GuestRam {
        let ram = GuestRam::new(self.memory.clone()).expect("regions in order");
        let ram = ram.with_dirty_log(Some(self.log.clone()));
        if iommu {
            ram.with_access_platform(Arc::new(Iommu))
        } else {
            ram
        }
    }

    /// Memory as the device sees it after a change: all of it, or without one of its regions.
    pub fn part(&self, which: u8) -> GuestRam {
        let gone = match which % 3 {
            0 => None,
            1 => Some(REGIONS[1]),
            _ => Some(REGIONS[0]),
        };
        let Some((start, len)) = gone else {
            return self.ram(false);
        };
        let rest = self.memory.remove_region(GuestAddress(start), len as u64);
        let (rest, _) = rest.expect("it is a region");
        let ram = GuestRam::new(Arc::new(rest)).expect("regions in order");
        ram.with_dirty_log(Some(self.log.clone()))
    }

    /// Writes as the driver does; nothing happens outside memory.
    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        let _ = self.memory.write_slice(bytes, GuestAddress(gpa));
    }

    /// Reads as the driver does; outside memory there are zeros.
    pub fn read<const N: usize>(&self, gpa: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let _ = self.memory.read_slice(&mut bytes, GuestAddress(gpa));
        bytes
    }

    /// Lets the device work; returns also the addresses of what it changed without a mark.
    pub fn watch<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<u64>) {
        self.log.marks().fill(false);
        let before = self.bytes();
        let result = work();
        let (after, marks) = (self.bytes(), self.log.marks());
        if before == after {
            return (result, Vec::new());
        }
        let unmarked = |&gpa: &usize| before[gpa] != after[gpa] && !marks[gpa];
        let silent = (0..before.len()).filter(unmarked).map(|gpa| gpa as u64);
        (result, silent.collect())
    }

    /// Returns whether the device has marked any byte since the last [`watch`](Self::watch) began.
    pub fn was_written(&self) -> bool {
        self.log.marks().contains(&true)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; END.into()];
        for (start, len) in REGIONS {
            let room = &mut bytes[start as usize..][..len];
            let _ = self.memory.read_slice(room, GuestAddress(start));
        }
        bytes
    }
}

/// Marks by byte; a mark outside memory is a finding.
struct Log(Mutex<Vec<bool>>);

impl Log {
    fn marks(&self) -> MutexGuard<'_, Vec<bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirtyLog for Log {
    fn mark(&self, gpa: u64, len: u64) {
        let end = gpa.checked_add(len).expect("a range");
        let inside = |&(start, size): &(u64, usize)| gpa >= start && end <= start + size as u64;
        assert!(REGIONS.iter().any(inside), "marked {gpa:#x}..{end:#x}");
        self.marks()[gpa as usize..end as usize].fill(true);
    }
}

/// Swaps neighbouring pages, but for the first two, where the rings are; so what is contiguous for
/// the driver is not for the device.
struct Iommu;

impl AccessPlatform for Iommu {
    fn translate(&self, iova: u64, len: u64, _: Access) -> Result<(u64, u64), TranslateError> {
        let page = iova / PAGE;
        if iova >= END.into() || len == 0 {
            return Err(TranslateError::NotMapped { iova });
        }
        let page = if page < 2 { page } else { page ^ 1 };
        Ok((page * PAGE + iova % PAGE, PAGE - iova % PAGE))
    }
}
