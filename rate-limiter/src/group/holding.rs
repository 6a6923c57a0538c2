//! Tokens that one member holds of one meter. All of it is local: a take that it covers writes
//! nothing that is shared.

use std::cmp::Ordering;

use super::meter::{Demand, Meter, Reservation, Stale, Timeline};
use crate::deadline::Deadline;

#[derive(Debug, Default)]
pub(super) struct Holding {
    /// `None` where there is no limit.
    timeline: Option<Timeline>,
    /// Tokens in hand, in parts of `timeline`.
    allowance: u128,
    /// Reserved, but not conforming yet.
    pending: Option<Reservation>,
    /// Reserved and not yet reported as used, in ns: what is in hand or pending, and what was used
    /// since the last report.
    unreported: u64,
    /// When it last used tokens.
    spent_ns: u64,
}

impl Holding {
    pub(super) fn new(meter: Option<&Meter>) -> Self {
        Self {
            timeline: meter.map(Meter::timeline),
            ..Self::default()
        }
    }

    /// Returns whether the allowance pays `cost`.
    #[inline]
    pub(super) fn covers(&self, cost: u64) -> bool {
        self.timeline
            .is_none_or(|timeline| timeline.parts(cost) <= self.allowance)
    }

    /// Tokens that the allowance pays: all of them or a little less; `None` where there is no
    /// limit.
    #[inline]
    pub(super) fn funds(&self) -> Option<u64> {
        self.timeline
            .map(|timeline| timeline.tokens_at_least(self.allowance))
    }

    /// Uses `cost`, which must be covered.
    #[inline]
    pub(super) fn spend(&mut self, now: u64, cost: u64) {
        if let Some(timeline) = self.timeline {
            self.spent_ns = now;
            self.allowance = self.allowance.saturating_sub(timeline.parts(cost));
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
        if self.covers(cost) {
            return Ok(None);
        }
        if let Some(mut reservation) = self.pending {
            if let Some(at) = meter.enter(now, &mut reservation, members)? {
                self.pending = Some(reservation);
                return Ok(Some(Deadline::at(at)));
            }
            self.pending = None;
            self.allowance += meter.timeline().parts_in(reservation.ns);
        }
        self.take_one_time(meter, cost);
        if self.covers(cost) {
            return Ok(None);
        }
        let reservation =
            self.reserve_all_of(meter, now, cost, |need| meter.demand(need, members))?;
        if reservation.due <= now {
            self.allowance += meter.timeline().parts_in(reservation.ns);
            return Ok(None);
        }
        self.pending = Some(reservation);
        Ok(Some(Deadline::at(reservation.due)))
    }

    /// Makes the allowance cover `cost` in any case.
    pub(super) fn force(&mut self, meter: &Meter, now: u64, cost: u64) -> Result<(), Stale> {
        self.take_one_time(meter, cost);
        self.take_pending(meter, cost);
        if !self.covers(cost) {
            let reservation = self.reserve_all_of(meter, now, cost, Demand::just)?;
            self.allowance += meter.timeline().parts_in(reservation.ns);
        }
        Ok(())
    }

    /// Adds what `cost` lacks from the front of what is pending: another reservation, behind it,
    /// would make it lapse when it is given back.
    fn take_pending(&mut self, meter: &Meter, cost: u64) {
        let timeline = meter.timeline();
        let missing = timeline.ns(timeline.parts(cost).saturating_sub(self.allowance));
        if let Some(pending) = self.pending.take() {
            let (taken, rest) = pending.split(missing);
            self.allowance += timeline.parts_in(taken);
            self.pending = rest;
        }
    }

    /// Makes one reservation for all of `cost`. What is in hand but does not pay it goes back, so
    /// that who waits holds nothing.
    fn reserve_all_of(
        &mut self,
        meter: &Meter,
        now: u64,
        cost: u64,
        demand: impl FnOnce(u64) -> Demand,
    ) -> Result<Reservation, Stale> {
        self.report(meter)?;
        let timeline = meter.timeline();
        let back = timeline.whole_ns(self.allowance);
        let fraction = self.allowance - timeline.parts_in(back);
        let need = timeline.ns(timeline.parts(cost).saturating_sub(fraction));
        let reservation = meter.reserve(now, back, demand(need))?;
        self.allowance = fraction;
        self.unreported = self.holds(meter).saturating_add(reservation.ns);
        Ok(reservation)
    }

    /// Puts back tokens that were spent but not used. What is more than one of `members` may hold
    /// goes back to all; whether that was anything.
    pub(super) fn refund(&mut self, meter: &Meter, cost: u64, members: u64) -> Result<bool, Stale> {
        self.allowance = self.allowance.saturating_add(meter.timeline().parts(cost));
        let advance = meter.advance(members);
        if self.holds(meter) > self.unreported {
            self.report(meter)?;
        }
        self.give_back(meter, advance)
    }

    /// Gives back everything but the fraction of a nanosecond; whether that was anything.
    pub(super) fn release(&mut self, meter: &Meter, now: u64) -> Result<bool, Stale> {
        self.report(meter)?;
        let mut back = false;
        if let Some(reservation) = self.pending {
            back = meter.cancel(now, &reservation)?;
            self.pending = None;
            self.unreported = self.holds(meter);
        }
        Ok(self.give_back(meter, 0)? || back)
    }

    /// Gives back what is in hand beyond `keep` ns.
    fn give_back(&mut self, meter: &Meter, keep: u64) -> Result<bool, Stale> {
        let back = meter
            .timeline()
            .whole_ns(self.allowance)
            .saturating_sub(keep);
        if back == 0 {
            return Ok(false);
        }
        meter.give_back(back)?;
        self.allowance -= meter.timeline().parts_in(back);
        self.unreported = self.unreported.saturating_sub(back);
        Ok(true)
    }

    /// Lets go the fraction of a nanosecond as well, for good.
    pub(super) fn close(&mut self, meter: &Meter) -> Result<(), Stale> {
        self.allowance = 0;
        self.report(meter)
    }

    /// Goes over to the meter that took the old one's place. The allowance stays; a place in the
    /// queue is given back, to be reserved again at the new rate.
    pub(super) fn migrate(&mut self, meter: Option<&Meter>) -> Result<(), Stale> {
        let (Some(old), Some(meter)) = (self.timeline, meter) else {
            *self = Self::new(meter);
            return Ok(());
        };
        let new = meter.timeline();
        let worth = |ns: u64| new.whole_ns(new.parts_from(old.parts_in(ns), old));
        let pending = worth(self.pending.map_or(0, |reservation| reservation.ns));
        meter.give_back(pending)?;
        self.pending = None;
        self.allowance = new.parts_from(self.allowance, old);
        self.unreported = worth(self.unreported).saturating_sub(pending);
        self.timeline = Some(new);
        self.report(meter)
    }

    /// Adds what the one-time burst can give of what `cost` lacks.
    fn take_one_time(&mut self, meter: &Meter, cost: u64) {
        let timeline = meter.timeline();
        let missing = timeline.tokens(timeline.parts(cost).saturating_sub(self.allowance));
        self.allowance += timeline.parts(meter.take_one_time(missing));
    }

    /// Reports as used what is neither in hand nor pending; or the other way round, what came back.
    pub(super) fn report(&mut self, meter: &Meter) -> Result<(), Stale> {
        let holds = self.holds(meter);
        match holds.cmp(&self.unreported) {
            Ordering::Less => meter.report(self.spent_ns, self.unreported - holds)?,
            Ordering::Equal => {}
            Ordering::Greater => meter.withdraw(holds - self.unreported)?,
        }
        self.unreported = holds;
        Ok(())
    }

    fn holds(&self, meter: &Meter) -> u64 {
        let pending = self.pending.map_or(0, |reservation| reservation.ns);
        meter.timeline().ns(self.allowance).saturating_add(pending)
    }
}

#[cfg(test)]
mod tests;
