//! What one member holds of one meter. All of it is local: a take that it covers touches nothing
//! that is shared.

use super::meter::{Booking, Line, Meter, Order, Report, Stale};
use crate::bucket::Deadline;

#[derive(Debug, Default)]
pub(super) struct Lane {
    /// `None` where there is no limit.
    line: Option<Line>,
    /// Tokens in hand, in parts of `line`.
    allowance: u128,
    /// Bought, but not open yet.
    pending: Option<Booking>,
    /// This member's part of the meter's `held`, in ns: at least what it has in hand and pending,
    /// and what it used since it last reported.
    reported: u64,
    /// When it last used tokens.
    spent_ns: u64,
}

impl Lane {
    pub(super) fn new(meter: Option<&Meter>) -> Self {
        Self {
            line: meter.map(Meter::line),
            ..Self::default()
        }
    }

    /// Whether the allowance pays `cost`.
    #[inline]
    pub(super) fn covers(&self, cost: u64) -> bool {
        self.line
            .is_none_or(|line| line.parts(cost) <= self.allowance)
    }

    /// Uses `cost`, which must be covered.
    #[inline]
    pub(super) fn spend(&mut self, now: u64, cost: u64) {
        if let Some(line) = self.line {
            self.spent_ns = now;
            self.allowance = self.allowance.saturating_sub(line.parts(cost));
        }
    }

    /// Makes the allowance cover `cost`, or says when it will.
    pub(super) fn reserve(
        &mut self,
        meter: &Meter,
        now: u64,
        cost: u64,
        members: u64,
    ) -> Result<Option<Deadline>, Stale> {
        if let Some(booking) = self.pending {
            if self.covers(cost) {
                return Ok(None);
            }
            if !meter.is_open(now, &booking) {
                return Ok(Some(Deadline::at(meter.opens(&booking))));
            }
            self.pending = None;
            self.allowance += meter.line().parts_in(booking.ns);
        }
        let need = self.missing(meter, cost);
        if need == 0 {
            return Ok(None);
        }
        let quantum = meter.quantum(members);
        // Alone, the deadline is that of the frame in hand.
        let turn = if members > 1 { quantum } else { 0 };
        let order = Order {
            need,
            quantum,
            turn,
        };
        let booking = meter.book(self.report(meter, now), order, &mut self.reported)?;
        let open = meter.opens(&booking) <= now;
        if open {
            self.allowance += meter.line().parts_in(booking.ns);
        } else {
            self.pending = Some(booking);
        }
        self.settle(meter)?;
        Ok((!open).then(|| Deadline::at(meter.opens(&booking))))
    }

    /// Makes the allowance cover `cost` in any case.
    pub(super) fn force(&mut self, meter: &Meter, now: u64, cost: u64) -> Result<(), Stale> {
        let need = self.missing(meter, cost);
        if need > 0 {
            let order = Order {
                need,
                quantum: 0,
                turn: 0,
            };
            let booking = meter.book(self.report(meter, now), order, &mut self.reported)?;
            self.allowance += meter.line().parts_in(booking.ns);
        }
        Ok(())
    }

    /// Puts back tokens that were spent but not used.
    pub(super) fn refund(&mut self, meter: &Meter, cost: u64) -> Result<(), Stale> {
        self.allowance = self.allowance.saturating_add(meter.line().parts(cost));
        // What was spent and not reported since must stay counted until the next sale.
        let holds = self.holds(meter).max(self.reported);
        meter.settle(&mut self.reported, holds)
    }

    /// Gives back everything but the fraction of a nanosecond; whether that was anything.
    pub(super) fn release(&mut self, meter: &Meter, now: u64) -> Result<bool, Stale> {
        let whole = meter.line().whole_ns(self.allowance);
        let back = whole.saturating_add(self.pending.map_or(0, |booking| booking.ns));
        if back == 0 && self.reported <= 1 {
            return Ok(false);
        }
        meter.give_back(self.report(meter, now), back)?;
        self.pending = None;
        self.allowance -= meter.line().parts_in(whole);
        self.settle(meter)?;
        Ok(back > 0)
    }

    /// Goes over to the meter that took the old one's place. The allowance stays; a place in the
    /// queue is given back, to be booked again at the new rate.
    pub(super) fn migrate(&mut self, meter: Option<&Meter>, now: u64) -> Result<(), Stale> {
        let (Some(old), Some(meter)) = (self.line, meter) else {
            *self = Self::new(meter);
            return Ok(());
        };
        let new = meter.line();
        let worth = |ns: u64| new.whole_ns(new.parts_from(old.parts_in(ns), old));
        let report = Report {
            now,
            spent: self.spent_ns,
            used: 0,
        };
        meter.give_back(report, worth(self.pending.map_or(0, |booking| booking.ns)))?;
        self.pending = None;
        self.allowance = new.parts_from(self.allowance, old);
        self.reported = worth(self.reported);
        self.line = Some(new);
        self.settle(meter)
    }

    /// The time still to be bought for `cost`, after the one-time burst gave what it can.
    fn missing(&mut self, meter: &Meter, cost: u64) -> u64 {
        let line = meter.line();
        let parts = line.parts(cost);
        if let Some(missing) = parts.checked_sub(self.allowance) {
            self.allowance += line.parts(meter.take_one_time(line.tokens(missing)));
        }
        line.ns(parts.saturating_sub(self.allowance))
    }

    fn settle(&mut self, meter: &Meter) -> Result<(), Stale> {
        let holds = self.holds(meter);
        meter.settle(&mut self.reported, holds)
    }

    fn report(&self, meter: &Meter, now: u64) -> Report {
        let used = self.reported.saturating_sub(self.holds(meter));
        Report {
            now,
            spent: self.spent_ns,
            used,
        }
    }

    fn holds(&self, meter: &Meter) -> u64 {
        let pending = self.pending.map_or(0, |booking| booking.ns);
        meter.line().ns(self.allowance).saturating_add(pending)
    }
}
