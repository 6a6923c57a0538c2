//! Journals of split rings: the used index up to which elements are written, and the chain of the
//! last one, in one word: version, number of descriptors, head of the last chain, used index.

use super::region::{HEADER, JournalError, UsedJournal, VERSION, fields, word};
use crate::memory::guest_ram::{Access, GuestRam};
use crate::ring::ring_memory::Area;
use crate::ring::sync::Ordering;
use crate::ring::{Cursor, RingConfig, RingError, UsedElements};

/// Offset of `idx` in the available and the used ring, and of the elements.
const IDX: usize = 2;
const ELEMENTS: usize = 4;
const USED_ELEMENT: usize = 8;

/// The journal that a ring keeps.
#[derive(Debug)]
pub(crate) struct SplitJournal {
    kept: UsedJournal,
    size: u16,
}

impl SplitJournal {
    /// Begins at used index `used` in a ring of `size`.
    pub(crate) fn begin(kept: UsedJournal, size: u16, used: u16) -> Self {
        let journal = Self { kept, size };
        journal.frame(0, used);
        journal
    }

    /// The chains up to used index `used`, the last of them `head`, are used as soon as the driver
    /// looks. Elements before it are in the used ring.
    #[inline]
    pub(crate) fn frame(&self, head: u16, used: u16) {
        let fields = [VERSION, self.size, head, used];
        self.kept.store64(HEADER, word(fields));
    }
}

/// Shows the driver the elements up to the journal's used index.
pub(super) fn recover(
    journal: &UsedJournal,
    ram: &GuestRam,
    config: &RingConfig,
) -> Result<Cursor, JournalError> {
    let (size, addrs) = (config.size, &config.addrs);
    let len = ELEMENTS + usize::from(size) * USED_ELEMENT;
    let used = Area::find(ram, addrs.device, 4, len, Access::Write)?;
    let avail = Area::find(ram, addrs.driver, 2, IDX + 2, Access::Read)?;
    let index = |area: &Area, addr| {
        let index = area.load16(IDX, Ordering::Acquire);
        index.map_err(|_| RingError::MemoryFault(addr))
    };
    let available = index(&avail, addrs.driver)?;
    let shown = index(&used, addrs.device)?;
    let [.., head, written] = fields(journal.load64(HEADER)?);
    let mut at = shown;
    // Behind what is shown there is nothing to do, and beyond what is available it is the journal
    // of another life of the ring.
    let pending = written.wrapping_sub(shown);
    if pending > 0 && pending <= available.wrapping_sub(shown).min(size) {
        if config.in_order && config.used_elements == UsedElements::PerBatch {
            // The one element of all these chains need not be in the ring.
            let offset = ELEMENTS + usize::from(shown & (size - 1)) * USED_ELEMENT;
            used.store32x2(offset, head.into(), 0);
            ram.mark(used.gpa + offset as u64, USED_ELEMENT as u64);
        }
        used.store16(IDX, written, Ordering::Release);
        ram.mark(used.gpa + IDX as u64, 2);
        at = written;
    }
    Ok(Cursor {
        avail: at,
        used: Some(at),
        ..Cursor::default()
    })
}
