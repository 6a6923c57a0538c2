//! Virtqueues of both layouts behind one trait, over host pointers that were checked once.
//!
//! A ring hands out chains in the order the driver made them available and takes them back used. It
//! never blocks, allocates or logs; what a driver can do wrong ends in a [`DropCause`] for one
//! chain or in a [`QueueFault`] for the ring.

mod ahead;
mod any;
mod buffers;
mod event_index;
mod journal;
mod packed;
mod position;
#[cfg(test)]
mod race;
pub(crate) mod ring_memory;
mod split;
mod state;
mod sync;
mod used_batch;
mod walk;

pub use any::AnyRing;
pub use buffers::{BufferRules, Buffers, Direction};
pub use journal::{JournalError, UsedJournal};
pub use packed::PackedRing;
pub use split::SplitRing;
pub use state::{Cursor, Layout, RingAddrs, RingConfig, RingError, UsedElements};

use crate::drop_cause::{DropCause, QueueFault};
use crate::memory::guest_ram::GuestRam;
use crate::memory::iovec::IoVec;

/// A chain of buffers that the device holds.
///
/// It must go back through [`Ring::push_used`] or [`Ring::undo_pop`]; one that is merely dropped is
/// lost to the driver for good, hence the warning.
#[must_use = "a chain goes back by push_used or undo_pop"]
#[derive(Debug)]
pub struct Chain {
    /// From the lowest bit on: `id`, `descriptors`, `writable_len`. One word, so that it moves in a
    /// register: fields stored one by one would be waited for when they are moved as a whole.
    word: u64,
}

impl Chain {
    /// Stands for no chain, where one has been taken away.
    pub(crate) const NONE: Self = Self { word: 0 };

    #[inline]
    pub(crate) fn new(id: u16, descriptors: u16, writable_len: u64) -> Self {
        let writable_len = writable_len.min(u64::from(u32::MAX));
        let word = u64::from(id) | u64::from(descriptors) << 16 | writable_len << 32;
        Self { word }
    }

    /// Head index (split) or buffer id (packed), by which the driver knows the chain.
    #[inline]
    pub(crate) fn id(&self) -> u16 {
        self.word as u16
    }

    /// Number of descriptors of the ring that it takes; those of an indirect table do not count.
    #[inline]
    pub(crate) fn descriptors(&self) -> u16 {
        (self.word >> 16) as u16
    }

    /// Bytes of its writable buffers, at most `u32::MAX`; that many too when it cannot be used.
    #[inline]
    pub(crate) fn writable_len(&self) -> u32 {
        (self.word >> 32) as u32
    }
}

/// A chain as a ring hands it out. It must go back, whether its content can be used or not.
#[non_exhaustive]
#[derive(Debug)]
pub struct PoppedChain {
    /// The chain.
    pub chain: Chain,
    /// Its buffers, or the cause for which they cannot be used.
    pub content: Result<Buffers, DropCause>,
}

/// A virtqueue as the engines see it. VirtIO 1.4 §2.6.
pub trait Ring: Send {
    /// Takes the next available chain and adds its buffers to `segments`, resolved and checked by
    /// `rules`; `None` when there is none, or the ring is broken.
    ///
    /// A chain whose content cannot be used comes with the cause, adds no segment, and must be
    /// given back all the same.
    fn pop(&mut self, segments: &mut Vec<IoVec>, rules: BufferRules) -> Option<PoppedChain>;

    /// Cause for which the ring is broken, if it is: nothing more can be taken from it until a
    /// reset.
    fn fault(&self) -> Option<QueueFault>;

    /// Returns whether another chain is there to be taken; a broken ring has none.
    fn has_next(&mut self) -> bool;

    /// Gives back the chain that was taken last, as if it had never been taken.
    fn undo_pop(&mut self, chain: Chain);

    /// Marks `chain` used with `written` bytes; the driver sees it at the next [`Ring::publish`].
    #[inline(always)]
    fn push_used(&mut self, chain: Chain, written: u32) {
        self.push_part(chain, written, true);
    }

    /// As [`Ring::push_used`], of one of several chains that hold a frame; `last` ends it. No
    /// publish may come before that, and a device that goes on from a journal shows the driver the
    /// frame as a whole or not at all.
    fn push_part(&mut self, chain: Chain, written: u32, last: bool);

    /// Shows the driver all that was pushed since the last call, and returns whether it asks for an
    /// interrupt.
    fn publish(&mut self) -> bool;

    /// Lets [`Ring::publish`] leave the question open whether the driver asks for an interrupt, or
    /// answer it again. What is open when this is switched off has to be decided first.
    fn defer_interrupts(&mut self, on: bool);

    /// Returns whether something was published about which [`Ring::decide_interrupt`] has to
    /// decide.
    fn is_undecided(&self) -> bool;

    /// Returns whether the driver asks, as of now, for an interrupt for anything that was published
    /// since this was decided last. One that wants none any more gets none (NET-CVQ-26).
    fn decide_interrupt(&mut self) -> bool;

    /// Asks the driver for a notification at the next available chain; returns whether there is one
    /// already (VQ-NTF-06). A broken ring asks for none.
    fn enable_notification(&mut self) -> bool;

    /// Tells the driver that notifications are not needed for now. Only a hint: they may still
    /// come.
    fn disable_notification(&mut self);

    /// Position of the ring, as of the last publish.
    fn cursor(&self) -> Cursor;

    /// Memory in which the ring and the buffers of its chains lie.
    fn memory(&self) -> &GuestRam;

    /// Lets `task` work on the ring of one layout: one that stands for several steps aside, so that
    /// the work of a batch is compiled for each.
    fn with<T: RingTask>(&mut self, task: T) -> T::Output
    where
        Self: Sized,
    {
        task.run(self)
    }
}

/// Work on a ring.
pub trait RingTask {
    /// Its result.
    type Output;

    /// Does it on `ring`.
    fn run<R: Ring>(self, ring: &mut R) -> Self::Output;
}
