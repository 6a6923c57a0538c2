//! A ring's position in memory that outlives its device: a device that takes the place of one that
//! was killed goes on exactly there.
//!
//! Chains are used in the order in which they were made available, so the chains that a lost device
//! had in flight are those behind its position, and they are taken from the ring once more. The
//! journal has the position, and whatever it takes to show the driver the used elements up to
//! there. A frame that fills several chains is in the journal as a whole or not at all.
//!
//! ```text
//!   split    push     elements to the used ring, which does not show them; then the used index to the journal
//!            publish  the used index to the ring
//!   packed   push     elements to the journal, then the position; then the elements to the ring, over chains that
//!                     would be lost otherwise
//!            publish  the flags of the first element to the ring, which show all; then to the journal that they do
//! ```
//!
//! A process can be killed between any two of these stores. [`UsedJournal::recover`] does the
//! stores that are left for what is in the journal; of what is not, the driver has seen nothing and
//! no chain was overwritten.
//!
//! The layout is that of version 1 of vhost-user's in-flight regions. No descriptor is ever marked
//! as in flight, so a back-end that resumes from such a region as the protocol says goes on at the
//! used index.

use crate::memory::guest_ram::GuestRam;
use crate::ring::{Cursor, Layout, RingConfig, RingError};

mod packed;
mod region;
mod split;

pub(super) use packed::{PackedJournal, used_flags};
pub use region::{JournalError, UsedJournal};
pub(super) use split::SplitJournal;

impl UsedJournal {
    /// Position of the device that kept this journal in the ring of `config`, after everything in
    /// the journal is shown to the driver; `None` when there was no such device.
    ///
    /// # Errors
    /// The position cannot be told. The ring is as it was.
    pub fn recover(
        &self,
        ram: &GuestRam,
        config: &RingConfig,
    ) -> Result<Option<Cursor>, JournalError> {
        if !(1..=1 << 15).contains(&config.size) {
            return Err(RingError::Size(config.size).into());
        }
        if !self.is_kept(config.layout, config.size)? {
            return Ok(None);
        }
        match config.layout {
            Layout::Split => split::recover(self, ram, config),
            Layout::Packed => packed::recover(self, ram, config),
        }
        .map(Some)
    }
}
