//! Guest memory in several regions, and what a driver does with it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::{
    AtomicAccess, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

use crate::memory::dirty_log::DirtyLog;
use crate::memory::guest_ram::GuestRam;
use crate::testing::Random;

/// Byte that fills buffers which the device shall write.
pub const POISON: u8 = 0xaa;

/// One for rings, one right behind it, a hole, and a large one above 4 GiB for buffers.
pub(super) const REGIONS: [(u64, usize); 3] = [
    (0x1_0000, 16 << 20),
    (0x101_0000, 2 << 20),
    (0x1_0000_0000, 64 << 20),
];

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Guest-physical address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
    /// The device writes it.
    pub writable: bool,
}

impl Piece {
    /// A buffer that the device reads.
    #[must_use]
    pub fn readable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: false,
        }
    }

    /// A buffer that the device writes.
    #[must_use]
    pub fn writable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: true,
        }
    }
}

#[derive(Debug)]
struct Heap {
    next_ring: u64,
    next: u64,
    random: Random,
}

/// Guest memory with a hole, and a simple allocator. Clones share it.
#[derive(Clone, Debug)]
pub struct TestMemory {
    mmap: Arc<GuestMemoryMmap<AtomicBitmap>>,
    heap: Arc<Mutex<Heap>>,
    /// Is told of what the driver writes.
    written: Option<Arc<DirtyRanges>>,
}

impl Default for TestMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl TestMemory {
    /// Fresh memory, all zero.
    #[must_use]
    pub fn new() -> Self {
        let ranges = REGIONS.map(|(addr, len)| (GuestAddress(addr), len));
        Self::over(GuestMemoryMmap::from_ranges(&ranges).expect("test regions can be mapped"))
    }

    /// Regions of every test memory: first address and length.
    pub const REGIONS: [(u64, usize); 3] = REGIONS;

    /// Memory that has been mapped already, in [`TestMemory::REGIONS`]; its allocator begins anew.
    #[must_use]
    pub fn over(mmap: GuestMemoryMmap<AtomicBitmap>) -> Self {
        Self {
            mmap: Arc::new(mmap),
            heap: Arc::new(Mutex::new(Heap {
                next_ring: REGIONS[0].0,
                next: REGIONS[2].0,
                random: Random::new(1),
            })),
            written: None,
        }
    }

    /// The same memory, which tells `written` of what a driver writes through it.
    #[must_use]
    pub fn recorded(self, written: Arc<DirtyRanges>) -> Self {
        Self {
            written: Some(written),
            ..self
        }
    }

    fn record(&self, addr: u64, len: usize) {
        if let Some(written) = &self.written {
            written.mark(addr, len as u64);
        }
    }

    /// Address behind the last part of a ring that was taken.
    #[must_use]
    pub fn rings_end(&self) -> u64 {
        let heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        heap.next_ring
    }

    /// The same guest's memory, mapped elsewhere: what is allocated in one is taken in the other.
    #[must_use]
    pub fn elsewhere(&self, mmap: GuestMemoryMmap<AtomicBitmap>) -> Self {
        Self {
            mmap: Arc::new(mmap),
            heap: self.heap.clone(),
            written: None,
        }
    }

    /// The regions: first address and length. The first two adjoin, a hole is before the third.
    #[must_use]
    pub fn regions(&self) -> [(u64, usize); 3] {
        REGIONS
    }

    /// The memory as a device gets it, its writes not tracked.
    #[must_use]
    pub fn ram(&self) -> GuestRam {
        self.tracked_ram().with_dirty_log(None)
    }

    /// The memory as a device gets it, its writes marked in the regions' bitmaps.
    #[must_use]
    pub fn tracked_ram(&self) -> GuestRam {
        GuestRam::new(self.mmap.clone()).expect("test regions are mapped")
    }

    /// The vm-memory object underneath.
    #[must_use]
    pub fn mmap(&self) -> &Arc<GuestMemoryMmap<AtomicBitmap>> {
        &self.mmap
    }

    /// Takes `len` bytes for a part of a ring, which nothing else will ever lie in.
    #[must_use]
    pub fn alloc_ring(&self, len: usize, align: u64) -> u64 {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let addr = heap.next_ring.next_multiple_of(align);
        heap.next_ring = addr + len as u64;
        let (start, size) = REGIONS[0];
        assert!(
            heap.next_ring <= start + size as u64,
            "no memory for more rings"
        );
        addr
    }

    /// Takes `len` bytes for a buffer, some way behind those taken before. After 64 MiB it begins
    /// anew.
    pub fn alloc(&self, len: usize, align: u64) -> u64 {
        let mut heap = self.heap.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = heap.random.below(64);
        let (start, size) = REGIONS[2];
        let mut addr = (heap.next + gap).next_multiple_of(align);
        if addr + len as u64 > start + size as u64 {
            addr = start.next_multiple_of(align);
        }
        assert!(len <= size, "{len} bytes are more than the memory has");
        heap.next = addr + len as u64;
        addr
    }

    /// A buffer for the device to read, with `bytes` in it.
    #[must_use]
    pub fn filled(&self, bytes: &[u8]) -> Piece {
        let addr = self.alloc(bytes.len(), 1);
        self.write(addr, bytes);
        Piece::readable(addr, bytes.len() as u32)
    }

    /// A buffer of `len` bytes for the device to write, full of [`POISON`].
    #[must_use]
    pub fn room(&self, len: usize) -> Piece {
        let addr = self.alloc(len, 1);
        self.write(addr, &vec![POISON; len]);
        Piece::writable(addr, len as u32)
    }

    /// `bytes` as readable buffers, cut after each offset in `cuts` (which may repeat: an empty
    /// buffer).
    #[must_use]
    pub fn cut(&self, bytes: &[u8], cuts: &[usize]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(cuts.len() + 1);
        let mut from = 0;
        for &to in cuts.iter().chain([&bytes.len()]) {
            pieces.push(self.filled(&bytes[from..to]));
            from = to;
        }
        pieces
    }

    /// Writes `bytes` at `addr`.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        self.mmap
            .write_slice(bytes, GuestAddress(addr))
            .expect("a test writes to guest memory");
        self.record(addr, bytes.len());
    }

    /// Reads `len` bytes at `addr`.
    #[must_use]
    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.mmap
            .read_slice(&mut bytes, GuestAddress(addr))
            .expect("a test reads guest memory");
        bytes
    }

    /// The bytes of `pieces`, one after the other, up to `len`.
    #[must_use]
    pub fn gather(&self, pieces: &[Piece], len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        for piece in pieces {
            let count = (piece.len as usize).min(len - bytes.len());
            bytes.extend(self.read(piece.addr, count));
        }
        bytes
    }

    /// Loads one word as the other CPU would, with acquire ordering.
    #[must_use]
    pub fn load<T: AtomicAccess>(&self, addr: u64) -> T {
        self.mmap
            .load(GuestAddress(addr), Ordering::Acquire)
            .expect("a test reads guest memory")
    }

    /// Stores one word as the other CPU would, with release ordering.
    pub fn store<T: AtomicAccess>(&self, addr: u64, value: T) {
        self.mmap
            .store(value, GuestAddress(addr), Ordering::Release)
            .expect("a test writes to guest memory");
        self.record(addr, size_of::<T>());
    }

    /// Forgets which pages were written.
    pub fn clean(&self) {
        for region in self.mmap.iter() {
            (**region).bitmap().reset();
        }
    }

    /// Returns whether the page of `addr` was written since [`TestMemory::clean`], by the device or
    /// by the test.
    #[must_use]
    pub fn is_dirty(&self, addr: u64) -> bool {
        let found = self.mmap.to_region_addr(GuestAddress(addr));
        found.is_some_and(|(region, at)| GuestMemoryRegion::bitmap(region).dirty_at(at.0 as usize))
    }
}

/// A dirty log that keeps every range it is told of.
#[derive(Debug, Default)]
pub struct DirtyRanges(Mutex<Vec<(u64, u64)>>);

impl DirtyRanges {
    /// Takes the ranges (address, length) told so far.
    pub fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DirtyLog for DirtyRanges {
    fn mark(&self, gpa: u64, len: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((gpa, len));
    }
}
