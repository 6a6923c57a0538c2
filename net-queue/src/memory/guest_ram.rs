//! Guest memory, resolved once: sorted regions, their host addresses, and who is told of writes.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use super::dirty_log::{Bitmaps, DirtyLog, DirtySwitch};
use super::guard::MemoryFault;
use super::iovec::{HostSlice, IoVec, copy_from};

/// Access that the device wants to memory that it asks to be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read it.
    Read,
    /// Write it.
    Write,
}

/// Reason why an IOMMU gives no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// The range is not mapped, or not for this access: the chain is dropped.
    #[error("address {iova:#x} is not mapped for this access")]
    NotMapped {
        /// The address that was asked for.
        iova: u64,
    },
    /// The translation is on its way: the chain stays in the ring, as if the driver had not made it
    /// available yet. Whoever says this sees to it that the queue is run again, and that an answer
    /// comes in the end.
    #[error("the translation of address {iova:#x} is on its way")]
    Awaited {
        /// The address that was asked for.
        iova: u64,
    },
}

/// Translates device addresses to guest-physical ones, for a device behind a vIOMMU.
/// VirtIO 1.4 §6 VIRTIO_F_ACCESS_PLATFORM (NET-FEAT-11).
///
/// Rings are translated when they are set up, buffers when their chain is taken. A translation is
/// in use until the owner of the platform says that the mapping is gone, and has the device let go
/// of it.
pub trait AccessPlatform: Send + Sync {
    /// Translates the start of `len` bytes at `iova`.
    ///
    /// Returns the guest-physical address and how many bytes from there on are contiguous (at least
    /// 1; what is beyond `len` is ignored). The device asks again for the rest.
    ///
    /// # Errors
    /// The range is not mapped, or not for `access`; or nobody knows yet.
    fn translate(&self, iova: u64, len: u64, access: Access) -> Result<(u64, u64), TranslateError>;

    /// Asks for the translations of the `len` bytes at `iova`, which are likely to be looked up
    /// soon: a platform whose answers take a while has several on their way at a time. Returns
    /// whether all of them are known.
    ///
    /// The addresses are a driver's, and may mean nothing. By default nothing is asked for.
    fn ask_ahead(&self, _iova: u64, _len: u64, _access: Access) -> bool {
        false
    }
}

/// Reason why guest memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// There is no region at all.
    #[error("guest memory has no region")]
    Empty,
    /// A region cannot be reached by the host.
    #[error("guest memory region at {0:#x} has no host mapping")]
    NotMapped(u64),
    /// Two regions share addresses.
    #[error("guest memory regions overlap at {0:#x}")]
    Overlap(u64),
}

/// A guest address range that is not (wholly) guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {addr:#x} are not guest memory")]
pub struct BadAddress {
    /// First byte, as the guest named it.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
    /// Address in the range whose translation is on its way, if that is the reason.
    pub awaited: Option<u64>,
}

impl BadAddress {
    /// None of the `len` bytes at `addr` may be used.
    fn new(addr: u64, len: u64) -> Self {
        Self {
            addr,
            len,
            awaited: None,
        }
    }
}

/// Reason why guest memory was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such memory.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// It is there, and out of reach.
    #[error(transparent)]
    Fault(#[from] MemoryFault),
}

/// A range of guest memory and its place in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    gpa: u64,
    host: HostSlice,
}

impl Region {
    /// A region that no address lies in.
    pub(super) const EMPTY: Self = Self {
        gpa: 0,
        host: HostSlice::EMPTY,
    };

    pub(super) fn new(gpa: u64, host: HostSlice) -> Self {
        Self { gpa, host }
    }

    /// The bytes from `gpa` to the region's end, if `gpa` lies in the region.
    #[inline]
    fn from(&self, gpa: u64) -> Option<HostSlice> {
        let offset = usize::try_from(gpa.checked_sub(self.gpa)?).ok()?;
        let rest = self.host.len().checked_sub(offset)?;
        if rest == 0 {
            None
        } else {
            self.host.sub(offset, rest)
        }
    }

    /// The `len` bytes at `gpa`, if they lie in the region.
    #[inline(always)]
    pub(super) fn part(&self, gpa: u64, len: usize) -> Option<HostSlice> {
        // Below the region's start this is beyond the end of any.
        self.host.sub(gpa.wrapping_sub(self.gpa) as usize, len)
    }
}

#[derive(Clone)]
struct Inner {
    regions: Vec<Region>,
    dirty: Option<Arc<dyn DirtyLog>>,
    switch: DirtySwitch,
    platform: Option<Arc<dyn AccessPlatform>>,
    /// Keeps the addresses mapped.
    _owner: Arc<dyn Any + Send + Sync>,
}

/// Guest memory as the rings and engines use it: host addresses that were looked up once.
///
/// It keeps the mapping alive, so a pointer made from it cannot dangle while a clone of it is held.
/// When the memory map changes, make a new one and rebind the device; the old one goes with its
/// last user.
#[derive(Clone)]
pub struct GuestRam {
    inner: Arc<Inner>,
    /// True if `inner` has a dirty log: known without looking there, as is its switch.
    tracks: bool,
    switch: DirtySwitch,
}

impl fmt::Debug for GuestRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self
            .inner
            .regions
            .iter()
            .map(|r| r.gpa..r.gpa + r.host.len() as u64);
        f.debug_list()
            .entries(ranges.map(|r| format!("{:#x}..{:#x}", r.start, r.end)))
            .finish()
    }
}

/// Contiguous guest memory: its place in this process, and where the guest sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestSlice {
    pub(crate) host: HostSlice,
    pub(crate) gpa: u64,
}

impl GuestRam {
    /// Resolves `memory`, which stays alive as long as any clone of the result.
    ///
    /// Each region is taken as the one slice that [`GuestMemoryRegion::get_slice`] gives for all of
    /// its bytes. Safe code cannot make up such a slice, so memory that lies about its host
    /// addresses is refused or read where it is.
    ///
    /// Writes are marked in the regions' bitmaps, unless these are the empty `()` bitmap.
    ///
    /// # Errors
    /// No region, a region without a host mapping, or overlapping regions.
    pub fn new<M>(memory: Arc<M>) -> Result<Self, RamError>
    where
        M: GuestMemoryBackend + Send + Sync + 'static,
        <M::R as GuestMemoryRegion>::B: 'static,
    {
        let regions = memory.iter().map(|region| {
            let gpa = region.start_addr().raw_value();
            let host = HostSlice::of_region(region).ok_or(RamError::NotMapped(gpa))?;
            Ok(Region::new(gpa, host))
        });
        let regions = regions.collect::<Result<_, _>>()?;
        let marks = TypeId::of::<<M::R as GuestMemoryRegion>::B>() != TypeId::of::<()>();
        let dirty = marks.then(|| Arc::new(Bitmaps(memory.clone())) as Arc<dyn DirtyLog>);
        Self::of_regions(regions, dirty, memory)
    }

    /// Memory in `regions`, which `owner` keeps mapped.
    pub(super) fn of_regions(
        mut regions: Vec<Region>,
        dirty: Option<Arc<dyn DirtyLog>>,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, RamError> {
        regions.sort_by_key(|region| region.gpa);
        if regions.is_empty() {
            return Err(RamError::Empty);
        }
        for pair in regions.windows(2) {
            let end = pair[0].gpa.checked_add(pair[0].host.len() as u64);
            if end.is_none_or(|end| end > pair[1].gpa) {
                return Err(RamError::Overlap(pair[1].gpa));
            }
        }
        Ok(Self::of(Inner {
            regions,
            dirty,
            switch: DirtySwitch::default(),
            platform: None,
            _owner: owner,
        }))
    }

    fn of(inner: Inner) -> Self {
        Self {
            tracks: inner.dirty.is_some(),
            switch: inner.switch.clone(),
            inner: Arc::new(inner),
        }
    }

    /// The same memory with writes told to `log` (`None`: to nobody).
    #[must_use]
    pub fn with_dirty_log(&self, log: Option<Arc<dyn DirtyLog>>) -> Self {
        self.with(|inner| inner.dirty = log)
    }

    /// The same memory whose dirty log is told of writes while `switch` is on.
    #[must_use]
    pub fn with_dirty_switch(&self, switch: DirtySwitch) -> Self {
        self.with(|inner| inner.switch = switch)
    }

    /// The same memory behind `platform`: every address that the driver gives is translated first.
    #[must_use]
    pub fn with_access_platform(&self, platform: Arc<dyn AccessPlatform>) -> Self {
        self.with(|inner| inner.platform = Some(platform))
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Inner::clone(&self.inner);
        change(&mut inner);
        Self::of(inner)
    }

    /// Returns whether anyone wants to know of writes now.
    #[inline]
    pub(crate) fn tracks_writes(&self) -> bool {
        self.tracks && self.switch.is_on()
    }

    /// Tells the dirty log of a write of one byte at least, if anyone wants to know.
    #[inline]
    pub(crate) fn mark(&self, gpa: u64, len: u64) {
        if self.tracks_writes()
            && let Some(dirty) = &self.inner.dirty
        {
            dirty.mark(gpa, len);
        }
    }

    /// Tells the dirty log of a write to the first `len` bytes of `segment`.
    pub(crate) fn mark_segment(&self, segment: &IoVec, len: usize) {
        for (gpa, len) in self.guest_ranges(segment, len) {
            self.mark(gpa, len);
        }
    }

    /// Guest addresses of the first `len` bytes of `segment`, with lengths: one range unless
    /// regions share host memory.
    ///
    /// So nobody has to keep guest addresses for marks that may never be made.
    pub(crate) fn guest_ranges(
        &self,
        segment: &IoVec,
        len: usize,
    ) -> impl Iterator<Item = (u64, u64)> {
        let start = segment.addr();
        let end = start + segment.len().min(len);
        self.inner.regions.iter().filter_map(move |region| {
            let base = region.host.addr();
            let from = start.max(base);
            let to = end.min(base + region.host.len());
            (from < to).then(|| (region.gpa + (from - base) as u64, (to - from) as u64))
        })
    }

    /// Copies out what lies at the driver's address `addr`.
    ///
    /// # Errors
    /// The range is not wholly guest memory, or cannot be read; any part of `dst` may have been
    /// written.
    pub fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), ReadError> {
        let len = u32::try_from(dst.len()).map_err(|_| BadAddress::new(addr, dst.len() as u64))?;
        let mut done = 0;
        self.resolve(addr, len, Access::Read, &mut |host, _| {
            done += copy_from(&[host.io()], 0, &mut dst[done..])?;
            Ok(())
        })
    }

    /// The region in which guest-physical `gpa` may lie.
    fn find(&self, gpa: u64) -> Option<&Region> {
        let regions = &self.inner.regions;
        let index = regions.partition_point(|region| region.gpa <= gpa);
        regions.get(index.checked_sub(1)?)
    }

    /// The region in which the driver's address `addr` lies, unless addresses are translated first.
    pub(super) fn region_of(&self, addr: u64) -> Option<Region> {
        if self.inner.platform.is_some() {
            return None;
        }
        self.find(addr)
            .filter(|region| region.from(addr).is_some())
            .copied()
    }

    /// Calls `piece(host, gpa)` for each host-contiguous part of `len` bytes at the driver's
    /// address `addr`, which may straddle regions or pass an IOMMU.
    #[cold]
    pub(super) fn resolve<E: From<BadAddress>>(
        &self,
        addr: u64,
        len: u32,
        access: Access,
        piece: &mut dyn FnMut(HostSlice, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let len = u64::from(len);
        let want = BadAddress::new(addr, len);
        let end = want.addr.checked_add(want.len).ok_or(want)?;
        let mut at = want.addr;
        while at < end {
            let (gpa, contiguous) = self.translate(at, end - at, access).map_err(|error| {
                let awaited = match error {
                    TranslateError::NotMapped { .. } => None,
                    TranslateError::Awaited { iova } => Some(iova),
                };
                BadAddress { awaited, ..want }
            })?;
            let region = self.find(gpa).ok_or(want)?;
            let host = region.from(gpa).ok_or(want)?;
            let count = contiguous.min(end - at).min(host.len() as u64);
            let part = host.sub(0, count as usize).ok_or(want)?;
            piece(part, gpa)?;
            at += count;
        }
        Ok(())
    }

    /// Asks for translations that are likely to be looked up soon; returns whether all of them are
    /// known.
    #[cold]
    pub(crate) fn ask_ahead(&self, addr: u64, len: u64, access: Access) -> bool {
        let platform = self.inner.platform.as_ref();
        platform.is_none_or(|platform| platform.ask_ahead(addr, len, access))
    }

    fn translate(&self, addr: u64, len: u64, access: Access) -> Result<(u64, u64), TranslateError> {
        match &self.inner.platform {
            None => Ok((addr, len)),
            Some(platform) => match platform.translate(addr, len, access)? {
                (_, 0) => Err(TranslateError::NotMapped { iova: addr }),
                there => Ok(there),
            },
        }
    }

    /// `len` bytes at the driver's address `addr` that must be contiguous for host and guest: rings
    /// and tables. They may be translated piece by piece.
    pub(crate) fn contiguous(
        &self,
        addr: u64,
        len: usize,
        access: Access,
    ) -> Result<GuestSlice, BadAddress> {
        let bad = BadAddress::new(addr, len as u64);
        let mut found: Option<GuestSlice> = None;
        let size = u32::try_from(len).map_err(|_| bad)?;
        self.resolve(addr, size, access, &mut |host, gpa| {
            let whole = match found {
                None => GuestSlice { host, gpa },
                Some(before) => self.joined(before, GuestSlice { host, gpa }).ok_or(bad)?,
            };
            found = Some(whole);
            Ok(())
        })?;
        found.ok_or(bad)
    }

    /// Both pieces as one, if the second follows the first in one region.
    fn joined(&self, first: GuestSlice, next: GuestSlice) -> Option<GuestSlice> {
        let len = first.host.len();
        if first.gpa.checked_add(len as u64)? != next.gpa {
            return None;
        }
        let region = self.find(first.gpa)?.from(first.gpa)?;
        let host = region.sub(0, len + next.host.len())?;
        Some(GuestSlice {
            host,
            gpa: first.gpa,
        })
    }
}
