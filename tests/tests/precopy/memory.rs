//! The guest's memory on two hosts, and the copy that follows dirty marks from one to the other.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use net_queue::testing::TestMemory;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap,
};

/// Bytes of each region that have bits: more than any run uses.
const TRACKED: [usize; 3] = [64 << 10, 0, 2 << 20];

/// Memory of the guest on one host. Driver and device have a mapping each, as the guest's
/// processors and the VMM have on a host: what one of them writes is marked in its own bitmap.
#[derive(Clone)]
pub(crate) struct HostMemory {
    pub(crate) driver: TestMemory,
    pub(crate) device: TestMemory,
}

fn file() -> Arc<File> {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).expect("a memfd can be made");
    let len = TestMemory::REGIONS.iter().map(|(_, len)| *len as u64).sum();
    ftruncate(&file, len).expect("it can be made long enough");
    Arc::new(File::from(file))
}

/// Maps `file` with bitmaps that have a bit for each `page` bytes.
fn map(file: &Arc<File>, page: usize) -> GuestMemoryMmap<AtomicBitmap> {
    let mut offset = 0;
    let regions = TestMemory::REGIONS.iter().zip(TRACKED);
    let regions = regions.map(|((addr, len), tracked)| {
        let page = NonZeroUsize::new(page).expect("a page has bytes");
        let region = MmapRegionBuilder::new_with_bitmap(*len, AtomicBitmap::new(tracked, page))
            .with_file_offset(FileOffset::from_arc(file.clone(), offset))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED)
            .build();
        offset += *len as u64;
        GuestRegionMmap::new(region.expect("it can be mapped"), GuestAddress(*addr))
            .expect("it has an end")
    });
    GuestMemoryMmap::from_regions(regions.collect()).expect("regions do not overlap")
}

impl HostMemory {
    /// Fresh memory with a bit for each `page` bytes.
    pub(crate) fn new(page: usize) -> Self {
        let file = file();
        Self {
            driver: TestMemory::over(map(&file, page)),
            device: TestMemory::over(map(&file, page)),
        }
    }

    /// Memory of the same guest on another host, where nothing has been copied to yet.
    pub(crate) fn another(&self) -> Self {
        let file = file();
        Self {
            driver: self.driver.elsewhere(map(&file, 4096)),
            device: TestMemory::over(map(&file, 4096)),
        }
    }

    /// The bytes in use: all that anything was ever laid out in.
    pub(crate) fn in_use(&self) -> [Range<u64>; 2] {
        let [(rings, _), _, (buffers, _)] = TestMemory::REGIONS;
        let ends = [self.driver.alloc_ring(0, 1), self.driver.alloc(0, 1)];
        let starts = [rings, buffers];
        let tracked = [TRACKED[0], TRACKED[2]];
        [0, 1].map(|at| {
            let (start, end) = (starts[at], ends[at]);
            assert!(end <= start + tracked[at] as u64, "it has no bits");
            start..end
        })
    }

    /// Copies all that is in use to `other`, and whatever is written from now on is to be copied
    /// again.
    pub(crate) fn copy_all(&self, other: &Self) {
        for side in [&self.driver, &self.device] {
            side.clean();
        }
        for range in self.in_use() {
            self.copy(other, range);
        }
    }

    fn copy(&self, other: &Self, range: Range<u64>) {
        let bytes = self
            .driver
            .read(range.start, (range.end - range.start) as usize);
        other.driver.write(range.start, &bytes);
    }

    /// Copies what was written since the last round; returns the ranges that the device marked.
    pub(crate) fn copy_marked(&self, other: &Self) -> Vec<Range<u64>> {
        take_marked(&self.driver).for_each(|range| self.copy(other, range));
        let by_device: Vec<_> = take_marked(&self.device).collect();
        by_device
            .iter()
            .for_each(|range| self.copy(other, range.clone()));
        by_device
    }

    /// The first byte in use that is another one in `other`.
    pub(crate) fn difference(&self, other: &Self) -> Option<u64> {
        self.in_use().into_iter().find_map(|range| {
            let read = |it: &TestMemory| it.read(range.start, (range.end - range.start) as usize);
            let (ours, theirs) = (read(&self.driver), read(&other.driver));
            if ours == theirs {
                return None;
            }
            let differs = (0..ours.len()).find(|at| ours[*at] != theirs[*at]);
            differs.map(|at| range.start + at as u64)
        })
    }
}

/// Takes the bits of `memory`, as ranges of bytes.
fn take_marked(memory: &TestMemory) -> impl Iterator<Item = Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for region in memory.mmap().iter() {
        let bitmap = (**region).bitmap();
        if bitmap.len() == 0 {
            continue;
        }
        let (start, page) = (region.start_addr().0, region_page(bitmap));
        let words = bitmap.get_and_reset().into_iter().enumerate();
        for (word, mut bits) in words.filter(|(_, bits)| *bits != 0) {
            while bits != 0 {
                let at = start + page * (64 * word as u64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
                match ranges.last_mut() {
                    Some(last) if last.end == at => last.end += page,
                    _ => ranges.push(at..at + page),
                }
            }
        }
    }
    ranges.into_iter()
}

/// Bytes that one bit of `bitmap` stands for.
fn region_page(bitmap: &AtomicBitmap) -> u64 {
    (bitmap.byte_size() / bitmap.len()) as u64
}
