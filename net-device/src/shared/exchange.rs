//! Frames on their way from the worker that receives them to the one whose queue they are for.
//!
//! Each worker has a ring to each other one, and one to itself for frames that its own queue cannot
//! take yet. So no worker waits for another: not for a lock, not for a queue without buffers, not
//! for a worker that the host has put aside. Who has passed frames on notes that at the other's
//! inbox, and rings its doorbell unless somebody has since the other looked last:
//!
//! ```text
//!   sender:    push frames  |  set its bit, was any set? no: ring
//!   receiver:  take and clear all bits  |  pop from these rings until they are empty  |  sleep
//! ```
//!
//! Both change the bits by one atomic operation. A bit that is set after the receiver has cleared
//! them rings; one that was set before is seen with all that its ring had then.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::config::MAX_QUEUE_PAIRS;
use crate::shared::frame_ring::FrameRing;

/// Words of a set of pairs.
const WORDS: usize = MAX_QUEUE_PAIRS as usize / 64;

/// Words of all rings of a device together, if it has few pairs: 64 MiB.
const ALL_WORDS: usize = 8 << 20;
/// Most words of one ring, 1 MiB: fifteen of the longest frames, or about 700 of the usual length.
const MOST_WORDS: usize = 128 << 10;
/// Fewest words of one ring, 128 KiB: room for the longest frame.
const LEAST_WORDS: usize = 16 << 10;

/// A set of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairSet([u64; WORDS]);

impl PairSet {
    pub(crate) fn insert(&mut self, pair: u16) {
        if let Some(word) = self.0.get_mut(usize::from(pair / 64)) {
            *word |= 1 << (pair % 64);
        }
    }

    pub(crate) fn remove(&mut self, pair: u16) {
        if let Some(word) = self.0.get_mut(usize::from(pair / 64)) {
            *word &= !(1 << (pair % 64));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The next pair of the set behind `pair`, or from the beginning; `pair` itself comes last.
    pub(crate) fn next_behind(&self, pair: u16) -> Option<u16> {
        let (word, upto) = (usize::from(pair / 64), pair % 64);
        let behind = !0_u64 << upto << 1;
        let first = |at: usize, mask: u64| {
            let bits = self.0.get(at)? & mask;
            (bits != 0).then(|| (at as u32 * 64 + bits.trailing_zeros()) as u16)
        };
        let wrapped = (1..WORDS).map(|step| (word + step) % WORDS);
        first(word, behind)
            .or_else(|| wrapped.into_iter().find_map(|at| first(at, !0)))
            .or_else(|| first(word, !behind))
    }
}

/// The way to a worker.
#[derive(Debug, Default)]
struct Inbox {
    /// Pairs whose rings have had frames since it looked last.
    pending: [AtomicU64; WORDS],
    doorbell: OnceLock<EventFd>,
}

/// Rings and inboxes of the workers of one device.
#[derive(Debug)]
pub(crate) struct Exchange {
    pairs: u16,
    /// By receiver and sender; made when the sender first needs it.
    rings: Box<[OnceLock<Box<FrameRing>>]>,
    inboxes: Box<[Inbox]>,
}

impl Exchange {
    pub(crate) fn new(pairs: u16) -> Self {
        let count = usize::from(pairs);
        Self {
            pairs,
            rings: (0..count * count).map(|_| OnceLock::new()).collect(),
            inboxes: (0..count).map(|_| Inbox::default()).collect(),
        }
    }

    fn slot(&self, from: u16, to: u16) -> Option<&OnceLock<Box<FrameRing>>> {
        let at = usize::from(to) * usize::from(self.pairs) + usize::from(from);
        self.rings.get(at).filter(|_| from < self.pairs)
    }

    /// Gives the worker of `pair` its doorbell.
    pub(crate) fn set_doorbell(&self, pair: u16, doorbell: EventFd) {
        if let Some(inbox) = self.inboxes.get(usize::from(pair)) {
            // A pair gets its worker once in an activation.
            let _ = inbox.doorbell.set(doorbell);
        }
    }

    /// Doorbell of the worker of `pair`.
    pub(crate) fn doorbell(&self, pair: u16) -> Option<&EventFd> {
        self.inboxes.get(usize::from(pair))?.doorbell.get()
    }

    /// Puts `frame` into the ring from one worker to another, by the thread of the first; returns
    /// whether there was room. The other is to be [notified](Self::notify).
    pub(crate) fn push(&self, from: u16, to: u16, frame: &[u8]) -> bool {
        let count = usize::from(self.pairs);
        let words = (ALL_WORDS / (count * count)).clamp(LEAST_WORDS, MOST_WORDS);
        self.slot(from, to).is_some_and(|slot| {
            let ring = slot.get_or_init(|| Box::new(FrameRing::new(words)));
            ring.push(frame)
        })
    }

    /// Takes a frame out of the ring from one worker to another, by the thread of the second.
    pub(crate) fn pop(&self, from: u16, to: u16, room: &mut [u8]) -> Option<usize> {
        self.slot(from, to)?.get()?.pop(room)
    }

    /// Tells the worker of `to` of frames from the one of `from`.
    pub(crate) fn notify(&self, from: u16, to: u16) {
        let Some(inbox) = self.inboxes.get(usize::from(to)) else {
            return;
        };
        let Some(word) = inbox.pending.get(usize::from(from / 64)) else {
            return;
        };
        let before = word.fetch_or(1 << (from % 64), Ordering::AcqRel);
        if before == 0
            && let Some(doorbell) = inbox.doorbell.get()
        {
            // A counter that cannot be raised wakes nobody less.
            let _ = doorbell.write(1);
        }
    }

    /// Returns whether [`Self::collect`] would add any.
    pub(crate) fn is_pending(&self, pair: u16) -> bool {
        let inbox = self.inboxes.get(usize::from(pair));
        let pending = inbox.into_iter().flat_map(|inbox| &inbox.pending);
        pending
            .into_iter()
            .any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Adds to `arrived` the pairs that have passed frames to `pair` since the last call.
    pub(crate) fn collect(&self, pair: u16, arrived: &mut PairSet) {
        let Some(inbox) = self.inboxes.get(usize::from(pair)) else {
            return;
        };
        for (word, arrived) in inbox.pending.iter().zip(&mut arrived.0) {
            if word.load(Ordering::Relaxed) != 0 {
                *arrived |= word.swap(0, Ordering::AcqRel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_a_set_take_turns() {
        let mut set = PairSet::default();
        assert!(set.is_empty());
        assert_eq!(set.next_behind(0), None);
        let members = [0, 5, 63, 64, 200, 255];
        members.iter().for_each(|pair| set.insert(*pair));
        for (at, pair) in members.iter().enumerate() {
            let next = members[(at + 1) % members.len()];
            assert_eq!(set.next_behind(*pair), Some(next));
        }
        assert_eq!(set.next_behind(100), Some(200));
        for pair in members {
            set.remove(pair);
        }
        set.insert(64);
        assert_eq!(set.next_behind(64), Some(64), "it comes last");
    }
}
