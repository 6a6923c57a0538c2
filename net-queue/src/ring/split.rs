//! The split virtqueue. VirtIO 1.4 §2.7.

use crate::drop_cause::{DropCause, QueueFault};
use crate::memory::guest_ram::{Access, GuestRam};
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc};
use crate::ring::sync::{Ordering, fence};
use crate::ring::used_batch::{Batch, Element};
use crate::ring::walk::{BufferSink, Walk, indirect_table, no_entry};
use crate::ring::{Chain, Cursor, PoppedChain, Ring, RingConfig, RingError};

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

/// Outcome of a walk over a table that ends early.
enum Unusable {
    /// This chain's content is of no use.
    Content(DropCause),
    /// The ring is broken.
    Ring(QueueFault),
}

/// A split virtqueue over resolved memory.
#[derive(Debug)]
pub struct SplitRing {
    ram: GuestRam,
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
        let next_used = config
            .cursor
            .used
            .unwrap_or_else(|| used.load16(IDX, Ordering::Acquire));
        if used.faulted() {
            return Err(RingError::MemoryFault(addrs.device));
        }
        if next_avail.wrapping_sub(next_used) > size {
            return Err(RingError::Cursor {
                avail: next_avail,
                used: next_used,
                size,
            });
        }
        Ok(Self {
            ram: ram.clone(),
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
        if self.seen_avail != self.next_avail {
            return Ok(true);
        }
        let idx = self.avail.load16(IDX, Ordering::Acquire);
        // A driver has at most the ring outstanding, beyond what it was told is used; nor does it
        // take back what was taken. So what was taken and not published is never more than the
        // ring, whatever the driver writes.
        let outstanding = idx.wrapping_sub(self.published);
        if outstanding > self.size || outstanding < self.next_avail.wrapping_sub(self.published) {
            return Err(QueueFault::AvailIndex);
        }
        self.seen_avail = idx;
        Ok(idx != self.next_avail)
    }

    /// Hands the buffers of the chain at `head` to `sink`.
    #[inline(always)]
    fn walk<S: BufferSink>(&self, head: u16, sink: &mut S) -> Result<PoppedChain, QueueFault> {
        let mut walk = Walk::new(&self.ram, sink);
        let mut index = head;
        // A chain cannot be longer than the table; one that is runs in a circle (VQ-SPL-10).
        for descriptors in 1..=self.size {
            let Some(desc) = self.desc.desc(usize::from(index)) else {
                return Err(QueueFault::DescriptorIndex);
            };
            if desc.has(Desc::INDIRECT) {
                return match self.walk_indirect(desc, &mut walk) {
                    Ok(()) => Ok(walk.end(head, descriptors, Ok(()))),
                    Err(Unusable::Content(cause)) => Ok(walk.end(head, descriptors, Err(cause))),
                    Err(Unusable::Ring(fault)) => Err(fault),
                };
            }
            let buffer = walk.buffer(desc);
            if buffer.is_err() || !desc.has(Desc::NEXT) {
                return Ok(walk.end(head, descriptors, buffer));
            }
            index = desc.next();
        }
        Err(QueueFault::DescriptorLoop)
    }

    /// VirtIO 1.4 §2.7.5.3: a table ends the chain; WRITE on the descriptor that refers to it means
    /// nothing.
    fn walk_indirect<S: BufferSink>(
        &self,
        desc: Desc,
        walk: &mut Walk<'_, S>,
    ) -> Result<(), Unusable> {
        if !self.indirect || desc.has(Desc::NEXT) {
            return Err(Unusable::Content(DropCause::IndirectTable));
        }
        let (table, entries) =
            indirect_table(&self.ram, desc, self.size).map_err(Unusable::Content)?;
        let mut index = 0;
        for _ in 0..entries {
            let entry = table.desc(index).filter(|entry| !entry.has(Desc::INDIRECT));
            let Some(entry) = entry else {
                return Err(Unusable::Content(no_entry(&table)));
            };
            let buffer = walk.buffer(entry);
            if buffer.is_err() || !entry.has(Desc::NEXT) {
                return buffer.map_err(Unusable::Content);
            }
            index = usize::from(entry.next());
        }
        Err(Unusable::Ring(QueueFault::DescriptorLoop))
    }

    /// Takes the next chain; what it returns counts only if no access failed.
    #[inline(always)]
    fn take<S: BufferSink>(&mut self, sink: &mut S) -> Result<Option<PoppedChain>, QueueFault> {
        if !self.refresh()? {
            return Ok(None);
        }
        let head = self.avail.load16(
            ELEMENTS + self.slot(self.next_avail) * AVAIL_ELEMENT,
            Ordering::Relaxed,
        );
        if head >= self.size {
            return Err(QueueFault::DescriptorIndex);
        }
        let popped = self.walk(head, sink)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(popped))
    }

    /// Returns whether an access to the ring has failed: then nothing of it means anything.
    #[inline]
    fn faulted(&self) -> bool {
        self.desc.faulted() | self.avail.faulted() | self.used.faulted()
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

    fn set_avail_event(&self, index: u16) {
        let offset = self.after_used();
        self.used.store16(offset, index, Ordering::Relaxed);
        self.mark_used(offset, 2);
    }

    fn mark_used(&self, offset: usize, len: usize) {
        if self.ram.tracks_writes() {
            self.ram.mark(self.used.gpa + offset as u64, len as u64);
        }
    }
}

impl Ring for SplitRing {
    #[inline(always)]
    fn pop<S: BufferSink>(&mut self, sink: &mut S) -> Result<Option<PoppedChain>, QueueFault> {
        let popped = self.take(sink);
        // What tells of a chain lies in two areas. The third is looked at when there is none.
        let faulted = match popped {
            Ok(Some(_)) => self.desc.faulted() | self.avail.faulted(),
            _ => self.faulted(),
        };
        if faulted {
            return Err(QueueFault::MemoryFault);
        }
        popped
    }

    fn undo_pop(&mut self, _chain: Chain) {
        self.next_avail = self.next_avail.wrapping_sub(1);
    }

    #[inline]
    fn push_used(&mut self, chain: Chain, written: u32) {
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
        // The driver must see the index before this side looks whether it wants to be told
        // (VQ-SPL-21).
        fence(Ordering::SeqCst);
        if !self.event_idx {
            return self.avail.load16(0, Ordering::Relaxed) & NO_INTERRUPT == 0;
        }
        let event = self.avail.load16(self.after_avail(), Ordering::Relaxed);
        // An element was placed at the index the driver named (VQ-NTF-02).
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    fn enable_notification(&mut self) -> bool {
        if self.event_idx {
            self.set_avail_event(self.next_avail);
        } else {
            self.used.store16(0, 0, Ordering::Relaxed);
            self.mark_used(0, 2);
        }
        // The driver must see the wish before this side looks once more (VQ-NTF-06).
        fence(Ordering::SeqCst);
        self.avail.load16(IDX, Ordering::Acquire) != self.next_avail || self.faulted()
    }

    fn disable_notification(&mut self) {
        if !self.event_idx {
            self.used.store16(0, NO_NOTIFY, Ordering::Relaxed);
            self.mark_used(0, 2);
        } else if self.avail.load16(IDX, Ordering::Relaxed) == self.next_avail {
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
}
