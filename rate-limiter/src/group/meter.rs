//! One shared bucket without a lock: a point on a line of time that members move on.
//!
//! A bucket with rate `r` and burst `B` is full when nobody has taken anything for `B / r`. So it is
//! enough to know how much *time* has been sold. `position` is the point up to which the line is
//! sold; tokens for `x` ns are the stretch `[position, position + x)`:
//!
//! ```text
//!            now              now + burst
//!   ----------|--------------------|---------------------> ns
//!        sold |xxxxxxxxxxxx|       |
//!             |         position   |
//!             |             '-room-'  what can be had at once
//! ```
//!
//! A stretch opens when `now + burst` reaches its end (for one longer than the burst: when `now`
//! reaches its start, the bucket being full). A member whose stretch is not open yet keeps it and
//! comes back at exactly that time: it has its place in a queue that exists only as arithmetic. No
//! other member can overtake it, so the wait is fair and its end is known.
//!
//! `held` is the part of the line that was sold and is not known to be used. A full bucket stops
//! filling; as tokens in the members' hands are still part of the budget, it is full when
//! `position = now + held`, and not only at `position = now`. Every sale and return first raises
//! `position` to that: as of the member's last use with this use still counted in `held`, and as of
//! now without it. Only then the use is reported. So whatever of the tokens held at a time `t` is
//! used later, `position` is at least `t + held(t)` before anything more is sold, and in any window
//! at most `rate * window + burst` is used.

use crate::config::{KINDS, Limit};
use crate::levels::Level;
use crate::rate::{Quantity, Rate};
use crate::sync::{AtomicU64, SeqCst};

/// `position` of a meter that was replaced: go and look for the new one.
const CLOSED: u64 = u64::MAX;
/// Set in `held` of a meter that was replaced.
const HELD_CLOSED: u64 = 1 << 63;
/// Longest single stretch, 146 years.
const LONGEST_NS: u64 = 1 << 62;

/// The most that a member takes in advance: few enough to be fair, enough to make the shared write
/// rare. One largest frame, or one batch of frames.
const QUANTUM_BYTES: u64 = 1 << 16;
const QUANTUM_OPERATIONS: u64 = 64;

/// The meters of a group under one configuration.
pub(super) type Epoch = [Option<Meter>; KINDS];

/// The meter was replaced by an update.
#[derive(Debug)]
pub(super) struct Stale;

/// A stretch of the line that a member bought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Booking {
    start: u64,
    pub(super) ns: u64,
}

/// What a member tells with every change of the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) now: u64,
    /// When it last used tokens.
    pub(super) spent: u64,
    /// How much of what is counted as held it has used, in ns.
    pub(super) used: u64,
}

impl Report {
    /// Where the line is sold up to, at least.
    fn raise(&self, position: u64, held: u64) -> u64 {
        let unused = held.saturating_sub(self.used);
        let at_spent = self.spent.saturating_add(held);
        position.max(at_spent).max(self.now.saturating_add(unused))
    }
}

/// How much to book.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// What the frame in hand needs.
    pub(super) need: u64,
    /// What to take in advance where it is there.
    pub(super) quantum: u64,
    /// What to take where others wait, so that each turn is worth the same.
    pub(super) turn: u64,
}

#[derive(Debug)]
pub(super) struct Meter {
    limit: Limit,
    burst_ns: u64,
    quantum_ns: u64,
    position: AtomicU64,
    held: AtomicU64,
    one_time_burst: AtomicU64,
}

impl Meter {
    /// A full bucket.
    pub(super) fn new(limit: &Limit) -> Self {
        let quantum = match limit.rate.quantity() {
            Quantity::Bytes => QUANTUM_BYTES,
            Quantity::Operations => QUANTUM_OPERATIONS,
        };
        let line = Line::of(limit.rate);
        Self {
            limit: *limit,
            burst_ns: line.ns(line.parts(limit.size)),
            quantum_ns: line.ns(line.parts(quantum)),
            position: AtomicU64::new(0),
            held: AtomicU64::new(0),
            one_time_burst: AtomicU64::new(limit.one_time_burst.unwrap_or(0)),
        }
    }

    /// What takes the place of `self`, which is closed: level and debt stay, as far as the new
    /// burst holds them, or are set to `level`.
    pub(super) fn replace(&self, now: u64, limit: &Limit, level: Option<&Level>) -> Self {
        let (position, held) = self.close();
        let left = self.one_time_burst.load(SeqCst);
        let present = self.level_at(now, position, held, left);
        let mut new = Self::new(limit);
        let one_time_burst = match level {
            Some(level) => left.min(level.one_time_burst),
            None => limit.one_time_burst.unwrap_or(left),
        };
        new.one_time_burst = AtomicU64::new(one_time_burst);
        new.held = AtomicU64::new(new.line().ns_from(held, self.line()));
        new.position = AtomicU64::new(new.position_of(now, level.unwrap_or(&present)));
        new
    }

    /// Refuses everything from now on; what `position` and `held` were.
    pub(super) fn close(&self) -> (u64, u64) {
        let position = self.position.swap(CLOSED, SeqCst);
        (position, self.held.fetch_or(HELD_CLOSED, SeqCst))
    }

    /// The limit, without a one-time burst to be granted again.
    pub(super) const fn limit(&self) -> Limit {
        Limit {
            one_time_burst: None,
            ..self.limit
        }
    }

    pub(super) fn level(&self, now: u64) -> Level {
        let (position, held) = (self.position.load(SeqCst), self.held.load(SeqCst));
        self.level_at(now, position, held, self.one_time_burst.load(SeqCst))
    }

    /// The level, with what members hold counted as used.
    fn level_at(&self, now: u64, position: u64, held: u64, one_time_burst: u64) -> Level {
        let ahead = position.saturating_sub(now).max(held);
        let ns = i128::from(self.burst_ns) - i128::from(ahead);
        let parts = ns * i128::from(self.limit.rate.tokens());
        Level::from_parts(parts, self.limit.rate.period_ns(), one_time_burst)
    }

    fn position_of(&self, now: u64, level: &Level) -> u64 {
        let gain = i128::from(self.limit.rate.tokens());
        let ns = level.parts(self.limit.rate.period_ns()).div_euclid(gain);
        let ahead = (i128::from(self.burst_ns) - ns).clamp(0, i128::from(LONGEST_NS));
        now.saturating_add(ahead as u64).min(CLOSED - 1)
    }

    pub(super) const fn line(&self) -> Line {
        Line::of(self.limit.rate)
    }

    /// What one of `members` takes in advance: all together no more than half the burst.
    pub(super) fn quantum(&self, members: u64) -> u64 {
        (self.burst_ns / 2 / members.max(1)).min(self.quantum_ns)
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

    /// Sells a stretch. `reported` is the buyer's part of `held`, which grows by what it may get.
    pub(super) fn book(
        &self,
        report: Report,
        order: Order,
        reported: &mut u64,
    ) -> Result<Booking, Stale> {
        let need = order.need.min(LONGEST_NS);
        let most = need.max(order.quantum).max(order.turn).min(LONGEST_NS);
        self.hold(most)?;
        *reported = reported.saturating_add(most);
        loop {
            let position = self.open_position()?;
            let held = self.held.load(SeqCst).saturating_sub(most);
            let start = report.raise(position, held);
            let ns = match report.now.saturating_add(self.burst_ns).checked_sub(start) {
                Some(room) if room >= need => need.max(order.quantum.min(room)),
                Some(_) => need,
                None => need.max(order.turn),
            };
            let end = start.saturating_add(ns).min(CLOSED - 1);
            if self
                .position
                .compare_exchange(position, end, SeqCst, SeqCst)
                .is_ok()
            {
                return Ok(Booking { start, ns });
            }
        }
    }

    /// When `booking` opens.
    pub(super) fn opens(&self, booking: &Booking) -> u64 {
        let early = booking.ns.min(self.burst_ns);
        booking
            .start
            .saturating_add(early)
            .saturating_sub(self.burst_ns)
    }

    /// Whether `booking` may be used: it is open, or returns of others have made the bucket hold all
    /// that is sold.
    pub(super) fn is_open(&self, now: u64, booking: &Booking) -> bool {
        self.opens(booking) <= now || self.holds_all(now)
    }

    /// Whether all that is sold could be used at once.
    pub(super) fn holds_all(&self, now: u64) -> bool {
        self.position.load(SeqCst) <= now.saturating_add(self.burst_ns)
    }

    /// Takes `ns` back from a member that does not need them.
    pub(super) fn give_back(&self, report: Report, ns: u64) -> Result<(), Stale> {
        loop {
            let position = self.open_position()?;
            let start = report.raise(position, self.held.load(SeqCst));
            let end = start.saturating_sub(ns).min(CLOSED - 1);
            if self
                .position
                .compare_exchange(position, end, SeqCst, SeqCst)
                .is_ok()
            {
                return Ok(());
            }
        }
    }

    /// Makes a member's part of `held` what it `holds` now.
    pub(super) fn settle(&self, reported: &mut u64, holds: u64) -> Result<(), Stale> {
        if holds > *reported {
            self.hold(holds - *reported)?;
        } else if holds < *reported {
            let less = *reported - holds;
            self.change_held(|held| held.saturating_sub(less))?;
        }
        *reported = holds;
        Ok(())
    }

    fn hold(&self, ns: u64) -> Result<(), Stale> {
        self.change_held(|held| held.saturating_add(ns).min(HELD_CLOSED - 1))
    }

    fn change_held(&self, change: impl Fn(u64) -> u64) -> Result<(), Stale> {
        let open = |held: u64| (held < HELD_CLOSED).then(|| change(held));
        self.held
            .fetch_update(SeqCst, SeqCst, open)
            .map(drop)
            .map_err(|_| Stale)
    }

    fn open_position(&self) -> Result<u64, Stale> {
        let position = self.position.load(SeqCst);
        if position == CLOSED {
            Err(Stale)
        } else {
            Ok(position)
        }
    }
}

/// The exchange of tokens and time at one rate. Tokens are counted in `1 / period` of a token, of
/// which `gain` are worth exactly one nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    gain: u64,
    period: u64,
}

impl Line {
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

    /// What `ns` brings, in parts.
    pub(super) fn parts_in(self, ns: u64) -> u128 {
        u128::from(ns) * u128::from(self.gain)
    }

    /// How long `parts` take, rounded up.
    pub(super) fn ns(self, parts: u128) -> u64 {
        match u64::try_from(parts) {
            Ok(parts) => parts.div_ceil(self.gain),
            Err(_) => u64::try_from(parts.div_ceil(u128::from(self.gain))).unwrap_or(u64::MAX),
        }
    }

    /// How many whole nanoseconds `parts` are worth.
    pub(super) fn whole_ns(self, parts: u128) -> u64 {
        u64::try_from(parts / u128::from(self.gain)).unwrap_or(u64::MAX)
    }

    /// `tokens` that cover `parts`, rounded up.
    pub(super) fn tokens(self, parts: u128) -> u64 {
        u64::try_from(parts.div_ceil(u128::from(self.period))).unwrap_or(u64::MAX)
    }

    /// The same tokens on this line, rounded down.
    pub(super) fn parts_from(self, parts: u128, old: Self) -> u128 {
        let (from, to) = (u128::from(old.period), u128::from(self.period));
        // The rest is below 2^63, as is `to`.
        (parts / from)
            .saturating_mul(to)
            .saturating_add(parts % from * to / from)
    }

    /// The time that the same tokens are worth on this line, at least.
    fn ns_from(self, ns: u64, old: Self) -> u64 {
        if self == old {
            return ns;
        }
        let parts = self.parts_from(old.parts_in(ns), old).saturating_add(1);
        self.ns(parts).min(HELD_CLOSED - 1)
    }
}
