//! Guest memory behind the rings: what is found, what is translated, who is told.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use net_queue::header::TxRules;
use net_queue::ring::{AnyRing, RingConfig, RingError};
use net_queue::testing::{GuestRing, Piece, Shape, TestMemory};
use net_queue::{
    Access, AccessPlatform, DropCause, Engine, GuestRam, RamError, RxEngine, Stop, TranslateError,
    TxConfig, TxEngine,
};
use vm_memory::guest_memory::Result as GuestMemoryResult;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestRegionMmap, GuestUsize, MemoryRegionAddress, MmapRegion,
    VolatileSlice,
};

use crate::rig::{MERGE, RxRig, TxRig, every_layout, frame, packet, ring};

#[test]
fn memory_without_regions_is_refused() {
    let empty = Arc::new(GuestMemoryMmap::<()>::new());
    assert!(matches!(GuestRam::new(empty), Err(RamError::Empty)));
}

#[test]
fn regions_are_listed() {
    let text = format!("{:?}", TestMemory::new().ram());
    assert!(text.contains("0x10000..0x1010000"), "{text}");
}

const PAGE: u64 = 4096;

/// Maps pages one by one; knows what it was asked for.
#[derive(Default)]
struct Iommu {
    /// Page number to guest page number, and whether it may be written.
    pages: HashMap<u64, (u64, bool)>,
    /// The most bytes that one answer covers.
    step: u64,
    writes: Mutex<Vec<u64>>,
}

impl AccessPlatform for Iommu {
    fn translate(&self, iova: u64, len: u64, access: Access) -> Result<(u64, u64), TranslateError> {
        let refused = TranslateError::NotMapped { iova };
        let (page, writable) = *self.pages.get(&(iova / PAGE)).ok_or(refused)?;
        if access == Access::Write {
            self.writes.lock().expect("no panic before").push(iova);
            if !writable {
                return Err(refused);
            }
        }
        let at = iova % PAGE;
        assert!(len > 0, "nothing is asked for nothing");
        Ok((page * PAGE + at, (PAGE - at).min(self.step)))
    }
}

impl Iommu {
    /// Maps `count` pages from `iova` to pages from `gpa` on, in steps of `stride` pages.
    fn map(&mut self, iova: u64, gpa: u64, count: u64, stride: u64, writable: bool) {
        for n in 0..count {
            let page = gpa / PAGE + n * stride;
            self.pages.insert(iova / PAGE + n, (page, writable));
        }
    }
}

/// Address at which the device sees the scattered buffer pages.
const IOVA: u64 = 0x7000_0000;

/// An IOMMU that maps rings to themselves and buffers to every third page.
fn iommu(memory: &TestMemory, step: u64) -> Iommu {
    let [(rings, _), _, (buffers, _)] = memory.regions();
    let mut iommu = Iommu {
        step: u64::MAX,
        ..Iommu::default()
    };
    iommu.map(rings, rings, 16, 1, true);
    // The driver's indirect tables come from the same region as its buffers.
    iommu.map(buffers, buffers, 16, 1, true);
    iommu.map(IOVA, buffers + 64 * PAGE, 8, 3, true);
    iommu.step = step;
    iommu
}

/// An IOMMU that knows its answers later: each page is asked for first.
struct Late {
    iommu: Iommu,
    known: Mutex<HashSet<u64>>,
    asked: Mutex<Vec<u64>>,
}

impl Late {
    /// Knows the pages of rings, and no other.
    fn new(memory: &TestMemory, iommu: Iommu) -> Self {
        let rings = memory.regions()[0].0 / PAGE;
        Self {
            iommu,
            known: Mutex::new((rings..rings + 16).collect()),
            asked: Mutex::default(),
        }
    }

    /// Knows the page that was asked for last from now on.
    fn answer(&self) {
        let asked = self.asked.lock().expect("no panic before").pop();
        let page = asked.expect("something was asked for");
        self.known.lock().expect("no panic before").insert(page);
    }
}

impl AccessPlatform for Late {
    fn translate(&self, iova: u64, len: u64, access: Access) -> Result<(u64, u64), TranslateError> {
        let page = iova / PAGE;
        if self.known.lock().expect("no panic before").contains(&page) {
            return self.iommu.translate(iova, len, access);
        }
        self.asked.lock().expect("no panic before").push(page);
        Err(TranslateError::Awaited { iova })
    }
}

/// The guest address of `offset` in the scattered pages.
fn scattered(memory: &TestMemory, offset: u64) -> u64 {
    memory.regions()[2].0 + (64 + 3 * (offset / PAGE)) * PAGE + offset % PAGE
}

#[test]
fn transmit_buffers_are_translated() {
    every_layout(|layout| {
        for (step, shape) in [
            (u64::MAX, Shape::Direct),
            (1000, Shape::Direct),
            (u64::MAX, Shape::Indirect),
        ] {
            let mut rig = TxRig::new(ring(layout, 16));
            let memory = rig.guest.memory().clone();
            let ram = memory
                .ram()
                .with_access_platform(Arc::new(iommu(&memory, step)));
            let device = AnyRing::new(&ram, &rig.guest.config()).expect("it is small");
            let rules = TxRules::default();
            rig.engine = TxEngine::new(device, TxConfig::new(rules), rig.counters.clone());

            let bytes = packet(9000, 5);
            let start = 4000;
            for (n, byte) in bytes.iter().enumerate() {
                memory.write(scattered(&memory, start + n as u64), &[*byte]);
            }
            let pieces = [
                Piece::readable(IOVA + start, 100),
                Piece::readable(IOVA + start + 100, bytes.len() as u32 - 100),
            ];
            rig.guest.add_as(shape, &pieces);
            rig.guest.publish();
            assert_eq!(rig.drain(), [bytes], "steps of {step}");
        }
    });
}

#[test]
fn receive_buffers_are_translated_for_writing() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let platform = Arc::new(iommu(&memory, u64::MAX));
        let ram = memory.ram().with_access_platform(platform.clone());
        let mut rig = RxRig::over(memory.clone(), ram, ring(layout, 16), MERGE);
        rig.guest.add(&[Piece::writable(IOVA + 4000, 9000)]);
        rig.guest.publish();
        platform.writes.lock().expect("no panic before").clear();
        rig.wire.inject(packet(5000, 6));
        rig.drain();
        assert_eq!(rig.guest.poll().expect("the chain").len, 5012);
        let byte = |n: u64| memory.read(scattered(&memory, 4012 + n), 1)[0];
        let received: Vec<_> = (0..5000).map(byte).collect();
        assert_eq!(received, frame(5000, 6));
        let asked = platform.writes.lock().expect("no panic before").clone();
        assert!(asked.contains(&(IOVA + 4000)), "{asked:x?}");
    });
}

/// A chain counts as not made available while a translation is awaited: nothing is dropped, nothing
/// overtakes it, and no kick is waited for.
#[test]
fn transmit_chains_wait_in_the_ring_for_their_translations() {
    every_layout(|layout| {
        for (shape, pages) in [(Shape::Direct, 3), (Shape::Indirect, 4)] {
            let mut rig = TxRig::new(ring(layout, 16));
            let memory = rig.guest.memory().clone();
            let late = Late::new(&memory, iommu(&memory, u64::MAX));
            let platform = Arc::new(late);
            let ram = memory.ram().with_access_platform(platform.clone());
            let device = AnyRing::new(&ram, &rig.guest.config()).expect("its pages are known");
            let config = TxConfig::new(TxRules::default());
            rig.engine = TxEngine::new(device, config, rig.counters.clone());
            let (first, second) = (packet(6000, 5), packet(100, 6));
            let bytes = [&first[..], &second[..]].concat();
            for (n, byte) in bytes.iter().enumerate() {
                memory.write(scattered(&memory, 4000 + n as u64), &[*byte]);
            }
            let (len, rest) = (first.len() as u32, second.len() as u32);
            let at = IOVA + 4000;
            rig.guest.add_as(
                shape,
                &[
                    Piece::readable(at, 100),
                    Piece::readable(at + 100, len - 100),
                ],
            );
            rig.guest.add(&[Piece::readable(at + u64::from(len), rest)]);
            rig.guest.publish();
            for _ in 0..pages {
                assert!(rig.drain().is_empty());
                let cursor = rig.engine.cursor();
                assert!(!rig.engine.enable_notification(), "there is no work");
                // A kick that was not asked for changes nothing.
                assert!(rig.drain().is_empty());
                assert_eq!(rig.engine.cursor(), cursor);
                assert!(rig.guest.poll().is_none());
                platform.answer();
            }
            assert_eq!(rig.drain(), [first, second], "{shape:?}");
            assert_eq!(rig.counters.dropped(), 0);
            assert!(!rig.engine.enable_notification(), "the ring is empty");
            rig.guest.add(&[Piece::readable(at, rest)]);
            rig.guest.publish();
            assert!(rig.engine.enable_notification(), "there is a chain");
        }
    });
}

#[test]
fn received_frames_wait_for_the_translations_of_their_buffers() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let platform = Arc::new(Late::new(&memory, iommu(&memory, u64::MAX)));
        let ram = memory.ram().with_access_platform(platform.clone());
        let mut rig = RxRig::over(memory.clone(), ram, ring(layout, 16), MERGE);
        for page in 0..3 {
            let at = IOVA + page * PAGE;
            rig.guest.add(&[Piece::writable(at, PAGE as u32)]);
        }
        rig.guest.publish();
        rig.wire.inject(packet(9000, 6));
        for _ in 0..3 {
            assert!(matches!(rig.run().stop, Stop::Driver));
            assert!(!rig.engine.enable_notification(), "there is no work");
            assert!(rig.guest.poll().is_none());
            platform.answer();
        }
        rig.drain();
        let lens: Vec<_> = rig.guest.poll_all().iter().map(|used| used.len).collect();
        assert_eq!(lens, [4096, 4096, 9012 - 8192]);
        let byte = |n: u64| memory.read(scattered(&memory, 12 + n), 1)[0];
        let received: Vec<_> = (0..9000).map(byte).collect();
        assert_eq!(received, frame(9000, 6));
        assert_eq!(rig.counters.dropped(), 0);
    });
}

/// An IOMMU that knows nothing at all outside the rings, for ever.
struct Endless {
    rings: u64,
    asked: Mutex<u64>,
}

impl AccessPlatform for Endless {
    fn translate(&self, iova: u64, len: u64, _: Access) -> Result<(u64, u64), TranslateError> {
        if (self.rings..self.rings + 16 * PAGE).contains(&iova) {
            return Ok((iova, len));
        }
        let mut asked = self.asked.lock().expect("no panic before");
        *asked += 1;
        Err(TranslateError::Awaited {
            iova: iova + *asked,
        })
    }
}

/// As a chain would do that has more pages than are remembered.
#[test]
fn a_chain_that_waits_for_ever_more_translations_is_dropped_in_the_end() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 16));
        let memory = rig.guest.memory().clone();
        let platform = Arc::new(Endless {
            rings: memory.regions()[0].0,
            asked: Mutex::new(0),
        });
        let ram = memory.ram().with_access_platform(platform.clone());
        let device = AnyRing::new(&ram, &rig.guest.config()).expect("its pages are known");
        let config = TxConfig::new(TxRules::default());
        rig.engine = TxEngine::new(device, config, rig.counters.clone());
        rig.guest.add(&[Piece::readable(IOVA, 100)]);
        rig.guest.publish();
        let mut runs = 0;
        while rig.guest.poll().is_none() {
            assert!(rig.drain().is_empty());
            runs += 1;
        }
        assert!((1000..10_000).contains(&runs), "{runs}");
        assert_eq!(rig.dropped_for(DropCause::BadAddress), 1);
    });
}

/// Pages that follow each other in memory are one piece, however they are translated.
#[test]
fn a_ring_may_be_mapped_page_by_page() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let config = GuestRing::new(&memory, ring(layout, 1024)).config();
        let mut platform = iommu(&memory, u64::MAX);
        let rings = memory.regions()[0].0;
        platform.map(rings, rings, 64, 1, true);
        let made = |platform: Iommu| {
            let ram = memory.ram().with_access_platform(Arc::new(platform));
            AnyRing::new(&ram, &config)
        };
        let [(desc, len, _), ..] = config.areas();
        assert!(len > PAGE && config.overlaps(desc + len - 1, 1));
        assert!(!config.overlaps(desc.wrapping_sub(1), 1) && config.overlaps(0, u64::MAX));
        assert!(made(platform).is_ok());
        let mut apart = iommu(&memory, u64::MAX);
        apart.map(rings, rings, 64, 1, true);
        apart.map(desc / PAGE * PAGE + PAGE, rings + 60 * PAGE, 1, 1, true);
        assert!(matches!(made(apart), Err(RingError::Address(_))));
    });
}

/// An address that the IOMMU refuses costs the chain; one that lies beyond memory does whatever the
/// IOMMU says.
#[test]
fn untranslated_buffers_are_refused() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let mut platform = iommu(&memory, u64::MAX);
        platform.map(0x9000_0000, memory.regions()[2].0, 1, 1, false);
        platform.map(0xa000_0000, 0x8000_0000, 2, 1, true);
        let ram = memory.ram().with_access_platform(Arc::new(platform));
        let guest = GuestRing::new(&memory, ring(layout, 16));
        let device = AnyRing::new(&ram, &guest.config()).expect("the ring is mapped");
        let counters = Arc::<net_queue::QueueCounters>::default();
        let mut rig = RxRig::new(ring(layout, 16), MERGE);
        rig.engine = RxEngine::new(device, 16, MERGE, counters.clone());
        rig.guest = guest;
        let bad = [
            (IOVA + 7 * PAGE, 2 * PAGE),
            (IOVA + 9 * PAGE, 100),
            (0x9000_0000, 100),
            (0xa000_0000, 100),
            (u64::MAX - 50, 100),
        ];
        for (addr, len) in bad {
            rig.guest.add(&[Piece::writable(addr, len as u32)]);
        }
        rig.guest.add(&[Piece::writable(IOVA, 100)]);
        rig.guest.publish();
        rig.wire.inject(packet(60, 1));
        rig.drain();
        let lens: Vec<_> = rig.guest.poll_all().iter().map(|used| used.len).collect();
        assert_eq!(lens, [0, 0, 0, 0, 0, 72]);
        assert_eq!(counters.drops(DropCause::BadAddress), 5);
    });
}

/// A ring that is mapped piecemeal cannot be run, nor one that may not be written.
#[test]
fn rings_must_be_mapped_in_one_piece() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let config = GuestRing::new(&memory, ring(layout, 16)).config();
        let made = |platform: Iommu, config: &RingConfig| {
            let ram = memory.ram().with_access_platform(Arc::new(platform));
            AnyRing::new(&ram, config)
        };
        assert!(made(iommu(&memory, u64::MAX), &config).is_ok());
        // Byte by byte, and no progress at all.
        assert!(made(iommu(&memory, 1), &config).is_ok());
        let ring = made(iommu(&memory, 0), &config);
        assert!(matches!(ring, Err(RingError::Address(_))));
        let mut read_only = iommu(&memory, u64::MAX);
        let rings = memory.regions()[0].0;
        read_only.map(rings, rings, 16, 1, false);
        assert!(matches!(
            made(read_only, &config),
            Err(RingError::Address(_))
        ));
    });
}

/// A region in safe code that gives a wild host address for its bytes, and its bytes as a slice
/// that may be short.
struct Liar {
    region: GuestRegionMmap<()>,
    short: usize,
}

impl GuestMemoryRegionBytes for Liar {}

impl GuestMemoryRegion for Liar {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.region.len()
    }

    fn start_addr(&self) -> GuestAddress {
        self.region.start_addr()
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, _addr: MemoryRegionAddress) -> GuestMemoryResult<*mut u8> {
        Ok(std::ptr::without_provenance_mut(0xdead_0000))
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> GuestMemoryResult<VolatileSlice<'_, ()>> {
        self.region.get_slice(offset, count - self.short)
    }
}

#[test]
fn a_region_that_lies_about_its_host_address_is_read_where_its_slice_is() {
    let liar = |short| {
        let region = MmapRegion::new(4096).expect("it can be mapped");
        let region = GuestRegionMmap::new(region, GuestAddress(0x8000)).expect("it has an end");
        region
            .write_slice(b"frame", MemoryRegionAddress(4091))
            .expect("it is there");
        let regions = vec![Liar { region, short }];
        Arc::new(GuestRegionCollection::from_regions(regions).expect("there is one"))
    };
    let ram = GuestRam::new(liar(0)).expect("its slice covers it");
    let mut bytes = [0; 5];
    ram.read(0x8fff - 4, &mut bytes).expect("it is there");
    assert_eq!(&bytes, b"frame");
    let short = GuestRam::new(liar(1));
    assert!(matches!(short, Err(RamError::NotMapped(0x8000))));
}
