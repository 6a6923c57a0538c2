//! The guest's memory at two front-ends, and the copy that follows the log from one to the other.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MmapRegion, VolatileMemory};

use super::*;

/// Bytes of a log for all of the guest's memory.
pub(super) const LOG: u64 = 0x21_000;

/// Memory of the guest at one front-end, in which each write of the driver is marked.
pub(super) struct Host {
    pub(super) file: File,
    pub(super) memory: TestMemory,
}

fn map(file: &File) -> GuestMemoryMmap<AtomicBitmap> {
    let mut offset = 0;
    let ranges = TestMemory::REGIONS.map(|(addr, len)| {
        let at = FileOffset::new(file.try_clone().unwrap(), offset);
        offset += len as u64;
        (GuestAddress(addr), len, Some(at))
    });
    GuestMemoryMmap::from_ranges_with_files(ranges).unwrap()
}

pub(super) fn file(len: u64) -> File {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(len).unwrap();
    file
}

impl Host {
    pub(super) fn new() -> Self {
        let len = TestMemory::REGIONS.iter().map(|(_, len)| *len as u64).sum();
        let file = file(len);
        let memory = TestMemory::over(map(&file));
        Self { file, memory }
    }

    /// Memory at another front-end, where nothing has been copied to yet.
    pub(super) fn another(&self) -> Self {
        let other = Self::new();
        Self {
            memory: self.memory.elsewhere(map(&other.file)),
            file: other.file,
        }
    }

    pub(super) fn table(&self) -> Request {
        let mut offset = 0;
        let regions = TestMemory::REGIONS.map(|(addr, len)| {
            let len = len as u64;
            let region = VhostUserMemoryRegion::new(addr, len, USER + offset, offset);
            offset += len;
            (region, own(&self.file))
        });
        Request::SetMemTable(regions.into())
    }

    pub(super) fn read(&self, (start, end): (u64, u64)) -> Vec<u8> {
        self.memory.read(start, (end - start) as usize)
    }
}

/// First and last address of all that anything was ever laid out in.
pub(super) fn in_use(memory: &TestMemory) -> [(u64, u64); 2] {
    let [(rings, _), _, (buffers, _)] = TestMemory::REGIONS;
    let ends = [memory.alloc_ring(0, 1), memory.alloc(0, 1)];
    [(rings, ends[0]), (buffers, ends[1])]
}

/// Copies from one front-end's memory to another's.
pub(super) struct Copying {
    pub(super) from: TestMemory,
    pub(super) to: TestMemory,
    pub(super) log: Arc<MmapRegion>,
}

impl Copying {
    pub(super) fn copy(&self, (start, end): (u64, u64)) {
        let bytes = self.from.read(start, (end - start) as usize);
        self.to.write(start, &bytes);
    }

    pub(super) fn all(&self) {
        self.marked();
        self.from.clean();
        let in_use = in_use(&self.from).into_iter();
        in_use.for_each(|range| self.copy(range));
    }

    /// Copies what driver and device marked since the last round; returns how many pages the device
    /// did, and whether used rings were among them.
    pub(super) fn round(&self) -> (usize, bool) {
        for region in self.from.mmap().iter() {
            let start = region.start_addr().0;
            let words = (**region).bitmap().get_and_reset();
            for page in bits(words.into_iter()) {
                self.copy((start + page * PAGE, start + (page + 1) * PAGE));
            }
        }
        let marked = self.marked();
        let is_ring = |page: &&u64| (USED_LOG / PAGE..USED_LOG / PAGE + 2).contains(page);
        let pages = marked.iter().filter(|page| !is_ring(page));
        let addresses = pages.map(|page| (page * PAGE, (page + 1) * PAGE));
        let copied = addresses.map(|range| self.copy(range)).count();
        (copied, marked.iter().any(|page| is_ring(&page)))
    }

    /// Fetches and clears the log, as a front-end does at any time.
    pub(super) fn marked(&self) -> Vec<u64> {
        let word = |at: u64| {
            self.log
                .get_atomic_ref::<AtomicU64>(8 * at as usize)
                .unwrap()
        };
        bits((0..LOG / 8).map(|at| word(at).swap(0, SeqCst))).collect()
    }
}

/// Numbers of the bits that are set in `words`.
fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let words = (0..).zip(words).filter(|(_, word)| *word != 0);
    words.flat_map(|(at, word): (u64, u64)| {
        (0..64)
            .filter(move |bit| word >> bit & 1 != 0)
            .map(move |bit| 64 * at + bit)
    })
}
