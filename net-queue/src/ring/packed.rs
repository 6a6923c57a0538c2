//! The packed virtqueue. VirtIO 1.4 §2.8.
//!
//! One ring of descriptors that the driver makes available and the device overwrites with used
//! ones. Both sides go round it, each with a wrap counter that flips at the end; a descriptor's
//! AVAIL and USED bits say in which lap each side last wrote it:
//!
//! ```text
//!    slot    0    1    2    3    4    5    6    7
//!          [ u ][ - ][ h ][ h ][ h ][ a ][ a ][ . ]      u used, - skipped (its chain had two), h held by the device,
//!                      ^used          ^next              a available, . the driver's
//! ```
//!
//! A batch becomes visible at once: its first descriptor gets its flags last, at the publish
//! (VQ-PKD-16).

use crate::drop_cause::{DropCause, QueueFault};
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::{Access, GuestRam};
use crate::memory::iovec::IoVec;
use crate::memory::resolver::Resolver;
use crate::ring::journal::{PackedJournal, used_flags};
use crate::ring::position::Position;
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc};
use crate::ring::sync::{Ordering, fence};
use crate::ring::used_batch::{Batch, Element};
use crate::ring::walk::{NoChain, Walk};
use crate::ring::{
    BufferRules, Chain, Cursor, PoppedChain, Ring, RingConfig, RingError, UsedJournal, ahead,
    event_index,
};

/// Offsets in a used descriptor.
const LEN: usize = 8;
const ID: usize = 12;
const FLAGS: usize = 14;
/// Bytes of an event suppression area: offset and wrap, then flags.
const EVENT_SIZE: usize = 4;
const EVENT_FLAGS: usize = 2;
/// `RING_EVENT_FLAGS_ENABLE`, `_DISABLE`, `_DESC`.
const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const AT_DESC: u16 = 2;

/// A packed virtqueue over resolved memory.
#[derive(Debug)]
pub struct PackedRing {
    resolver: Resolver,
    desc: Area,
    driver: Area,
    device: Area,
    size: u16,
    event_idx: bool,
    indirect: bool,
    /// Position at which the next available chain begins.
    next: Position,
    /// Position of the next used descriptor.
    used: Position,
    /// Position of the next used descriptor at the last publish.
    published: Position,
    /// Slots from `published` to `next`: of chains that were taken and of which the driver was not
    /// told yet that they are used. It may not make those available again, so what is taken is
    /// bounded by the rest of the ring, and every sum of such slots by the ring.
    outstanding: u16,
    /// Flags of the first used descriptor since the last publish; it lies at `published`.
    first_flags: Option<u16>,
    /// Those of `outstanding` for which used descriptors were written.
    unpublished: u16,
    batch: Batch,
    /// Nobody decides about interrupts before he is asked to.
    defers: bool,
    /// Slots that were published since it was decided.
    undecided: u32,
    fault: Option<QueueFault>,
    /// Position of a chain that cannot be taken before a translation is there.
    awaits: Option<Position>,
    journal: Option<Box<PackedJournal>>,
}

impl PackedRing {
    /// Checks `config` and finds the ring in `ram`.
    ///
    /// # Errors
    /// The size, an address or the cursor cannot be one of a packed ring in this memory.
    pub fn new(ram: &GuestRam, config: &RingConfig) -> Result<Self, RingError> {
        let size = config.size;
        if size == 0 || size > 1 << 15 {
            return Err(RingError::Size(size));
        }
        let len = usize::from(size) * DESC_SIZE;
        let addrs = &config.addrs;
        let (next, used) = positions(config)?;
        Ok(Self {
            resolver: Resolver::new(ram.clone()),
            desc: Area::find(ram, addrs.desc, 16, len, Access::Write)?,
            driver: Area::find(ram, addrs.driver, 4, EVENT_SIZE, Access::Read)?,
            device: Area::find(ram, addrs.device, 4, EVENT_SIZE, Access::Write)?,
            size,
            event_idx: config.event_idx,
            indirect: config.indirect,
            next,
            used,
            published: used,
            outstanding: next.since(used, size).unwrap_or(0),
            first_flags: None,
            unpublished: 0,
            batch: Batch::new(config),
            defers: false,
            undecided: 0,
            fault: None,
            awaits: None,
            journal: None,
        })
    }

    /// Keeps the ring's position in `journal` from now on.
    #[must_use]
    pub fn with_journal(mut self, journal: UsedJournal) -> Self {
        let journal = PackedJournal::begin(journal, self.size, self.published);
        self.journal = Some(Box::new(journal));
        self
    }

    /// Marks a chain used in the journal and then in the ring, where it overwrites the chain's
    /// descriptor; parts of a frame wait for the last one.
    #[cold]
    #[inline(never)]
    fn push_journaled(&mut self, chain: Chain, written: u32, last: bool) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let element = Element {
            id: chain.id(),
            written,
            places: chain.descriptors(),
        };
        let waiting = journal.part_slots();
        let complete = self.batch.add(chain, element.places, written);
        // One that others join stands behind those, of which the last one speaks for all.
        let joined = match self.batch.open_places() {
            0 => 0,
            open => complete.map_or(0, |it| it.places) + open - element.places,
        };
        let at = self.used.forward(waiting + joined, self.size);
        journal.element(at, element);
        if let Some(complete) = complete {
            journal.hold(complete);
        }
        if last {
            journal.frame(self.published, at.forward(element.places, self.size));
            for element in journal.take_held() {
                self.write_used(element);
            }
        }
        self.journal = Some(journal);
    }

    /// Returns whether there is a chain that was not taken.
    #[inline(always)]
    fn next_is_available(&self) -> Result<bool, MemoryFault> {
        let flags = self
            .desc
            .load16(self.next.offset() + FLAGS, Ordering::Acquire)?;
        Ok(self.next.is_available(flags))
    }

    /// Takes the next list. Nearly all are of one buffer.
    #[inline(always)]
    fn take(
        &mut self,
        segments: &mut Vec<IoVec>,
        rules: BufferRules,
    ) -> Result<Option<PoppedChain>, NoChain> {
        let desc = self.desc.desc_by_flags(self.next.slot)?.packed();
        if !self.next.is_available(desc.flags()) {
            return Ok(self.none_available()?);
        }
        let most = self.size - self.outstanding;
        if most == 0 {
            return Err(QueueFault::AvailIndex.into());
        }
        let mut walk = Walk::new(&mut self.resolver, segments, rules);
        walk.descriptors = 1;
        walk.id = desc.next();
        let plain = desc.flags() & (Desc::NEXT | Desc::INDIRECT) == 0;
        let popped = if plain && walk.buffer(desc).is_ok() {
            walk.usable()
        } else {
            let list = List {
                desc: &self.desc,
                size: self.size,
                indirect: self.indirect,
                start: self.next,
                most,
            };
            list.walk(desc, walk.again())?
        };
        let descriptors = popped.chain.descriptors();
        self.next = self.next.forward(descriptors, self.size);
        self.outstanding += descriptors;
        Ok(Some(popped))
    }

    /// No list is available, which counts only if all accesses to the ring have succeeded.
    #[cold]
    fn none_available(&mut self) -> Result<Option<PoppedChain>, QueueFault> {
        self.awaits = None;
        if self.faulted() {
            Err(QueueFault::MemoryFault)
        } else {
            Ok(None)
        }
    }

    /// Deals with a ring that is broken, or whose next chain counts as not available yet.
    #[cold]
    fn not_taken(&mut self, reason: NoChain) {
        if let NoChain::Fault(fault) = reason {
            self.fault = Some(fault);
        } else if self.awaits.replace(self.next) != Some(self.next) {
            self.resolver.begin_waiting();
            let ram = self.resolver.ram();
            ahead::packed(ram, &self.desc, self.next, self.size, self.indirect);
        }
    }

    /// Returns whether an access to the ring has failed: then nothing of it means anything.
    #[inline]
    fn faulted(&self) -> bool {
        self.desc.faulted() | self.driver.faulted() | self.device.faulted()
    }

    /// Writes a used descriptor at the place of the first chain that it stands for.
    #[inline]
    fn write_used(&mut self, element: Element) {
        let offset = self.used.offset();
        let flags = used_flags(self.used, element.written);
        if self.first_flags.is_none() {
            self.first_flags = Some(flags);
            self.desc.store32(offset + LEN, element.written);
            self.desc
                .store16(offset + ID, element.id, Ordering::Relaxed);
        } else {
            let id_and_flags = u32::from(element.id) | u32::from(flags) << 16;
            self.desc
                .store32x2(offset + LEN, element.written, id_and_flags);
        }
        self.mark_used(offset + LEN, DESC_SIZE - LEN);
        self.used = self.used.forward(element.places, self.size);
        self.unpublished += element.places;
    }

    fn mark_used(&self, offset: usize, len: usize) {
        let ram = self.resolver.ram();
        if ram.tracks_writes() {
            ram.mark(self.desc.gpa + offset as u64, len as u64);
        }
    }

    /// Returns whether the driver wants to know of the last `added` slots (VQ-NTF-07, VQ-PKD-18).
    fn wants_interrupt(&self, added: u32) -> bool {
        // The driver sets the offset before the flags that make it count. One whose wish cannot be
        // read is told; its ring is found broken when it has no more chains.
        let Ok(flags) = self.driver.load16(EVENT_FLAGS, Ordering::Acquire) else {
            return true;
        };
        match flags & 3 {
            DISABLE => false,
            AT_DESC if self.event_idx => {
                let Ok(event) = self.driver.load16(0, Ordering::Relaxed) else {
                    return true;
                };
                // More than a lap, every slot was among them, and of which lap it is nobody knows.
                match u16::try_from(added) {
                    Ok(added) if added <= self.size => {
                        event_index::asks_for_slot(event, self.used, added, self.size)
                    }
                    _ => true,
                }
            }
            _ => true,
        }
    }

    fn set_device_event(&self, offset: usize, value: u16) {
        self.device.store16(offset, value, Ordering::Release);
        let ram = self.resolver.ram();
        if ram.tracks_writes() {
            ram.mark(self.device.gpa + offset as u64, 2);
        }
    }
}

/// A list of descriptors that a driver made available.
struct List<'a> {
    desc: &'a Area,
    /// Number of descriptors of the ring.
    size: u16,
    /// `VIRTIO_F_INDIRECT_DESC` was negotiated.
    indirect: bool,
    /// Position of its first descriptor.
    start: Position,
    /// Descriptors that it may have: a driver has at most the ring outstanding, beyond what it was
    /// told is used.
    most: u16,
}

impl List<'_> {
    /// Walks a list that begins with `first`.
    ///
    /// A list whose content is of no use is read to its end all the same, since only its last
    /// descriptor has the id that the driver knows it by (VQ-PKD-07).
    #[inline(never)]
    fn walk(&self, first: Desc, mut walk: Walk<'_>) -> Result<PoppedChain, NoChain> {
        if self.indirect && first.has(Desc::INDIRECT) && !first.has(Desc::NEXT) {
            walk.id = first.next();
            return walk_table(first, self.size, walk);
        }
        let (mut desc, mut at, mut content) = (first, self.start, Ok(()));
        loop {
            if desc.has(Desc::INDIRECT) {
                // A table is a whole list.
                content = content.and(Err(DropCause::IndirectTable));
            } else if content.is_ok() {
                content = walk.buffer(desc);
            }
            if !desc.has(Desc::NEXT) {
                walk.id = desc.next();
                return walk.end(content);
            }
            if walk.descriptors == self.most {
                return Err(walk.broken(QueueFault::DescriptorLoop).into());
            }
            walk.descriptors += 1;
            at = at.forward(1, self.size);
            desc = match self.desc.desc(at.slot) {
                Ok(next) => next.packed(),
                Err(none) => return Err(walk.broken(none.into()).into()),
            };
            if !at.is_available(desc.flags()) {
                return Err(walk.broken(QueueFault::NotAvailable).into());
            }
        }
    }
}

/// Walks the table that `desc` refers to, in a ring of `size`: it is the whole list. Every entry
/// counts, of its flags only WRITE does. VirtIO 1.4 §2.8.7.
fn walk_table(desc: Desc, size: u16, mut walk: Walk<'_>) -> Result<PoppedChain, NoChain> {
    let table = match walk.table(desc, size) {
        Ok(table) => table,
        Err(cause) => return walk.unusable(cause),
    };
    for index in 0..table.entries() {
        let entry = table.desc(index).map_err(DropCause::from);
        if let Err(cause) = entry.and_then(|entry| walk.table_entry(entry.packed())) {
            return walk.unusable(cause);
        }
    }
    walk.end(Ok(()))
}

/// The cursor's two positions, when they can be ones of this ring.
fn positions(config: &RingConfig) -> Result<(Position, Position), RingError> {
    let (size, cursor) = (config.size, config.cursor);
    let next = Position {
        slot: cursor.avail,
        wrap: cursor.avail_wrap,
    };
    let used = cursor.used.map(|slot| Position {
        slot,
        wrap: cursor.used_wrap,
    });
    used.filter(|used| used.slot < size && next.slot < size)
        .filter(|used| next.since(*used, size).is_some())
        .map(|used| (next, used))
        .ok_or(RingError::Cursor {
            avail: cursor.avail,
            used: cursor.used.unwrap_or(0),
            size,
        })
}

impl Ring for PackedRing {
    #[inline(always)]
    fn pop(&mut self, segments: &mut Vec<IoVec>, rules: BufferRules) -> Option<PoppedChain> {
        if self.fault.is_some() {
            return None;
        }
        // A function in the cold that returned a chain would have all of them lie in memory.
        let taken = self.take(segments, rules);
        taken.map_err(|reason| self.not_taken(reason)).ok()?
    }

    fn fault(&self) -> Option<QueueFault> {
        self.fault
    }

    #[inline]
    fn has_next(&mut self) -> bool {
        matches!(self.next_is_available(), Ok(true))
    }

    fn undo_pop(&mut self, chain: Chain) {
        self.next = self.next.back(chain.descriptors(), self.size);
        self.outstanding -= chain.descriptors();
    }

    #[inline(always)]
    fn push_part(&mut self, chain: Chain, written: u32, last: bool) {
        if self.journal.is_some() {
            return self.push_journaled(chain, written, last);
        }
        let places = chain.descriptors();
        if let Some(element) = self.batch.add(chain, places, written) {
            self.write_used(element);
        }
    }

    fn publish(&mut self) -> bool {
        if let Some(element) = self.batch.take() {
            self.write_used(element);
        }
        let Some(flags) = self.first_flags.take() else {
            return false;
        };
        let offset = self.published.offset() + FLAGS;
        self.desc.store16(offset, flags, Ordering::Release);
        self.mark_used(offset, 2);
        self.published = self.used;
        if let Some(journal) = &self.journal {
            journal.shown(self.published);
        }
        let added = std::mem::take(&mut self.unpublished);
        self.outstanding -= added;
        if self.defers {
            self.undecided = self.undecided.saturating_add(added.into());
            return false;
        }
        // The driver must see the flags before this side looks whether it wants to be told
        // (VQ-SPL-21).
        fence(Ordering::SeqCst);
        self.wants_interrupt(added.into())
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
            self.set_device_event(0, self.next.event());
            self.set_device_event(EVENT_FLAGS, AT_DESC);
        } else {
            self.set_device_event(EVENT_FLAGS, ENABLE);
        }
        // The driver must see the wish before this side looks once more (VQ-NTF-06).
        fence(Ordering::SeqCst);
        let awaits = self.awaits == Some(self.next);
        (self.next_is_available() != Ok(false) && !awaits) || self.faulted()
    }

    fn disable_notification(&mut self) {
        if self.fault.is_some() {
            return;
        }
        self.set_device_event(EVENT_FLAGS, DISABLE);
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            avail: self.next.slot,
            used: Some(self.published.slot),
            avail_wrap: self.next.wrap,
            used_wrap: self.published.wrap,
        }
    }

    fn memory(&self) -> &GuestRam {
        self.resolver.ram()
    }
}
