//! One shared bucket without a lock: the generic cell rate algorithm (GCRA, virtual scheduling) in
//! nanoseconds, which members reserve.
//!
//! A bucket with rate `r` and burst `B` fills in `B / r`. So tokens can be counted in nanoseconds,
//! and then the rate is the clock itself. `tat`, the theoretical arrival time, is the point up to
//! which the timeline is reserved; tokens for `x` ns are the interval `[tat, tat + x)`:
//!
//! ```text
//!         clock         clock + burst
//!   --------|-----------------|---------------> ns
//!     xxxxxxxxxxxxxxxxx|      |
//!               used  tat     |
//!                      '-room-'  what can be had at once
//! ```
//!
//! A reservation conforms when `clock + burst` reaches its end (one longer than the burst: when
//! `clock` reaches its start, the bucket being full). A member whose reservation does not conform
//! yet keeps it and comes back at that time: it has its place in a queue that exists only as
//! arithmetic. Nobody can overtake it, so the wait is fair and its end is known.
//!
//! A full bucket stops filling. What members hold but have not used is still part of the budget, so
//! the bucket is full when `clock = used`, and then the clock stands: `idle_ns` counts for how long
//! it stood, and `clock = now - idle_ns`. Use is reported late, which can only make the clock stand
//! longer; and each report first lets it stand as of the time of the use. Hence at any time
//! `clock <= used`, all that is used lies below `clock + burst`, and in a window of `w` the clock
//! moves by at most `w`: at most `w + burst` is used in it.
//!
//! Members hold little but what they are about to use: an advance that is a small part of the
//! burst, and a reservation while they wait for another meter. A frame that needs almost the whole
//! burst does not wait for the advances, and nobody waits longer than a whole burst for a quantum
//! that its member does not use; so the bound is exceeded by what is held like that, where it is
//! used after all.

use crate::config::{KINDS, Limit};
use crate::credit;
use crate::levels::Level;
use crate::rate::{Quantity, Rate};
use crate::sync::{AtomicU64, SeqCst};

#[cfg(test)]
mod tests;

/// `tat` and `used` of a meter that was replaced: go and look for the new one.
const CLOSED: u64 = u64::MAX;
/// Longest single reservation, 73 years.
const LONGEST_NS: u64 = 1 << 61;
/// Start of a timeline: far enough from zero for a thread whose reading of the time is behind.
const ORIGIN: u64 = LONGEST_NS;

/// The most that a member takes at a time: few enough not to make others wait long, enough to make
/// the shared write rare. One largest frame, or one batch of frames.
const QUANTUM_BYTES: u64 = 1 << 16;
const QUANTUM_OPERATIONS: u64 = 64;

/// The meters of a group under one configuration.
pub(super) type MeterSet = [Option<Meter>; KINDS];

/// The meter was replaced by an update.
#[derive(Debug)]
pub(super) struct Stale;

/// An interval of the timeline that a member has reserved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reservation {
    start: u64,
    pub(super) ns: u64,
    /// Time at which it conforms unless the clock stands in between.
    pub(super) due: u64,
    /// Value of the meter's `used` when `due` was computed.
    used: u64,
}

impl Reservation {
    /// Takes up to `ns` from its front: how many, and what is left.
    pub(super) fn split(self, ns: u64) -> (u64, Option<Self>) {
        let taken = ns.min(self.ns);
        let rest = Self {
            start: self.start.saturating_add(taken),
            ns: self.ns - taken,
            ..self
        };
        (taken, (rest.ns > 0).then_some(rest))
    }
}

/// Amounts to reserve, in ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// For the frame in hand.
    need: u64,
    /// To take where there is more than enough, so that the next takes need not come here.
    advance: u64,
    /// To take where others wait: the same for each member in a round.
    quantum: u64,
}

impl Demand {
    /// Not a nanosecond more than needed.
    pub(super) const fn just(need: u64) -> Self {
        Self {
            need,
            advance: 0,
            quantum: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Meter {
    limit: Limit,
    burst_ns: u64,
    quantum_ns: u64,
    tat: AtomicU64,
    used: AtomicU64,
    idle_ns: AtomicU64,
    one_time_burst: AtomicU64,
}

impl Meter {
    /// A full bucket.
    pub(super) fn new(limit: &Limit) -> Self {
        let quantum = match limit.rate.quantity() {
            Quantity::Bytes => QUANTUM_BYTES,
            Quantity::Operations => QUANTUM_OPERATIONS,
        };
        let timeline = Timeline::of(limit.rate);
        Self {
            limit: *limit,
            burst_ns: timeline.ns(timeline.parts(limit.size)),
            quantum_ns: timeline.ns(timeline.parts(quantum)),
            tat: AtomicU64::new(ORIGIN),
            used: AtomicU64::new(ORIGIN),
            idle_ns: AtomicU64::new(0),
            one_time_burst: AtomicU64::new(limit.one_time_burst.unwrap_or(0)),
        }
    }

    /// Successor of `self`, which is closed: level and debt stay, as far as the new
    /// burst holds them, or are set to `level`.
    pub(super) fn replace(&self, now: u64, limit: &Limit, level: Option<&Level>) -> Self {
        let clock = self.clock(now);
        let (tat, used) = self.close();
        let left = self.one_time_burst.load(SeqCst);
        let present = self.level_at(tat.saturating_sub(clock), left);
        let mut new = Self::new(limit);
        let one_time_burst = match level {
            Some(level) => left.min(level.one_time_burst),
            None => limit.one_time_burst.unwrap_or(left),
        };
        // The new timeline starts now, with what was reserved ahead and what of it is still held.
        let held = new
            .timeline()
            .ns_from(tat.saturating_sub(used), self.timeline());
        let tat = new.ahead(level.unwrap_or(&present)).max(held);
        new.one_time_burst = AtomicU64::new(one_time_burst);
        new.tat = AtomicU64::new(ORIGIN + tat);
        new.used = AtomicU64::new(ORIGIN + tat - held);
        new.idle_ns = AtomicU64::new(now);
        new
    }

    /// Refuses everything from now on; returns the last `tat` and `used`.
    pub(super) fn close(&self) -> (u64, u64) {
        (
            self.tat.swap(CLOSED, SeqCst),
            self.used.swap(CLOSED, SeqCst),
        )
    }

    /// The limit, without a one-time burst to be granted again.
    pub(super) const fn limit(&self) -> Limit {
        Limit {
            one_time_burst: None,
            ..self.limit
        }
    }

    /// Level of the bucket, with what members hold counted as used.
    pub(super) fn level(&self, now: u64) -> Level {
        let ahead = self.tat.load(SeqCst).saturating_sub(self.clock(now));
        self.level_at(ahead, self.one_time_burst.load(SeqCst))
    }

    fn level_at(&self, ahead: u64, one_time_burst: u64) -> Level {
        let ns = i128::from(self.burst_ns) - i128::from(ahead);
        let parts = ns * i128::from(self.limit.rate.tokens());
        Level::from_parts(parts, self.limit.rate.period_ns(), one_time_burst)
    }

    /// Distance of `tat` from the clock at this level.
    fn ahead(&self, level: &Level) -> u64 {
        let gain = i128::from(self.limit.rate.tokens());
        let ns = level.parts(self.limit.rate.period_ns()).div_euclid(gain);
        (i128::from(self.burst_ns) - ns).clamp(0, i128::from(LONGEST_NS)) as u64
    }

    pub(super) const fn timeline(&self) -> Timeline {
        Timeline::of(self.limit.rate)
    }

    /// Amounts for one of `members` that needs `need`.
    pub(super) fn demand(&self, need: u64, members: u64) -> Demand {
        let quantum = (self.burst_ns / 2 / members.max(1)).min(self.quantum_ns);
        // Alone, the deadline is that of the frame in hand.
        let quantum = if members > 1 { quantum } else { 0 };
        Demand {
            need,
            advance: self.advance(members),
            quantum,
        }
    }

    /// Amount that one of `members` may hold without having to use it.
    pub(super) fn advance(&self, members: u64) -> u64 {
        (self.advances() / members.max(1)).min(self.quantum_ns)
    }

    /// Amount that all members may hold without having to use it.
    fn advances(&self) -> u64 {
        self.burst_ns / 8
    }

    /// Up to `tokens` of the one-time burst.
    pub(super) fn take_one_time(&self, tokens: u64) -> u64 {
        if self.one_time_burst.load(SeqCst) == 0 {
            return 0;
        }
        let take = |left: u64| Some(left.saturating_sub(tokens));
        self.one_time_burst
            .fetch_update(SeqCst, SeqCst, take)
            .unwrap_or(0)
            .min(tokens)
    }

    /// Takes `back` ns back and reserves an interval from `tat` on.
    pub(super) fn reserve(
        &self,
        now: u64,
        back: u64,
        demand: Demand,
    ) -> Result<Reservation, Stale> {
        let need = demand.need.min(LONGEST_NS);
        let clock = self.clock(now);
        let (mut start, mut ns) = (0, 0);
        change(&self.tat, |tat| {
            start = tat.saturating_sub(back);
            ns = match clock.saturating_add(self.burst_ns).checked_sub(start) {
                Some(room) => need.max(demand.advance.min(room)),
                // What goes back belongs to the last quantum: it stays the member's.
                None => need.max(demand.quantum.saturating_add(back)),
            };
            start.saturating_add(ns)
        })?;
        let used = self.used.load(SeqCst);
        let ahead = self.conforms_at(start, ns).saturating_sub(clock);
        Ok(Reservation {
            start,
            ns,
            due: ahead.saturating_add(now),
            used,
        })
    }

    /// Time at which a reservation conforms, on the meter's clock.
    fn conforms_at(&self, start: u64, ns: u64) -> u64 {
        let early = ns.min(self.burst_ns);
        start.saturating_add(early).saturating_sub(self.burst_ns)
    }

    /// Returns whether a member may use a reservation that did not conform at first: when it does
    /// by now, or when returns of others have made the bucket hold all that is reserved. If not,
    /// when to try again.
    ///
    /// While the clock stands, a reservation of almost the whole burst does not wait for what each
    /// of `members` may have in advance or as a fraction of a nanosecond. None waits for ever for a
    /// quantum that its member does not use.
    pub(super) fn enter(
        &self,
        now: u64,
        reservation: &mut Reservation,
        members: u64,
    ) -> Result<Option<u64>, Stale> {
        let clock = self.clock(now);
        let ahead = self
            .conforms_at(reservation.start, reservation.ns)
            .saturating_sub(clock);
        let reach = clock.saturating_add(reservation.ns.max(self.burst_ns));
        if ahead == 0 || self.tat.load(SeqCst) <= reach {
            return Ok(None);
        }
        let used = self.used.load(SeqCst);
        if used == CLOSED {
            return Err(Stale);
        }
        let stands = used <= clock;
        let little = self.advances().saturating_add(members);
        if stands && ahead <= little && reservation.ns.saturating_add(little) > self.burst_ns {
            return Ok(None);
        }
        let open = ahead.saturating_add(now);
        if now < reservation.due {
            return Ok(Some(open));
        }
        if !stands || used != reservation.used {
            (reservation.due, reservation.used) = (open, used);
            return Ok(Some(open));
        }
        // The clock may go on at any moment: look now and then, a few times in all.
        let again = open.max(now.saturating_add(self.advances()));
        let last = reservation.due.saturating_add(self.burst_ns);
        Ok((now < last).then(|| again.min(last)))
    }

    /// Returns whether all that is reserved could be used at once.
    pub(super) fn holds_all(&self, now: u64) -> bool {
        self.tat.load(SeqCst) <= self.clock(now).saturating_add(self.burst_ns)
    }

    /// Takes `ns` back from a member that does not need them.
    pub(super) fn give_back(&self, ns: u64) -> Result<(), Stale> {
        change(&self.tat, |tat| tat.saturating_sub(ns))
    }

    /// Takes back a reservation that was not used. If others have reserved behind it, it stays and
    /// lapses, as they were told when theirs conform; returns whether it came back.
    pub(super) fn cancel(&self, now: u64, reservation: &Reservation) -> Result<bool, Stale> {
        let end = reservation.start.saturating_add(reservation.ns);
        let mut last = false;
        change(&self.tat, |tat| {
            last = tat <= end;
            if last {
                tat.saturating_sub(reservation.ns)
            } else {
                tat
            }
        })?;
        if !last {
            self.report(now, reservation.ns)?;
        }
        Ok(last)
    }

    /// Counts `ns` as used at the time `spent`.
    pub(super) fn report(&self, spent: u64, ns: u64) -> Result<(), Stale> {
        self.clock(spent);
        change(&self.used, |used| used.saturating_add(ns))
    }

    /// Counts `ns` as not used after all.
    pub(super) fn withdraw(&self, ns: u64) -> Result<(), Stale> {
        change(&self.used, |used| used.saturating_sub(ns))
    }

    /// The meter's clock, which stands while the bucket is full.
    fn clock(&self, now: u64) -> u64 {
        on_clock(now, self.stood_ns(now))
    }

    /// Nanoseconds for which the clock stood up to now.
    fn stood_ns(&self, now: u64) -> u64 {
        let idle_ns = on_clock(now, 0).saturating_sub(self.used.load(SeqCst));
        if idle_ns > self.idle_ns.load(SeqCst) {
            self.idle_ns.fetch_max(idle_ns, SeqCst);
        }
        self.idle_ns.load(SeqCst)
    }
}

fn on_clock(now: u64, idle_ns: u64) -> u64 {
    ORIGIN.saturating_add(now).saturating_sub(idle_ns)
}

/// Changes a point of the timeline unless the meter was replaced.
fn change(point: &AtomicU64, mut to: impl FnMut(u64) -> u64) -> Result<(), Stale> {
    let open = |at: u64| (at != CLOSED).then(|| to(at).min(CLOSED - 1));
    point
        .fetch_update(SeqCst, SeqCst, open)
        .map(drop)
        .map_err(|_| Stale)
}

/// The exchange of tokens and time at one rate. Tokens are counted in `1 / period` of a token, of
/// which `gain` are worth exactly one nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeline {
    gain: u64,
    period: u64,
}

impl Timeline {
    const fn of(rate: Rate) -> Self {
        Self {
            gain: rate.tokens(),
            period: rate.period_ns(),
        }
    }

    /// `tokens` in parts.
    #[inline]
    pub(super) fn parts(self, tokens: u64) -> u128 {
        u128::from(tokens) * u128::from(self.period)
    }

    /// Tokens that `parts` cover, rounded down and perhaps further: there is no division.
    #[inline]
    pub(super) fn tokens_at_least(self, parts: u128) -> u64 {
        credit::tokens_at_least(parts, self.period)
    }

    /// Tokens that arrive in `ns`, in parts.
    pub(super) fn parts_in(self, ns: u64) -> u128 {
        u128::from(ns) * u128::from(self.gain)
    }

    /// Nanoseconds in which `parts` arrive, rounded up.
    pub(super) fn ns(self, parts: u128) -> u64 {
        match u64::try_from(parts) {
            Ok(parts) => parts.div_ceil(self.gain),
            Err(_) => u64::try_from(parts.div_ceil(u128::from(self.gain))).unwrap_or(u64::MAX),
        }
    }

    /// Whole nanoseconds that `parts` are worth.
    pub(super) fn whole_ns(self, parts: u128) -> u64 {
        u64::try_from(parts / u128::from(self.gain)).unwrap_or(u64::MAX)
    }

    /// `tokens` that cover `parts`, rounded up.
    pub(super) fn tokens(self, parts: u128) -> u64 {
        u64::try_from(parts.div_ceil(u128::from(self.period))).unwrap_or(u64::MAX)
    }

    /// The same tokens on this timeline, rounded down.
    pub(super) fn parts_from(self, parts: u128, old: Self) -> u128 {
        let (from, to) = (u128::from(old.period), u128::from(self.period));
        // The rest is below 2^63, as is `to`.
        (parts / from)
            .saturating_mul(to)
            .saturating_add(parts % from * to / from)
    }

    /// Nanoseconds that the same tokens are worth on this timeline, at least.
    fn ns_from(self, ns: u64, old: Self) -> u64 {
        if self == old {
            return ns;
        }
        let parts = self.parts_from(old.parts_in(ns), old).saturating_add(1);
        self.ns(parts).min(LONGEST_NS)
    }
}
