//! Journals of packed rings: the element of each chain in the entry with the number of its first
//! slot, and in one word where the elements end and up to where they are shown.
//!
//! Chains of which one element of the ring stands for a batch have one each here.

use super::region::{
    HEADER, JournalError, PACKED_ENTRIES as ENTRIES, PACKED_ENTRY as ENTRY, UsedJournal, VERSION,
    fields, word,
};
use crate::memory::guest_ram::{Access, GuestRam};
use crate::ring::position::{AVAIL, Position, USED};
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc};
use crate::ring::sync::Ordering;
use crate::ring::used_batch::Element;
use crate::ring::{Cursor, RingConfig, RingError};

/// In the header, as one word: used index, the one before the batch, the wrap counters of both.
const POSITIONS: usize = 16;
/// In an entry, as one word: the mark of a chain in flight, the next free entry, the last one of
/// the chain, the number of its descriptors.
const EXTENT: usize = 0;
/// In an entry, as one word: id, flags and length.
const ELEMENT: usize = 16;

/// Offsets in a descriptor of the ring.
const LEN: usize = 8;
const ID: usize = 12;
const FLAGS: usize = 14;

/// Most chains of a frame for which there is room from the start.
const PARTS: u16 = 1024;

/// The journal that a ring keeps.
#[derive(Debug)]
pub(crate) struct PackedJournal {
    kept: UsedJournal,
    size: u16,
    /// Chains of a frame of which not all are used yet, and slots that they take.
    parts: Vec<Element>,
    part_slots: u16,
}

impl PackedJournal {
    /// Begins at `used` in a ring of `size`.
    pub(crate) fn begin(kept: UsedJournal, size: u16, used: Position) -> Self {
        let journal = Self {
            kept,
            size,
            parts: Vec::with_capacity(size.min(PARTS).into()),
            part_slots: 0,
        };
        journal.shown(used);
        for slot in 0..size {
            journal.store(slot, EXTENT, journal.extent(slot, 1));
        }
        journal.kept.store64(HEADER, word([VERSION, size, 0, 0]));
        journal
    }

    fn store(&self, slot: u16, at: usize, word: u64) {
        let entry = ENTRIES + usize::from(slot) * ENTRY;
        self.kept.store64(entry + at, word);
    }

    /// The word [`EXTENT`] of an entry: a chain of `places` slots from `slot` on.
    fn extent(&self, slot: u16, places: u16) -> u64 {
        let after = |count| {
            let slot = u32::from(slot) + count;
            (slot % u32::from(self.size)) as u16
        };
        let last = after(u32::from(places).saturating_sub(1));
        word([0, after(1), last, places])
    }

    /// Slots of the elements that wait for the end of their frame.
    pub(crate) fn part_slots(&self) -> u16 {
        self.part_slots
    }

    /// Lets an element wait for the end of its frame.
    pub(crate) fn hold(&mut self, element: Element) {
        self.parts.push(element);
        self.part_slots += element.places;
    }

    /// Takes the elements that wait.
    pub(crate) fn take_held(&mut self) -> impl Iterator<Item = Element> {
        self.part_slots = 0;
        self.parts.drain(..)
    }

    /// Puts the element of a chain at `at` aside.
    #[inline]
    pub(crate) fn element(&self, at: Position, element: Element) {
        self.store(at.slot, EXTENT, self.extent(at.slot, element.places));
        let Element { id, written, .. } = element;
        let flags = used_flags(at, written);
        let fields = [id, flags, written as u16, (written >> 16) as u16];
        self.store(at.slot, ELEMENT, word(fields));
    }

    /// The chains up to `used` are used; from `published` on nothing is shown.
    #[inline]
    pub(crate) fn frame(&self, published: Position, used: Position) {
        let wraps = u16::from_le_bytes([used.wrap.into(), published.wrap.into()]);
        let fields = [used.slot, published.slot, wraps, 0];
        self.kept.store64(POSITIONS, word(fields));
    }

    /// Everything up to `used` is shown.
    #[inline]
    pub(crate) fn shown(&self, used: Position) {
        self.frame(used, used);
    }
}

/// Flags of a used descriptor at `at`. VirtIO 1.4 §2.8.1.
#[inline]
pub(crate) fn used_flags(at: Position, written: u32) -> u16 {
    let lap = if at.wrap { AVAIL | USED } else { 0 };
    if written > 0 { lap | Desc::WRITE } else { lap }
}

/// The elements of a journal that are not shown.
struct Pending<'a> {
    journal: &'a UsedJournal,
    size: u16,
    from: Position,
    /// Slots that they take.
    slots: u16,
}

impl Pending<'_> {
    /// Calls `f` with each element and its position.
    fn each(&self, mut f: impl FnMut(Position, Element)) -> Result<(), JournalError> {
        let (mut at, mut left) = (self.from, self.slots);
        while left > 0 {
            let entry = ENTRIES + usize::from(at.slot) * ENTRY;
            let extent = self.journal.load64(entry + EXTENT)?;
            let [.., places] = fields(extent);
            if !(1..=left).contains(&places) {
                return Err(JournalError::Positions(extent));
            }
            let word = self.journal.load64(entry + ELEMENT)?;
            let (id, written) = (word as u16, (word >> 32) as u32);
            f(
                at,
                Element {
                    id,
                    written,
                    places,
                },
            );
            at = at.forward(places, self.size);
            left -= places;
        }
        Ok(())
    }

    /// Writes them to the ring, the flags of the first one last.
    fn write(&self, desc: &Area, ram: &GuestRam) -> Result<(), JournalError> {
        // All of them are looked at before the first one is written.
        let mut all = Vec::new();
        self.each(|at, element| all.push((at, element)))?;
        for (at, element) in all.into_iter().rev() {
            let offset = at.offset();
            desc.store32(offset + LEN, element.written);
            desc.store16(offset + ID, element.id, Ordering::Relaxed);
            let flags = used_flags(at, element.written);
            desc.store16(offset + FLAGS, flags, Ordering::Release);
            ram.mark(desc.gpa + (offset + LEN) as u64, (DESC_SIZE - LEN) as u64);
        }
        Ok(())
    }
}

/// Shows the driver the elements up to the end of the journal.
pub(super) fn recover(
    journal: &UsedJournal,
    ram: &GuestRam,
    config: &RingConfig,
) -> Result<Cursor, JournalError> {
    let (size, addr) = (config.size, config.addrs.desc);
    let len = usize::from(size) * DESC_SIZE;
    let desc = Area::find(ram, addr, 16, len, Access::Write)?;
    let word = journal.load64(POSITIONS)?;
    let [used, published, wraps, _] = fields(word);
    let wraps = wraps.to_le_bytes().map(|wrap| wrap != 0);
    let position = |slot, wrap| Position { slot, wrap };
    let (used, published) = (position(used, wraps[0]), position(published, wraps[1]));
    let slots = (used.slot < size && published.slot < size)
        .then(|| used.since(published, size))
        .flatten()
        .ok_or(JournalError::Positions(word))?;
    if slots > 0 {
        let flags = desc.load16(published.offset() + FLAGS, Ordering::Acquire);
        let flags = flags.map_err(|_| RingError::MemoryFault(addr))?;
        // Otherwise the driver has seen the first one, and with it all.
        if published.is_available(flags) {
            let from = published;
            let pending = Pending {
                journal,
                size,
                from,
                slots,
            };
            pending.write(&desc, ram)?;
        }
    }
    Ok(Cursor {
        avail: used.slot,
        used: Some(used.slot),
        avail_wrap: used.wrap,
        used_wrap: used.wrap,
    })
}
