//! Configuration as an operator writes it, through serde, checked before use.

use serde::{Deserialize, Serialize};

use crate::rate::{Quantity, Rate, RateError, gcd_wide};

const NS_PER_MS: u64 = 1_000_000;
/// A bucket made from a bare rate holds at least this much time's worth of tokens.
const MIN_REFILL_MS: u64 = 10;
/// Largest bucket: 2^56 tokens (72 PB) leaves room for every sum in [`Group`](crate::Group).
const MAX_SIZE: u64 = 1 << 56;
/// Longest refill: 100 years.
const MAX_REFILL_MS: u64 = 100 * 366 * 24 * 3_600_000;

/// One token bucket: `size` tokens come back in `refill_time` milliseconds.
///
/// The rate is `size / refill_time` and the largest burst is `size`. A `size` or a `refill_time` of
/// zero means "no limit", as if the bucket was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBucketConfig {
    /// Tokens (bytes or operations) that the bucket holds, and that one refill brings.
    pub size: u64,
    /// Tokens on top of `size`, spent first and never refilled. `None` is zero for a new bucket,
    /// and "what is left of the present one" for an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_burst: Option<u64>,
    /// Milliseconds in which an empty bucket becomes full.
    pub refill_time: u64,
}

/// A rate limiter: bytes and operations, each limited or not.
///
/// ```
/// use rate_limiter::{RateLimiter, RateLimiterConfig};
///
/// let config: RateLimiterConfig = serde_json::from_str(
///     r#"{"bandwidth": {"size": 125000, "one_time_burst": 1000000, "refill_time": 10},
///         "ops": {"size": 200, "refill_time": 10}}"#,
/// )?;
/// let limiter = RateLimiter::new(&config)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimiterConfig {
    /// Limit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<TokenBucketConfig>,
    /// Limit in operations (frames).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops: Option<TokenBucketConfig>,
    /// Limit in bytes on the burst itself: a small, fast bucket which every byte passes as well, so
    /// that what `bandwidth` saved up leaves no faster than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bandwidth: Option<TokenBucketConfig>,
}

/// Reason why a configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `size` or `one_time_burst` is above 2^56 tokens.
    #[error("{field} has a size or one-time burst above 2^56 tokens")]
    TooLarge {
        /// The bucket: `bandwidth`, `ops` or `peak_bandwidth`.
        field: &'static str,
    },
    /// `refill_time` is above 100 years.
    #[error("{field} has a refill time above 100 years")]
    TooSlow {
        /// The bucket: `bandwidth`, `ops` or `peak_bandwidth`.
        field: &'static str,
    },
    /// `peak_bandwidth` is slower than `bandwidth`, which would then never apply.
    #[error("peak bandwidth is below the bandwidth")]
    PeakBelowBandwidth,
}

/// The buckets of a limiter, in the order of [`RateLimiterConfig`]'s fields.
pub(crate) const KINDS: usize = 3;
const FIELDS: [&str; KINDS] = ["bandwidth", "ops", "peak_bandwidth"];

/// Cost of a frame in each bucket.
#[inline]
pub(crate) const fn costs(bytes: u64, ops: u64) -> [u64; KINDS] {
    [bytes, ops, bytes]
}

/// A checked bucket: a configuration that does limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) size: u64,
    pub(crate) rate: Rate,
    pub(crate) one_time_burst: Option<u64>,
}

impl TokenBucketConfig {
    /// The limit, or `None` where this configuration means "no limit".
    fn check(&self, field: &'static str, quantity: Quantity) -> Result<Option<Limit>, ConfigError> {
        if self.size > MAX_SIZE || self.one_time_burst.is_some_and(|burst| burst > MAX_SIZE) {
            return Err(ConfigError::TooLarge { field });
        }
        if self.refill_time > MAX_REFILL_MS {
            return Err(ConfigError::TooSlow { field });
        }
        // A rate refuses only the zeros, which mean "no limit", and what is refused above.
        let rate = Rate::new(self.size, self.refill_time * NS_PER_MS, quantity).ok();
        Ok(rate.map(|rate| Limit {
            size: self.size,
            rate,
            one_time_burst: self.one_time_burst,
        }))
    }
}

impl RateLimiterConfig {
    /// Checks every bucket.
    ///
    /// # Errors
    /// [`ConfigError`] for what no limiter can honour.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.limits().map(drop)
    }

    pub(crate) fn limits(&self) -> Result<[Option<Limit>; KINDS], ConfigError> {
        let fields = [
            (self.bandwidth, Quantity::Bytes),
            (self.ops, Quantity::Operations),
            (self.peak_bandwidth, Quantity::Bytes),
        ];
        let mut limits = [None; KINDS];
        for ((limit, (field, quantity)), name) in limits.iter_mut().zip(fields).zip(FIELDS) {
            *limit = field
                .map(|field| field.check(name, quantity))
                .transpose()?
                .flatten();
        }
        if let [Some(bandwidth), _, Some(peak)] = &limits
            && slower(peak.rate, bandwidth.rate)
        {
            return Err(ConfigError::PeakBelowBandwidth);
        }
        Ok(limits)
    }
}

impl Rate {
    /// The configuration of a bucket with exactly this rate, which holds at least `min_burst`
    /// tokens and at least what arrives in 10 ms.
    ///
    /// # Errors
    /// [`RateError::Range`] when no such bucket fits the configuration's 64 bits.
    pub fn bucket(&self, min_burst: u64) -> Result<TokenBucketConfig, RateError> {
        // `step` tokens in `step_ms` ms is the smallest whole step of this rate.
        let tokens = u128::from(self.tokens()) * u128::from(NS_PER_MS);
        let divisor = gcd_wide(tokens, u128::from(self.period_ns()));
        let (step, step_ms) = (tokens / divisor, u128::from(self.period_ns()) / divisor);
        let steps = u128::from(MIN_REFILL_MS)
            .div_ceil(step_ms)
            .max(u128::from(min_burst).div_ceil(step));
        let narrow = |wide: Option<u128>| {
            wide.and_then(|wide| u64::try_from(wide).ok())
                .ok_or(RateError::Range)
        };
        Ok(TokenBucketConfig {
            size: narrow(step.checked_mul(steps))?,
            one_time_burst: None,
            refill_time: narrow(step_ms.checked_mul(steps))?,
        })
    }
}

fn slower(a: Rate, b: Rate) -> bool {
    u128::from(a.tokens()) * u128::from(b.period_ns())
        < u128::from(b.tokens()) * u128::from(a.period_ns())
}
