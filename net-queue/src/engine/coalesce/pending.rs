//! Chains whose frames are in groups, and those behind them.

use std::collections::VecDeque;

use crate::engine::limit::Limit;
use crate::ring::{Chain, Ring};

/// Most chains that are kept before all groups are sent.
pub(super) const CAPACITY: usize = 256;

/// Mark of a frame that has left.
pub(super) const SENT: u64 = 0;

#[derive(Debug)]
struct Entry {
    chain: Chain,
    /// Bytes of its frame.
    bytes: u32,
    /// Ticket of the group that holds its frame, or [`SENT`].
    ticket: u64,
}

/// Chains in the order in which they were taken, from the first whose frame has not left.
///
/// They go back to the driver in this order, whichever group leaves first: a ring with `IN_ORDER`
/// needs it, and so does a cursor that is to say by one number where another device goes on.
#[derive(Debug)]
pub(super) struct Pending {
    entries: VecDeque<Entry>,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::with_capacity(CAPACITY),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether there is no room for another one.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == CAPACITY
    }

    /// Keeps a chain whose frame of `bytes` is in the group with this ticket, or has left.
    #[inline]
    pub(super) fn push(&mut self, chain: Chain, bytes: u64, ticket: u64) {
        debug_assert!(
            !self.is_full(),
            "groups are sent before more chains are kept"
        );
        let bytes = bytes as u32;
        self.entries.push_back(Entry {
            chain,
            bytes,
            ticket,
        });
    }

    /// Marks the chains used up to the first whose frame is in a group that `is_open`.
    #[inline]
    pub(super) fn release<R: Ring>(&mut self, ring: &mut R, is_open: impl Fn(u64) -> bool) {
        while let Some(entry) = self.entries.pop_front() {
            if entry.ticket != SENT && is_open(entry.ticket) {
                self.entries.push_front(entry);
                break;
            }
            ring.push_used(entry.chain, 0);
        }
    }

    /// Gives all chains back to the ring as if they had never been taken, and to the limiter what
    /// it charged for those whose group `is_open`.
    pub(super) fn undo<R: Ring, L: Limit + ?Sized>(
        &mut self,
        ring: &mut R,
        limit: &mut L,
        is_open: impl Fn(u64) -> bool,
    ) {
        while let Some(entry) = self.entries.pop_back() {
            if entry.ticket != SENT && is_open(entry.ticket) {
                limit.refund(entry.bytes.into());
            }
            ring.undo_pop(entry.chain);
        }
    }
}
