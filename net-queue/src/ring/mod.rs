//! Virtqueues of both layouts behind one trait, over host pointers that were checked once.
//!
//! A ring hands out chains in the order the driver made them available and takes them back used. It never
//! blocks, allocates or logs; what a driver can do wrong ends in a [`DropCause`] for one chain or in a
//! [`QueueFault`] for the ring.

mod any;
mod batch;
mod cursor;
pub(crate) mod layout;
mod packed;
#[cfg(test)]
mod race;
mod split;
mod sync;
pub(crate) mod walk;

pub use any::AnyRing;
pub use cursor::{Cursor, Layout, RingAddrs, RingConfig, RingError};
pub use packed::PackedRing;
pub use split::SplitRing;
pub use walk::PieceSink;

use crate::fault::{DropCause, QueueFault};

/// A chain of buffers that the device holds.
///
/// It must go back through [`Ring::push_used`] or [`Ring::undo_pop`]; one that is merely dropped is lost to the
/// driver for good, hence the warning.
#[must_use = "a chain goes back by push_used or undo_pop"]
#[derive(Debug)]
pub struct Chain {
    /// Head index (split) or buffer id (packed): what the driver knows the chain by.
    pub(crate) id: u16,
    /// Descriptors of the ring that it takes; those of an indirect table do not count.
    pub(crate) slots: u16,
    /// Bytes of its writable buffers; beyond any count when it cannot be used.
    pub(crate) room: u64,
}

/// What a ring hands out: the chain, and whether its content can be used.
pub type Popped = (Chain, Result<(), DropCause>);

/// A virtqueue as the engines see it. VirtIO 1.4 §2.6.
pub trait Ring: Send {
    /// Takes the next available chain and puts its pieces into `sink`.
    ///
    /// A chain whose content cannot be used comes with the cause and must be given back all the same.
    ///
    /// # Errors
    /// The ring itself is broken: nothing more can be taken from it until a reset.
    fn pop<S: PieceSink>(&mut self, sink: &mut S) -> Result<Option<Popped>, QueueFault>;

    /// Gives back the chain that was taken last, as if it had never been taken.
    fn undo_pop(&mut self, chain: Chain);

    /// Marks `chain` used with `written` bytes; the driver sees it at the next [`Ring::publish`].
    fn push_used(&mut self, chain: Chain, written: u32);

    /// Shows the driver all that was pushed since the last call, and returns whether it asks for an interrupt.
    fn publish(&mut self) -> bool;

    /// Asks for a kick at the next available chain; returns whether there is one already (VQ-NTF-06).
    fn arm(&mut self) -> bool;

    /// Tells the driver that kicks are not needed for now. Only a hint: kicks may still come.
    fn disarm(&mut self);

    /// Where the ring stands, as of the last publish.
    fn cursor(&self) -> Cursor;
}
