//! One token bucket: pure arithmetic, exact to the last fraction of a token.

use crate::credit::tokens_at_least;
use crate::deadline::Deadline;
use crate::levels::Level;
use crate::rate::Rate;

/// A bucket of tokens that fills at a rate and may go into debt.
///
/// Tokens are counted in `1 / period_ns` of a token, of which exactly [`Rate::tokens`] arrive each
/// nanosecond, so no number of takes makes it drift. Time is an argument: any monotonic reading in
/// nanoseconds. A reading earlier than the last one brings no tokens and does no harm.
///
/// A cost larger than the bucket is granted once the bucket is full; what is missing becomes debt,
/// and later takes wait until it is paid. So every cost passes, at the configured rate.
///
/// A bucket that holds less than its rate brings in about 100 ns loses what overflows between two
/// whole nanoseconds; buckets made from a [`TokenBucketConfig`](crate::TokenBucketConfig) hold at
/// least a millisecond's worth.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    /// In parts of a token, `period` of them each.
    level: i128,
    /// The capacity in the same parts.
    full: i128,
    /// Parts per nanosecond.
    gain: u64,
    /// Parts per token.
    period: u64,
    one_time_burst: u64,
    /// The latest time seen.
    last_ns: u64,
}

impl TokenBucket {
    /// A full bucket that holds `capacity` tokens (2^63 - 1 at most; more counts as that), fills at
    /// `rate` and can give `one_time_burst` tokens more, once.
    #[must_use]
    pub fn new(capacity: u64, rate: Rate, one_time_burst: u64) -> Self {
        let full = tokens_in_parts(capacity, rate.period_ns()).min(most(rate.period_ns()));
        Self {
            level: full,
            full,
            gain: rate.tokens(),
            period: rate.period_ns(),
            one_time_burst,
            last_ns: 0,
        }
    }

    /// Takes `cost` tokens, or says when they will be there.
    ///
    /// # Errors
    /// The [`Deadline`] at which the same take passes. Nothing has been taken.
    #[inline]
    pub fn take(&mut self, now_ns: u64, cost: u64) -> Result<(), Deadline> {
        match self.deadline(now_ns, cost) {
            Some(deadline) => Err(deadline),
            None => {
                self.charge(cost);
                Ok(())
            }
        }
    }

    /// When `cost` tokens can be taken; `None` is now. A cost of zero never waits.
    #[inline]
    pub fn deadline(&mut self, now_ns: u64, cost: u64) -> Option<Deadline> {
        self.refill(now_ns);
        if cost == 0 {
            return None;
        }
        let need = self.beyond_burst(cost).min(self.full);
        (self.level < need).then(|| self.reaches(need))
    }

    /// Takes `cost` tokens whether they are there or not. Debt grows up to 2^63 - 1 tokens.
    #[inline]
    pub fn force(&mut self, now_ns: u64, cost: u64) {
        self.refill(now_ns);
        self.charge(cost);
    }

    /// Puts back tokens that were taken but not used. What the bucket cannot hold is lost.
    #[inline]
    pub fn refund(&mut self, cost: u64) {
        if self.one_time_burst > 0 {
            // As long as some of it is left, nothing was ever taken from elsewhere.
            self.one_time_burst = self.one_time_burst.saturating_add(cost);
        } else {
            let parts = tokens_in_parts(cost, self.period);
            self.level = self.level.saturating_add(parts).min(self.full);
        }
    }

    /// Changes capacity and rate at once. Tokens and debt stay, as far as the new capacity holds
    /// them; a `one_time_burst` is granted anew, `None` leaves what is left.
    pub fn update(&mut self, now_ns: u64, capacity: u64, rate: Rate, one_time_burst: Option<u64>) {
        let level = self.level(now_ns);
        *self = Self {
            last_ns: self.last_ns,
            ..Self::new(
                capacity,
                rate,
                one_time_burst.unwrap_or(level.one_time_burst),
            )
        };
        self.set_level(&level);
    }

    /// Fill level of the bucket.
    pub fn level(&mut self, now_ns: u64) -> Level {
        self.refill(now_ns);
        Level::from_parts(self.level, self.period, self.one_time_burst)
    }

    /// Takes over a saved level: at most what the bucket holds, and at most the one-time burst that
    /// is left. A debt is taken as it is.
    pub fn restore(&mut self, now_ns: u64, level: &Level) {
        self.refill(now_ns);
        self.one_time_burst = self.one_time_burst.min(level.one_time_burst);
        self.set_level(level);
    }

    fn set_level(&mut self, level: &Level) {
        let parts = level.parts(self.period);
        self.level = parts.clamp(-most(self.period), self.full);
    }

    #[inline]
    fn refill(&mut self, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.last_ns);
        if elapsed == 0 {
            return;
        }
        self.last_ns = now_ns;
        let gained = u128::from(elapsed) * u128::from(self.gain);
        let room = (self.full - self.level) as u128;
        self.level = if gained < room {
            self.level + gained as i128
        } else {
            self.full
        };
    }

    /// Takes `cost` tokens at the time last seen.
    #[inline]
    pub(crate) fn charge(&mut self, cost: u64) {
        let parts = self.beyond_burst(cost);
        self.one_time_burst = self.one_time_burst.saturating_sub(cost);
        let left = self.level.saturating_sub(parts);
        self.level = if left < 0 {
            left.max(-most(self.period))
        } else {
            left
        };
    }

    /// Tokens that can be taken at the time last seen: all of them or a little less.
    #[inline]
    pub(crate) fn funds(&self) -> u64 {
        let level = u128::try_from(self.level).unwrap_or(0);
        tokens_at_least(level, self.period).saturating_add(self.one_time_burst)
    }

    /// Part of `cost` that the one-time burst does not pay, in parts.
    #[inline]
    fn beyond_burst(&self, cost: u64) -> i128 {
        tokens_in_parts(cost.saturating_sub(self.one_time_burst), self.period)
    }

    /// The first nanosecond at which the level is `parts`.
    #[cold]
    fn reaches(&self, parts: i128) -> Deadline {
        let wait = ((parts - self.level) as u128).div_ceil(u128::from(self.gain));
        Deadline::at(
            self.last_ns
                .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)),
        )
    }
}

/// Fits: `period` is below 2^63.
#[inline]
fn tokens_in_parts(tokens: u64, period: u64) -> i128 {
    (u128::from(tokens) * u128::from(period)) as i128
}

/// The most that a level or a debt can be.
#[inline]
fn most(period: u64) -> i128 {
    tokens_in_parts(i64::MAX as u64, period)
}

#[cfg(test)]
mod tests;
