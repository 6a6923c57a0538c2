//! The split virtqueue. VirtIO 1.4 §2.7.

use crate::drop_cause::{DropCause, QueueFault};
use crate::memory::guest_ram::{Access, GuestRam};
use crate::memory::iovec::IoVec;
use crate::memory::resolver::Resolver;
use crate::ring::journal::SplitJournal;
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc, NoDesc};
use crate::ring::sync::{Ordering, fence};
use crate::ring::used_batch::{Batch, Element};
use crate::ring::walk::{NoChain, Walk};
use crate::ring::{
    BufferRules, Chain, Cursor, PoppedChain, Ring, RingConfig, RingError, UsedJournal, ahead,
    event_index,
};

/// Offset of `idx` in both the available and the used ring.
const IDX: usize = 2;
/// Offset of the elements in both.
const ELEMENTS: usize = 4;
const AVAIL_ELEMENT: usize = 2;
const USED_ELEMENT: usize = 8;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

/// A split virtqueue over resolved memory.
#[derive(Debug)]
pub struct SplitRing {
    resolver: Resolver,
    desc: Area,
    avail: Area,
    used: Area,
    size: u16,
    event_idx: bool,
    indirect: bool,
    /// Next available index to take.
    next_avail: u16,
    /// Available index as last read: spares a shared cache line per chain.
    seen_avail: u16,
    /// Next used index to write.
    next_used: u16,
    /// Used index as the driver sees it.
    published: u16,
    batch: Batch,
    /// Nobody decides about interrupts before he is asked to.
    defers: bool,
    /// Indices that were published since it was decided.
    undecided: u32,
    fault: Option<QueueFault>,
    /// Index of a chain that cannot be taken before a translation is there.
    awaits: Option<u16>,
    journal: Option<SplitJournal>,
}

impl SplitRing {
    /// Checks `config` and finds the ring in `ram`.
    ///
    /// # Errors
    /// The size, an address or the cursor cannot be one of a split ring in this memory.
    pub fn new(ram: &GuestRam, config: &RingConfig) -> Result<Self, RingError> {
        let size = config.size;
        if !size.is_power_of_two() || size > 1 << 15 {
            return Err(RingError::Size(size));
        }
        let count = usize::from(size);
        let tail = if config.event_idx { 2 } else { 0 };
        let addrs = &config.addrs;
        let desc = Area::find(ram, addrs.desc, 16, count * DESC_SIZE, Access::Read)?;
        let len = ELEMENTS + count * AVAIL_ELEMENT + tail;
        let avail = Area::find(ram, addrs.driver, 2, len, Access::Read)?;
        let len = ELEMENTS + count * USED_ELEMENT + tail;
        let used = Area::find(ram, addrs.device, 4, len, Access::Write)?;

        let next_avail = config.cursor.avail;
        let next_used = match config.cursor.used {
            Some(index) => index,
            None => used
                .load16(IDX, Ordering::Acquire)
                .map_err(|_| RingError::MemoryFault(addrs.device))?,
        };
        if next_avail.wrapping_sub(next_used) > size {
            return Err(RingError::Cursor {
                avail: next_avail,
                used: next_used,
                size,
            });
        }
        Ok(Self {
            resolver: Resolver::new(ram.clone()),
            desc,
            avail,
            used,
            size,
            event_idx: config.event_idx,
            indirect: config.indirect,
            next_avail,
            seen_avail: next_avail,
            next_used,
            published: next_used,
            batch: Batch::new(config),
            defers: false,
            undecided: 0,
            fault: None,
            awaits: None,
            journal: None,
        })
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    fn after_avail(&self) -> usize {
        ELEMENTS + usize::from(self.size) * AVAIL_ELEMENT
    }

    fn after_used(&self) -> usize {
        ELEMENTS + usize::from(self.size) * USED_ELEMENT
    }

    /// Looks whether the driver made more available. VirtIO 1.4 §2.7.6 (VQ-SPL-11).
    #[inline]
    fn refresh(&mut self) -> Result<bool, QueueFault> {
        if self.fault.is_some() {
            return Ok(false);
        }
        let idx = self.avail.load16(IDX, Ordering::Acquire)?;
        if self.faulted() {
            return Err(QueueFault::MemoryFault);
        }
        // A driver has at most the ring outstanding, beyond what it was told is used; nor does it
        // take back what was taken. So what was taken and not published is never more than the
        // ring, whatever the driver writes.
        let outstanding = idx.wrapping_sub(self.published);
        if outstanding > self.size || outstanding < self.next_avail.wrapping_sub(self.published) {
            return Err(QueueFault::AvailIndex);
        }
        self.seen_avail = idx;
        // All that was seen before has been taken.
        self.awaits = None;
        Ok(idx != self.next_avail)
    }

    /// Takes the next chain. Nearly all are of one buffer.
    #[inline(always)]
    fn take(
        &mut self,
        segments: &mut Vec<IoVec>,
        rules: BufferRules,
    ) -> Result<Option<PoppedChain>, NoChain> {
        if self.seen_avail == self.next_avail && !self.refresh()? {
            return Ok(None);
        }
        let element = ELEMENTS + self.slot(self.next_avail) * AVAIL_ELEMENT;
        let head = self.avail.load16(element, Ordering::Relaxed)?;
        let desc = self.desc.desc(head)?;
        let mut walk = Walk::new(&mut self.resolver, segments, rules);
        walk.id = head;
        walk.descriptors = 1;
        let plain = desc.flags() & (Desc::NEXT | Desc::INDIRECT) == 0;
        let popped = if plain && walk.buffer(desc).is_ok() {
            walk.usable()
        } else {
            let table = Table {
                desc: &self.desc,
                size: self.size,
                indirect: self.indirect,
            };
            table.walk(desc, walk.again())?
        };
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(popped))
    }

    /// Deals with a ring of which nothing can be taken: it is broken for good, or its next chain
    /// counts as not made available yet.
    #[cold]
    #[inline(never)]
    fn not_taken(&mut self, reason: NoChain) {
        match reason {
            NoChain::Fault(fault) => {
                self.fault = Some(fault);
                self.seen_avail = self.next_avail;
            }
            NoChain::Awaited => {
                if self.awaits.replace(self.next_avail) != Some(self.next_avail) {
                    self.resolver.begin_waiting();
                    self.ask_ahead();
                }
            }
        }
    }

    /// Asks for the translations that the chains need which were made available.
    #[cold]
    #[inline(never)]
    fn ask_ahead(&self) {
        let count = self.seen_avail.wrapping_sub(self.next_avail);
        let heads = (0..count).map_while(|at| {
            let slot = self.slot(self.next_avail.wrapping_add(at));
            let head = self
                .avail
                .load16(ELEMENTS + slot * AVAIL_ELEMENT, Ordering::Relaxed);
            head.ok()
        });
        ahead::split(self.resolver.ram(), &self.desc, heads, self.indirect);
    }

    /// Returns whether an access to the ring has failed: then nothing of it means anything. One to
    /// a descriptor is noticed at once.
    fn faulted(&self) -> bool {
        self.avail.faulted() | self.used.faulted()
    }

    /// Writes a used element at the place of the first chain that it stands for.
    #[inline]
    fn write_used(&mut self, element: Element) {
        let offset = ELEMENTS + self.slot(self.next_used) * USED_ELEMENT;
        let id = u32::from(element.id);
        self.used.store32x2(offset, id, element.written);
        self.mark_used(offset, USED_ELEMENT);
        self.next_used = self.next_used.wrapping_add(element.places);
    }

    /// Keeps the ring's position in `journal` from now on.
    #[must_use]
    pub fn with_journal(mut self, journal: UsedJournal) -> Self {
        self.journal = Some(SplitJournal::begin(journal, self.size, self.next_used));
        self
    }

    /// Marks a chain used in the ring, and, with the last one of a frame, in the journal.
    #[cold]
    #[inline(never)]
    fn push_journaled(&mut self, chain: Chain, written: u32, last: bool) {
        let head = chain.id();
        if let Some(element) = self.batch.add(chain, 1, written) {
            self.write_used(element);
        }
        if last && let Some(journal) = &self.journal {
            journal.frame(head, self.next_used.wrapping_add(self.batch.open_places()));
        }
    }

    /// Returns whether the driver wants to know of the last `added` indices (VQ-NTF-01, VQ-NTF-02).
    #[inline]
    fn wants_interrupt(&self, added: u32) -> bool {
        // A driver whose wish cannot be read is told; its ring is found broken at the next look for
        // chains.
        if !self.event_idx {
            let flags = self.avail.load16(0, Ordering::Relaxed);
            return flags.map_or(true, |flags| flags & NO_INTERRUPT == 0);
        }
        // So many that every index was among them.
        let Ok(added) = u16::try_from(added) else {
            return true;
        };
        let (old, new) = (self.published.wrapping_sub(added), self.published);
        let event = self.avail.load16(self.after_avail(), Ordering::Relaxed);
        event.map_or(true, |event| event_index::asks_for_index(event, old, new))
    }

    fn set_avail_event(&self, index: u16) {
        let offset = self.after_used();
        self.used.store16(offset, index, Ordering::Relaxed);
        self.mark_used(offset, 2);
    }

    fn mark_used(&self, offset: usize, len: usize) {
        let ram = self.resolver.ram();
        if ram.tracks_writes() {
            ram.mark(self.used.gpa + offset as u64, len as u64);
        }
    }
}

/// The descriptor table of a ring.
struct Table<'a> {
    desc: &'a Area,
    /// Number of its descriptors.
    size: u16,
    /// `VIRTIO_F_INDIRECT_DESC` was negotiated.
    indirect: bool,
}

impl Table<'_> {
    /// Walks the rest of a chain that begins with `desc`.
    #[inline(never)]
    fn walk(&self, mut desc: Desc, mut walk: Walk<'_>) -> Result<PoppedChain, NoChain> {
        loop {
            if desc.has(Desc::INDIRECT) {
                return if self.indirect && !desc.has(Desc::NEXT) {
                    walk_table(desc, self.size, walk)
                } else {
                    walk.unusable(DropCause::IndirectTable)
                };
            }
            let buffer = walk.buffer(desc);
            if buffer.is_err() || !desc.has(Desc::NEXT) {
                return walk.end(buffer);
            }
            // A chain cannot be longer than the table; one that is runs in a circle (VQ-SPL-10).
            if walk.descriptors == self.size {
                return Err(walk.broken(QueueFault::DescriptorLoop).into());
            }
            walk.descriptors += 1;
            desc = match self.desc.desc(desc.next()) {
                Ok(next) => next,
                Err(none) => return Err(walk.broken(none.into()).into()),
            };
        }
    }
}

/// Walks the table that `desc` refers to, in a ring of `size`: it ends the chain. WRITE on the
/// descriptor itself means nothing. VirtIO 1.4 §2.7.5.3.
fn walk_table(desc: Desc, size: u16, mut walk: Walk<'_>) -> Result<PoppedChain, NoChain> {
    let table = match walk.table(desc, size) {
        Ok(table) => table,
        Err(cause) => return walk.unusable(cause),
    };
    let mut index = 0;
    for _ in 0..table.entries() {
        let entry = match table.desc(index) {
            Ok(entry) if entry.has(Desc::INDIRECT) => Err(DropCause::IndirectTable),
            entry => entry.map_err(DropCause::from),
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(cause) => return walk.unusable(cause),
        };
        let buffer = walk.buffer(entry);
        if buffer.is_err() || !entry.has(Desc::NEXT) {
            return walk.end(buffer);
        }
        index = entry.next();
    }
    Err(walk.broken(QueueFault::DescriptorLoop).into())
}

/// For a descriptor of the ring itself.
impl From<NoDesc> for QueueFault {
    fn from(none: NoDesc) -> Self {
        match none {
            NoDesc::Beyond => Self::DescriptorIndex,
            NoDesc::Fault(fault) => fault.into(),
        }
    }
}

impl Ring for SplitRing {
    #[inline(always)]
    fn pop(&mut self, segments: &mut Vec<IoVec>, rules: BufferRules) -> Option<PoppedChain> {
        // A function in the cold that returned a chain would have all of them lie in memory.
        let taken = self.take(segments, rules);
        taken.map_err(|reason| self.not_taken(reason)).ok()?
    }

    fn fault(&self) -> Option<QueueFault> {
        self.fault
    }

    #[inline]
    fn has_next(&mut self) -> bool {
        self.seen_avail != self.next_avail || matches!(self.refresh(), Ok(true))
    }

    fn undo_pop(&mut self, _chain: Chain) {
        self.next_avail = self.next_avail.wrapping_sub(1);
        if self.fault.is_some() {
            self.seen_avail = self.next_avail;
        }
    }

    #[inline(always)]
    fn push_part(&mut self, chain: Chain, written: u32, last: bool) {
        if self.journal.is_some() {
            return self.push_journaled(chain, written, last);
        }
        if let Some(element) = self.batch.add(chain, 1, written) {
            self.write_used(element);
        }
    }

    fn publish(&mut self) -> bool {
        if let Some(element) = self.batch.take() {
            self.write_used(element);
        }
        let (old, new) = (self.published, self.next_used);
        if old == new {
            return false;
        }
        self.used.store16(IDX, new, Ordering::Release);
        self.mark_used(IDX, 2);
        self.published = new;
        let added = u32::from(new.wrapping_sub(old));
        if self.defers {
            self.undecided = self.undecided.saturating_add(added);
            return false;
        }
        // The driver must see the index before this side looks whether it wants to be told
        // (VQ-SPL-21).
        fence(Ordering::SeqCst);
        self.wants_interrupt(added)
    }

    fn defer_interrupts(&mut self, on: bool) {
        self.defers = on;
    }

    fn is_undecided(&self) -> bool {
        self.undecided > 0
    }

    fn decide_interrupt(&mut self) -> bool {
        let added = std::mem::take(&mut self.undecided);
        if added == 0 {
            return false;
        }
        // As at each publish.
        fence(Ordering::SeqCst);
        self.wants_interrupt(added)
    }

    fn enable_notification(&mut self) -> bool {
        if self.fault.is_some() {
            return false;
        }
        if self.event_idx {
            self.set_avail_event(self.next_avail);
        } else {
            self.used.store16(0, 0, Ordering::Relaxed);
            self.mark_used(0, 2);
        }
        // The driver must see the wish before this side looks once more (VQ-NTF-06).
        fence(Ordering::SeqCst);
        let idx = self.avail.load16(IDX, Ordering::Acquire);
        let awaits = self.awaits == Some(self.next_avail);
        (idx != Ok(self.next_avail) && !awaits) || self.faulted()
    }

    fn disable_notification(&mut self) {
        if self.fault.is_some() {
            return;
        }
        if !self.event_idx {
            self.used.store16(0, NO_NOTIFY, Ordering::Relaxed);
            self.mark_used(0, 2);
        } else if self.avail.load16(IDX, Ordering::Relaxed) == Ok(self.next_avail) {
            // Or else the driver is past the event index that it was given, and this simply stays
            // behind (VQ-NTF-04).
            self.set_avail_event(self.next_avail.wrapping_sub(1));
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            avail: self.next_avail,
            used: Some(self.published),
            ..Cursor::default()
        }
    }

    fn memory(&self) -> &GuestRam {
        self.resolver.ram()
    }
}
