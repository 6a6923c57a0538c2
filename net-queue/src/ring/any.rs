//! A ring whose layout was chosen at negotiation.

use crate::drop_cause::QueueFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::iovec::IoVec;
use crate::ring::{
    BufferRules, Chain, Cursor, Layout, PackedRing, PoppedChain, Ring, RingConfig, RingError,
    RingTask, SplitRing, UsedJournal,
};

/// A virtqueue of either layout: one branch a call, or a batch, in exchange for one type of engine.
#[derive(Debug)]
pub enum AnyRing {
    /// See [`SplitRing`].
    Split(SplitRing),
    /// See [`PackedRing`].
    Packed(PackedRing),
}

impl AnyRing {
    /// Makes the ring that `config.layout` names.
    ///
    /// # Errors
    /// As for the ring of that layout.
    pub fn new(ram: &GuestRam, config: &RingConfig) -> Result<Self, RingError> {
        match config.layout {
            Layout::Split => SplitRing::new(ram, config).map(Self::Split),
            Layout::Packed => PackedRing::new(ram, config).map(Self::Packed),
        }
    }

    /// Keeps the ring's position in `journal` from now on.
    #[must_use]
    pub fn with_journal(self, journal: UsedJournal) -> Self {
        match self {
            Self::Split(ring) => Self::Split(ring.with_journal(journal)),
            Self::Packed(ring) => Self::Packed(ring.with_journal(journal)),
        }
    }
}

/// Calls the method of whichever ring it is.
macro_rules! each {
    ($any:expr, $ring:ident => $call:expr) => {
        match $any {
            AnyRing::Split($ring) => $call,
            AnyRing::Packed($ring) => $call,
        }
    };
}

impl Ring for AnyRing {
    #[inline]
    fn pop(&mut self, segments: &mut Vec<IoVec>, rules: BufferRules) -> Option<PoppedChain> {
        each!(self, ring => ring.pop(segments, rules))
    }

    fn fault(&self) -> Option<QueueFault> {
        each!(self, ring => ring.fault())
    }

    #[inline]
    fn has_next(&mut self) -> bool {
        each!(self, ring => ring.has_next())
    }

    #[inline]
    fn undo_pop(&mut self, chain: Chain) {
        each!(self, ring => ring.undo_pop(chain));
    }

    #[inline]
    fn push_part(&mut self, chain: Chain, written: u32, last: bool) {
        each!(self, ring => ring.push_part(chain, written, last));
    }

    #[inline]
    fn publish(&mut self) -> bool {
        each!(self, ring => ring.publish())
    }

    fn defer_interrupts(&mut self, on: bool) {
        each!(self, ring => ring.defer_interrupts(on));
    }

    fn is_undecided(&self) -> bool {
        each!(self, ring => ring.is_undecided())
    }

    fn decide_interrupt(&mut self) -> bool {
        each!(self, ring => ring.decide_interrupt())
    }

    fn enable_notification(&mut self) -> bool {
        each!(self, ring => ring.enable_notification())
    }

    fn disable_notification(&mut self) {
        each!(self, ring => ring.disable_notification());
    }

    fn cursor(&self) -> Cursor {
        each!(self, ring => ring.cursor())
    }

    fn memory(&self) -> &GuestRam {
        each!(self, ring => ring.memory())
    }

    #[inline]
    fn with<T: RingTask>(&mut self, task: T) -> T::Output {
        each!(self, ring => task.run(ring))
    }
}
