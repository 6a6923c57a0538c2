//! Parts that the tests of this crate share: an exact judge of who took what when, and greedy
//! sources.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;

use rate_limiter::{
    Deadline, Group, Limiter, Member, Rate, RateLimiter, RateLimiterConfig, TokenBucketConfig,
};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// `size` in `refill_time` ms.
pub(crate) fn bucket(size: u64, refill_time: u64) -> TokenBucketConfig {
    TokenBucketConfig {
        size,
        one_time_burst: None,
        refill_time,
    }
}

pub(crate) fn bandwidth(size: u64, refill_time: u64) -> RateLimiterConfig {
    RateLimiterConfig {
        bandwidth: Some(bucket(size, refill_time)),
        ..Default::default()
    }
}

pub(crate) fn member(group: &Group) -> Member {
    group.member(Arc::new(|| {}))
}

/// The same limit behind each of its faces.
pub(crate) fn every_kind(config: &RateLimiterConfig) -> [(&'static str, Limiter); 3] {
    let group = Group::new(config).unwrap();
    let wide = Group::new(&RateLimiterConfig::default()).unwrap();
    [
        ("own", RateLimiter::new(config).unwrap().into()),
        ("shared", member(&group).into()),
        (
            "inside a group",
            member(&wide.within(config).unwrap()).into(),
        ),
    ]
}

/// Panics as soon as more was taken in any window than `rate * window + burst`: that is so exactly
/// when a bucket of that rate and depth, full at first, would have gone below zero.
pub(crate) struct Judge {
    tokens: i128,
    period: i128,
    depth: i128,
    level: i128,
    last: u64,
}

impl Judge {
    pub(crate) fn new(rate: Rate, burst: u64) -> Self {
        let period = i128::from(rate.period_ns());
        let depth = i128::from(burst) * period;
        Self {
            tokens: rate.tokens().into(),
            period,
            depth,
            level: depth,
            last: 0,
        }
    }

    /// For `size` in `refill_time` ms, with costs of up to `largest`.
    pub(crate) fn of(bucket: &TokenBucketConfig, largest: u64) -> Self {
        let quantity = rate_limiter::Quantity::Bytes;
        let rate = Rate::new(bucket.size, bucket.refill_time * MS, quantity).unwrap();
        Self::new(
            rate,
            bucket.size.max(largest) + bucket.one_time_burst.unwrap_or(0),
        )
    }

    /// For a group: each member may hold back a fraction of a nanosecond.
    pub(crate) fn of_group(bucket: &TokenBucketConfig, largest: u64, members: i128) -> Self {
        let mut judge = Self::of(bucket, largest);
        judge.depth += members * judge.tokens;
        judge.level = judge.depth;
        judge
    }

    pub(crate) fn saw(&mut self, now: u64, cost: u64) {
        assert!(now >= self.last, "the test's events are in order");
        let gained = i128::from(now - self.last) * self.tokens;
        self.level = (self.level + gained).min(self.depth) - i128::from(cost) * self.period;
        self.last = now;
        assert!(
            self.level >= 0,
            "at {now} ns, {cost} tokens exceed rate * window + burst by {} tokens",
            -self.level / self.period
        );
    }
}

/// Takes as soon as it may; returns when that was. Panics on a stall.
pub(crate) fn take_soon(limiter: &mut Limiter, mut now: u64, bytes: u64, ops: u64) -> u64 {
    for _ in 0..4 {
        match limiter.take(now, bytes, ops) {
            Ok(()) => return now,
            Err(deadline) => {
                assert!(deadline > Deadline::at(now), "a deadline is ahead");
                now = deadline.ns();
            }
        }
    }
    panic!("refused at {now} ns, its own deadline");
}

/// Asserts that `measured` is within `percent` of `expected`.
pub(crate) fn assert_close(measured: f64, expected: f64, percent: f64, what: &str) {
    let off = (measured / expected - 1.0).abs() * 100.0;
    assert!(
        off <= percent,
        "{what}: {measured} instead of {expected}, {off:.3} % off"
    );
}
