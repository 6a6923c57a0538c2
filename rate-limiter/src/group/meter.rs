//! One shared bucket without a lock: a line of time on which members buy stretches.
//!
//! A bucket with rate `r` and burst `B` fills in `B / r`. So tokens can be counted in nanoseconds,
//! and then the rate is the clock itself. `sold` is the point up to which the line is sold; tokens
//! for `x` ns are the stretch `[sold, sold + x)`:
//!
//! ```text
//!         clock         clock + burst
//!   --------|-----------------|---------------> ns
//!     xxxxxxxxxxxxxxxxx|      |
//!               used  sold    |
//!                      '-room-'  what can be had at once
//! ```
//!
//! A stretch opens when `clock + burst` reaches its end (for one longer than the burst: when `clock`
//! reaches its start, the bucket being full). A member whose stretch is not open yet keeps it and
//! comes back at that time: it has its place in a queue that exists only as arithmetic. Nobody can
//! overtake it, so the wait is fair and its end is known.
//!
//! A full bucket stops filling. What members hold but have not used is still part of the budget, so
//! the bucket is full when `clock = used`, and then the clock of the line stands: `lost` counts for
//! how long it stood, and `clock = now - lost`. Use is reported late, which can only make the line
//! stand longer; and each report first lets it stand as of the time of the use. Hence at any time
//! `clock <= used`, all that is used lies below `clock + burst`, and in a window of `w` the clock
//! moves by at most `w`: at most `w + burst` is used in it.
//!
//! Members hold little but what they are about to use: an advance that is a small part of the burst,
//! and a stretch while they wait for another meter. A frame that needs almost the whole burst does
//! not wait for the advances, and nobody waits for a turn that was not taken up for a whole burst;
//! so the bound is exceeded by what is held like that, where it is used after all.

use crate::config::{KINDS, Limit};
use crate::credit;
use crate::levels::Level;
use crate::rate::{Quantity, Rate};
use crate::sync::{AtomicU64, SeqCst};

/// `sold` and `used` of a meter that was replaced: go and look for the new one.
const CLOSED: u64 = u64::MAX;
/// Longest single stretch, 73 years.
const LONGEST_NS: u64 = 1 << 61;
/// Where a line starts: far enough from zero for a thread whose reading of the time is behind.
const ORIGIN: u64 = LONGEST_NS;

/// The most that a member takes at a time: few enough not to make others wait long, enough to make
/// the shared write rare. One largest frame, or one batch of frames.
const TURN_BYTES: u64 = 1 << 16;
const TURN_OPERATIONS: u64 = 64;

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
    /// When it opens if the line does not stand in between.
    pub(super) due: u64,
    /// What was used when `due` was reckoned.
    used: u64,
}

/// How much to book, in ns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// What the frame in hand needs.
    need: u64,
    /// What to take where there is more than enough, so that the next takes need not come here.
    advance: u64,
    /// What to take where others wait, so that each turn is worth the same.
    turn: u64,
}

impl Order {
    /// Not a nanosecond more than needed.
    pub(super) const fn just(need: u64) -> Self {
        Self {
            need,
            advance: 0,
            turn: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Meter {
    limit: Limit,
    burst_ns: u64,
    turn_ns: u64,
    sold: AtomicU64,
    used: AtomicU64,
    lost: AtomicU64,
    one_time_burst: AtomicU64,
}

impl Meter {
    /// A full bucket.
    pub(super) fn new(limit: &Limit) -> Self {
        let turn = match limit.rate.quantity() {
            Quantity::Bytes => TURN_BYTES,
            Quantity::Operations => TURN_OPERATIONS,
        };
        let line = Line::of(limit.rate);
        Self {
            limit: *limit,
            burst_ns: line.ns(line.parts(limit.size)),
            turn_ns: line.ns(line.parts(turn)),
            sold: AtomicU64::new(ORIGIN),
            used: AtomicU64::new(ORIGIN),
            lost: AtomicU64::new(0),
            one_time_burst: AtomicU64::new(limit.one_time_burst.unwrap_or(0)),
        }
    }

    /// What takes the place of `self`, which is closed: level and debt stay, as far as the new
    /// burst holds them, or are set to `level`.
    pub(super) fn replace(&self, now: u64, limit: &Limit, level: Option<&Level>) -> Self {
        let clock = self.clock(now);
        let (sold, used) = self.close();
        let left = self.one_time_burst.load(SeqCst);
        let present = self.level_at(sold.saturating_sub(clock), left);
        let mut new = Self::new(limit);
        let one_time_burst = match level {
            Some(level) => left.min(level.one_time_burst),
            None => limit.one_time_burst.unwrap_or(left),
        };
        // The new line starts now, with what was sold ahead and what of it is still held.
        let held = new.line().ns_from(sold.saturating_sub(used), self.line());
        let sold = new.ahead(level.unwrap_or(&present)).max(held);
        new.one_time_burst = AtomicU64::new(one_time_burst);
        new.sold = AtomicU64::new(ORIGIN + sold);
        new.used = AtomicU64::new(ORIGIN + sold - held);
        new.lost = AtomicU64::new(now);
        new
    }

    /// Refuses everything from now on; what `sold` and `used` were.
    pub(super) fn close(&self) -> (u64, u64) {
        (
            self.sold.swap(CLOSED, SeqCst),
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

    /// How full the bucket is, with what members hold counted as used.
    pub(super) fn level(&self, now: u64) -> Level {
        let ahead = self.sold.load(SeqCst).saturating_sub(self.clock(now));
        self.level_at(ahead, self.one_time_burst.load(SeqCst))
    }

    fn level_at(&self, ahead: u64, one_time_burst: u64) -> Level {
        let ns = i128::from(self.burst_ns) - i128::from(ahead);
        let parts = ns * i128::from(self.limit.rate.tokens());
        Level::from_parts(parts, self.limit.rate.period_ns(), one_time_burst)
    }

    /// How far the line is sold ahead of its clock at this level.
    fn ahead(&self, level: &Level) -> u64 {
        let gain = i128::from(self.limit.rate.tokens());
        let ns = level.parts(self.limit.rate.period_ns()).div_euclid(gain);
        (i128::from(self.burst_ns) - ns).clamp(0, i128::from(LONGEST_NS)) as u64
    }

    pub(super) const fn line(&self) -> Line {
        Line::of(self.limit.rate)
    }

    /// What one of `members` that needs `need` had better take.
    pub(super) fn order(&self, need: u64, members: u64) -> Order {
        let turn = (self.burst_ns / 2 / members.max(1)).min(self.turn_ns);
        // Alone, the deadline is that of the frame in hand.
        let turn = if members > 1 { turn } else { 0 };
        Order {
            need,
            advance: self.advance(members),
            turn,
        }
    }

    /// What one of `members` may hold without having to use it.
    pub(super) fn advance(&self, members: u64) -> u64 {
        (self.advances() / members.max(1)).min(self.turn_ns)
    }

    /// What all members may.
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

    /// Takes `back` ns back and sells a stretch at the end of what is sold.
    pub(super) fn book(&self, now: u64, back: u64, order: Order) -> Result<Booking, Stale> {
        let need = order.need.min(LONGEST_NS);
        let clock = self.clock(now);
        let (mut start, mut ns) = (0, 0);
        change(&self.sold, |sold| {
            start = sold.saturating_sub(back);
            ns = match clock.saturating_add(self.burst_ns).checked_sub(start) {
                Some(room) if room >= need => need.max(order.advance.min(room)),
                Some(_) => need,
                // What goes back belongs to the last turn: it is not lost.
                None => need.max(order.turn.saturating_add(back)),
            };
            start.saturating_add(ns)
        })?;
        let used = self.used.load(SeqCst);
        let ahead = self.opens(start, ns).saturating_sub(clock);
        Ok(Booking {
            start,
            ns,
            due: ahead.saturating_add(now),
            used,
        })
    }

    /// When a stretch opens, on the clock of the line.
    fn opens(&self, start: u64, ns: u64) -> u64 {
        let early = ns.min(self.burst_ns);
        start.saturating_add(early).saturating_sub(self.burst_ns)
    }

    /// Whether a member whose stretch was not open at first may use it: when it is open by now, or
    /// when returns of others have made the bucket hold all that is sold. If not, when to try again.
    ///
    /// While the line stands, a stretch of almost the whole burst does not wait for what each of
    /// `members` may have in advance or as a fraction of a nanosecond. None waits for ever for a turn
    /// that nobody takes up.
    pub(super) fn enter(
        &self,
        now: u64,
        booking: &mut Booking,
        members: u64,
    ) -> Result<Option<u64>, Stale> {
        let clock = self.clock(now);
        let ahead = self.opens(booking.start, booking.ns).saturating_sub(clock);
        let reach = clock.saturating_add(booking.ns.max(self.burst_ns));
        if ahead == 0 || self.sold.load(SeqCst) <= reach {
            return Ok(None);
        }
        let used = self.used.load(SeqCst);
        if used == CLOSED {
            return Err(Stale);
        }
        let stands = used <= clock;
        let little = self.advances().saturating_add(members);
        if stands && ahead <= little && booking.ns.saturating_add(little) > self.burst_ns {
            return Ok(None);
        }
        let open = ahead.saturating_add(now);
        if now < booking.due {
            return Ok(Some(open));
        }
        if !stands || used != booking.used {
            (booking.due, booking.used) = (open, used);
            return Ok(Some(open));
        }
        // The line may go on at any moment: look now and then, a few times in all.
        let again = open.max(now.saturating_add(self.advances()));
        let last = booking.due.saturating_add(self.burst_ns);
        Ok((now < last).then(|| again.min(last)))
    }

    /// Whether all that is sold could be used at once.
    pub(super) fn holds_all(&self, now: u64) -> bool {
        self.sold.load(SeqCst) <= self.clock(now).saturating_add(self.burst_ns)
    }

    /// Takes `ns` back from a member that does not need them.
    pub(super) fn give_back(&self, ns: u64) -> Result<(), Stale> {
        change(&self.sold, |sold| sold.saturating_sub(ns))
    }

    /// Takes back a stretch that was not used. If others have bought behind it, it stays sold and
    /// lapses, as they were told when theirs open; whether it came back.
    pub(super) fn cancel(&self, now: u64, booking: &Booking) -> Result<bool, Stale> {
        let end = booking.start.saturating_add(booking.ns);
        let mut last = false;
        change(&self.sold, |sold| {
            last = sold <= end;
            if last {
                sold.saturating_sub(booking.ns)
            } else {
                sold
            }
        })?;
        if !last {
            self.report(now, booking.ns)?;
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

    /// The clock of the line, which stands while the bucket is full.
    fn clock(&self, now: u64) -> u64 {
        on_clock(now, self.lost(now))
    }

    /// For how long the line stood up to now.
    fn lost(&self, now: u64) -> u64 {
        let lost = on_clock(now, 0).saturating_sub(self.used.load(SeqCst));
        if lost > self.lost.load(SeqCst) {
            self.lost.fetch_max(lost, SeqCst);
        }
        self.lost.load(SeqCst)
    }
}

fn on_clock(now: u64, lost: u64) -> u64 {
    ORIGIN.saturating_add(now).saturating_sub(lost)
}

/// Changes a point of the line unless the meter was replaced.
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

    /// Tokens that `parts` cover, rounded down and perhaps further: there is no division.
    #[inline]
    pub(super) fn tokens_at_least(self, parts: u128) -> u64 {
        credit::tokens_at_least(parts, self.period)
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
        self.ns(parts).min(LONGEST_NS)
    }
}
