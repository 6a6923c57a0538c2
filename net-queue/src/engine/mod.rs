//! The engines: what is there moves, until there is a reason to stop.

mod coalesce;
pub mod ctrl;
mod frame_filter;
mod limit;
mod rx;
mod segmentation;
mod steering;
mod tx;

pub use frame_filter::FrameFilter;
pub use limit::{Limit, Unlimited};
pub use rx::{RxConfig, RxEngine};
pub use steering::{Destination, FrameSteering};
pub use tx::{TxConfig, TxEngine};

use std::io;

use crate::drop_cause::QueueFault;
use crate::ring::{Cursor, Ring};

/// Reason for which an engine stopped, and with it the event that it waits for.
///
/// Exhaustive on purpose: a worker that does not know an event would wait for ever.
#[derive(Debug)]
pub enum Stop {
    /// The driver has made nothing available, or too little for the frame at hand: enable
    /// notifications and wait for one.
    Driver,
    /// The backend has no frame, or no space for one: wait until it is readable, or writable.
    Backend,
    /// The budget is spent: call again.
    Budget,
    /// The limiter holds the next frame or command until this time (ns).
    Limited(u64),
    /// The driver broke the ring; nothing more happens here until a reset.
    Fault(QueueFault),
    /// The backend is gone.
    Dead(io::Error),
}

impl Stop {
    /// Reason for which `ring` had no chain.
    #[cold]
    fn no_chain<R: Ring>(ring: &R) -> Self {
        ring.fault().map_or(Self::Driver, Self::Fault)
    }
}

/// An engine as its worker sees it while it waits, whatever its direction.
pub trait Engine {
    /// Asks the driver for a notification at the next available chain; true when there is work
    /// already and the engine must run first. A broken queue asks for none (VQ-NTF-06).
    fn enable_notification(&mut self) -> bool;

    /// Tells the driver that it need not notify for now.
    fn disable_notification(&mut self);

    /// Lets runs leave the question open whether the driver asks for an interrupt
    /// (`Outcome::interrupt` is false then), or answer it again: for notification coalescing.
    fn defer_interrupts(&mut self, on: bool);

    /// Returns whether the driver was shown something about which it is not decided yet.
    fn is_undecided(&self) -> bool;

    /// Decides: returns whether the driver asks, as of now, for an interrupt for anything that it
    /// was shown since the last decision (NET-CVQ-26).
    fn decide_interrupt(&mut self) -> bool;

    /// Position of the ring.
    fn cursor(&self) -> Cursor;

    /// Fault that stopped this queue, if any.
    fn fault(&self) -> Option<QueueFault>;

    /// Counts a notification of the driver: the engine does not see it come.
    fn count_kick(&self);
}

/// Bound of the work of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Chains looked at.
    pub frames: u32,
    /// Bytes moved.
    pub bytes: u64,
}

impl Budget {
    /// Takes one frame of `bytes` off; false when nothing is left for another.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: u64) -> bool {
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.frames > 0 && self.bytes > 0
    }
}

/// Result of one call: why it stopped, and whether the driver asks for an interrupt.
#[non_exhaustive]
#[derive(Debug)]
pub struct Outcome {
    /// Reason to stop.
    pub stop: Stop,
    /// Frames that passed, or commands that were answered.
    pub frames: u64,
    /// The driver wants to be told of what was used.
    pub interrupt: bool,
}
