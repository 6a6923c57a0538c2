//! A pair's part in steering: frames that it passes on, and those that are passed to it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use net_queue::hash::FrameHash;
use net_queue::{Destination, FrameSteering};

use crate::fd;
use crate::shared::exchange::{Exchange, PairSet};
use crate::shared::rss::SteeringTable;

/// Frames of other workers that are taken in a row before the backend has its turn: to ask one
/// that has none costs a system call.
const IN_A_ROW: u32 = 32;

/// Ways of one pair to the other ones of its device.
#[derive(Debug)]
pub(crate) struct PairSteering {
    exchange: Arc<Exchange>,
    pair: u16,
    /// Pairs whose rings to this one have frames, as far as it has looked.
    arrived: PairSet,
    /// The one of them that had its turn last.
    last: u16,
    in_a_row: u32,
    /// Pairs to which frames were passed, and which were not told yet.
    passed: PairSet,
    /// The backend may have frames, whatever the queue waits for.
    pub(super) backend_ready: bool,
    /// Frames that were passed to this pair are of a time before its queue was stopped.
    pub(super) stale: bool,
}

impl PairSteering {
    /// The ways of `pair`, whose doorbell `exchange` has.
    pub(crate) fn new(exchange: Arc<Exchange>, pair: u16) -> Self {
        Self {
            exchange,
            pair,
            arrived: PairSet::default(),
            last: pair,
            in_a_row: 0,
            passed: PairSet::default(),
            backend_ready: false,
            stale: false,
        }
    }

    /// Descriptor that becomes readable when frames were passed to this pair.
    pub(super) fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.exchange.doorbell(self.pair).map(fd::of)
    }

    /// Returns whether frames were passed to this pair that it has not taken.
    pub(super) fn has_frames(&self) -> bool {
        !self.arrived.is_empty() || self.exchange.is_pending(self.pair)
    }

    /// Ends a turn of the queue, of which the backend has something `left`.
    pub(super) fn finish(&mut self, left: bool) {
        self.backend_ready = left;
        while let Some(pair) = self.passed.next_behind(self.pair) {
            self.passed.remove(pair);
            self.exchange.notify(self.pair, pair);
        }
    }

    /// The steering by `table`, or without one.
    pub(super) fn by<'a>(&'a mut self, table: Option<&'a SteeringTable>) -> Steered<'a> {
        Steered { pair: self, table }
    }

    fn pop(&mut self, from: u16, room: &mut [u8]) -> Option<usize> {
        let len = self.exchange.pop(from, self.pair, room);
        if len.is_none() {
            self.arrived.remove(from);
        }
        len
    }
}

/// Steering by the table that is in force.
pub(super) struct Steered<'a> {
    pair: &'a mut PairSteering,
    table: Option<&'a SteeringTable>,
}

impl FrameSteering for Steered<'_> {
    #[inline]
    fn destination(&self, hash: FrameHash) -> Destination {
        let Some(table) = self.table else {
            return Destination::Here;
        };
        match table.pair_of(hash) {
            Some(pair) if pair == self.pair.pair => Destination::Here,
            Some(pair) => Destination::Queue(pair),
            None => Destination::Nowhere,
        }
    }

    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool {
        let own = self.pair.pair;
        let to = match to {
            Destination::Here => own,
            Destination::Queue(pair) => pair,
            Destination::Nowhere => return false,
        };
        let passed = self.pair.exchange.push(own, to, frame);
        if passed && to == own {
            self.pair.arrived.insert(own);
        } else if passed {
            self.pair.passed.insert(to);
        }
        passed
    }

    fn take(&mut self, room: &mut [u8]) -> Option<usize> {
        let pair = &mut *self.pair;
        if pair.in_a_row >= IN_A_ROW {
            pair.in_a_row = 0;
            // What was kept came before anything that the backend has.
            return pair.pop(pair.pair, room);
        }
        pair.exchange.collect(pair.pair, &mut pair.arrived);
        while let Some(from) = pair.arrived.next_behind(pair.last) {
            if let Some(len) = pair.pop(from, room) {
                pair.last = from;
                pair.in_a_row += 1;
                return Some(len);
            }
        }
        pair.in_a_row = 0;
        None
    }
}
