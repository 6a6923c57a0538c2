//! Bytes and operations together: a frame passes all buckets or none.

use crate::bucket::TokenBucket;
use crate::config::{ConfigError, KINDS, Limit, RateLimiterConfig, costs};
use crate::credit::Credit;
use crate::deadline::Deadline;
use crate::levels::Levels;

/// A limiter that one queue owns: bytes, operations and the cap on bursts, all or nothing.
///
/// The default limits nothing.
#[derive(Debug, Clone, Default)]
pub struct RateLimiter {
    /// Tokens that the buckets hold at `credit_ns`. Nothing overflows a bucket while no time
    /// passes, so it does not matter that they are charged later.
    credit: Credit,
    credit_ns: u64,
    buckets: [Option<TokenBucket>; KINDS],
}

impl RateLimiter {
    /// A limiter with full buckets.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid.
    pub fn new(config: &RateLimiterConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            buckets: config.limits()?.map(|limit| limit.as_ref().map(fresh)),
            ..Self::default()
        })
    }

    /// Returns whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.buckets.iter().all(Option::is_none)
    }

    /// Takes `bytes` and `ops` from every bucket, or nothing from any.
    ///
    /// # Errors
    /// The [`Deadline`] at which the same take passes.
    #[inline]
    pub fn take(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Result<(), Deadline> {
        // The frames of a batch come at one time: only the first of them brings tokens.
        if now_ns == self.credit_ns && self.credit.take(bytes, ops) {
            return Ok(());
        }
        self.take_from_buckets(now_ns, bytes, ops)
    }

    #[inline(never)]
    fn take_from_buckets(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Result<(), Deadline> {
        if let Some(deadline) = self.deadline(now_ns, bytes, ops) {
            return Err(deadline);
        }
        // All buckets are refilled up to `now_ns` and hold enough.
        let costs = costs(bytes, ops);
        self.credit = Credit::of(std::array::from_fn(|kind| {
            let bucket = self.buckets[kind].as_mut()?;
            bucket.charge(costs[kind]);
            Some(bucket.funds())
        }));
        self.credit_ns = now_ns;
        Ok(())
    }

    /// When `bytes` and `ops` can be taken; `None` is now.
    #[inline]
    pub fn deadline(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Option<Deadline> {
        let deadlines = self
            .limited(bytes, ops)
            .map(|(bucket, cost)| bucket.deadline(now_ns, cost));
        deadlines.fold(None, Option::max)
    }

    /// Takes `bytes` and `ops` at once; what is missing becomes debt that later takes wait for.
    #[inline]
    pub fn force(&mut self, now_ns: u64, bytes: u64, ops: u64) {
        for (bucket, cost) in self.limited(bytes, ops) {
            bucket.force(now_ns, cost);
        }
    }

    /// Gives back what was taken but not used.
    #[inline]
    pub fn refund(&mut self, bytes: u64, ops: u64) {
        for (bucket, cost) in self.limited(bytes, ops) {
            bucket.refund(cost);
        }
    }

    /// Changes the limits at once; tokens and debts stay (see [`TokenBucket::update`]). A deadline
    /// that was given before no longer counts: ask again.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid; the limits stay as they were.
    pub fn update(&mut self, now_ns: u64, config: &RateLimiterConfig) -> Result<(), ConfigError> {
        let limits = config.limits()?;
        self.charge_credit();
        for (bucket, limit) in self.buckets.iter_mut().zip(limits) {
            match (bucket.as_mut(), limit) {
                (
                    Some(bucket),
                    Some(Limit {
                        size,
                        rate,
                        one_time_burst,
                    }),
                ) => {
                    bucket.update(now_ns, size, rate, one_time_burst);
                }
                (_, limit) => *bucket = limit.as_ref().map(fresh),
            }
        }
        Ok(())
    }

    /// Fill level of the buckets, to be saved.
    pub fn levels(&mut self, now_ns: u64) -> Levels {
        self.charge_credit();
        let level = |bucket: &mut Option<TokenBucket>| bucket.as_mut().map(|b| b.level(now_ns));
        Levels::from_array(self.buckets.each_mut().map(level))
    }

    /// Takes over saved levels; a bucket without one stays as it is, a level without a bucket is
    /// ignored.
    pub fn restore(&mut self, now_ns: u64, levels: &Levels) {
        self.charge_credit();
        for (bucket, level) in self.buckets.iter_mut().zip(levels.to_array()) {
            if let (Some(bucket), Some(level)) = (bucket, level) {
                bucket.restore(now_ns, &level);
            }
        }
    }

    /// The buckets that there are, each with its cost.
    #[inline]
    fn limited(&mut self, bytes: u64, ops: u64) -> impl Iterator<Item = (&mut TokenBucket, u64)> {
        self.charge_credit();
        let pairs = self.buckets.iter_mut().zip(costs(bytes, ops));
        pairs.filter_map(|(bucket, cost)| Some((bucket.as_mut()?, cost)))
    }

    /// Charges the buckets for what was taken on credit, at the time that all of them saw last.
    #[inline]
    fn charge_credit(&mut self) {
        let Some(costs) = self.credit.close() else {
            return;
        };
        for (bucket, cost) in self.buckets.iter_mut().zip(costs) {
            if let Some(bucket) = bucket {
                bucket.charge(cost);
            }
        }
    }
}

fn fresh(limit: &Limit) -> TokenBucket {
    TokenBucket::new(limit.size, limit.rate, limit.one_time_burst.unwrap_or(0))
}
