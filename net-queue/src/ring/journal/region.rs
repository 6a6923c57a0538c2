//! The bytes of a journal, and the parts of its layout that rings of both kinds share.

use crate::memory::SharedBytes;
use crate::memory::guard::MemoryFault;
use crate::ring::{Layout, RingError};

/// Version of the layout.
pub(super) const VERSION: u16 = 1;
/// Offset of the version and the number of descriptors in both layouts, two bytes each.
pub(super) const HEADER: usize = 8;
/// Bytes in front of the entries of a split ring's journal.
pub(super) const SPLIT_ENTRIES: usize = 16;
/// Bytes of each of them, of which the first one marks its chain as in flight.
pub(super) const SPLIT_ENTRY: usize = 16;
/// Bytes in front of the entries of a packed ring's journal.
pub(super) const PACKED_ENTRIES: usize = 32;
/// Bytes of each of them, likewise.
pub(super) const PACKED_ENTRY: usize = 32;

/// Reason why a ring cannot go on from a journal.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another version, or for a ring with fewer descriptors.
    #[error("journal of version {version} for {size} descriptors")]
    Form {
        /// Its version.
        version: u16,
        /// Descriptors of the ring that it is for.
        size: u16,
    },
    /// Positions that no ring of this size has.
    #[error("journal with impossible positions {0:#x}")]
    Positions(u64),
    /// Another device has left chains that it had taken out of order.
    #[error("journal of a device that uses chains out of order")]
    OutOfOrder,
    /// The memory of the journal is not there any more.
    #[error("the journal cannot be read")]
    Lost,
    /// The ring is out of place.
    #[error("unusable ring")]
    Ring(#[from] RingError),
}

impl From<MemoryFault> for JournalError {
    fn from(_: MemoryFault) -> Self {
        Self::Lost
    }
}

/// The journal of one ring. Clones share it.
///
/// Other owners of its memory can make the ring go on elsewhere, or show elements that the device
/// did not write, as owners of the ring's memory can.
#[derive(Clone, Debug)]
pub struct UsedJournal {
    bytes: SharedBytes,
}

impl UsedJournal {
    /// Bytes for a ring of `size` descriptors.
    #[must_use]
    pub fn len(layout: Layout, size: u16) -> usize {
        let (header, entry) = parts(layout);
        header + usize::from(size) * entry
    }

    /// A journal in `bytes`, which begin with zeros before the first use, at an address that is a
    /// multiple of eight. What does not fit is not kept.
    #[must_use]
    pub fn new(bytes: SharedBytes) -> Self {
        Self { bytes }
    }

    /// Ends the journal: whatever goes on with the ring is told where it stands.
    pub fn close(&self) {
        self.store64(HEADER, 0);
    }

    /// Returns whether a device has kept it for a ring of `size` descriptors or more.
    pub(super) fn is_kept(&self, layout: Layout, size: u16) -> Result<bool, JournalError> {
        let word = self.load64(HEADER)?;
        let (version, most) = (word as u16, (word >> 16) as u16);
        if version == 0 {
            return Ok(false);
        }
        let fits = Self::len(layout, most) <= self.bytes.len();
        if version != VERSION || most < size || !fits {
            let size = most;
            return Err(JournalError::Form { version, size });
        }
        let (header, entry) = parts(layout);
        for slot in 0..usize::from(most) {
            let is_in_flight = self.load64(header + slot * entry)?.to_ne_bytes()[0];
            if is_in_flight != 0 {
                return Err(JournalError::OutOfOrder);
            }
        }
        Ok(true)
    }

    /// Stores a word at `at`, which is a multiple of eight.
    #[inline]
    pub(super) fn store64(&self, at: usize, word: u64) {
        self.bytes.store64(at, word);
    }

    /// Loads the word at `at`.
    pub(super) fn load64(&self, at: usize) -> Result<u64, JournalError> {
        let mut bytes = [0; 8];
        match self.bytes.read(at, &mut bytes)? {
            8 => Ok(u64::from_ne_bytes(bytes)),
            _ => Err(JournalError::Lost),
        }
    }
}

/// Bytes of the header and of each entry.
const fn parts(layout: Layout) -> (usize, usize) {
    match layout {
        Layout::Split => (SPLIT_ENTRIES, SPLIT_ENTRY),
        Layout::Packed => (PACKED_ENTRIES, PACKED_ENTRY),
    }
}

/// A word of these fields, the first in its lowest bits.
#[inline]
pub(super) fn word(fields: [u16; 4]) -> u64 {
    let fields = fields.iter().rev();
    fields.fold(0, |word, field| word << 16 | u64::from(*field))
}

/// The fields of a word.
pub(super) fn fields(word: u64) -> [u16; 4] {
    [0, 16, 32, 48].map(|at| (word >> at) as u16)
}
