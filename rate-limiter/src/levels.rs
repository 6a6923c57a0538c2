//! Fill levels as plain data, for snapshots.
//!
//! A level is an amount of tokens, not a point in time: what was saved at one reading of the clock
//! is restored at another, on a machine whose clock started elsewhere.

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Fill level of one bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Whole tokens, rounded down; negative while a debt is being paid.
    pub tokens: i64,
    /// Fraction that `tokens` lacks, in 2^-64 of a token.
    pub fraction: u64,
    /// Tokens left of the one-time burst.
    pub one_time_burst: u64,
}

/// Fill level of the buckets of a limiter; `None` where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// The bucket of bytes.
    pub bandwidth: Option<Level>,
    /// The bucket of operations.
    pub ops: Option<Level>,
    /// The bucket that caps bursts, in bytes.
    pub peak_bandwidth: Option<Level>,
}

impl Level {
    /// The level that is `parts / period` tokens.
    pub(crate) fn from_parts(parts: i128, period: u64, one_time_burst: u64) -> Self {
        let period = i128::from(period);
        let rest = parts.rem_euclid(period) as u128;
        Self {
            tokens: saturate(parts.div_euclid(period)),
            // Rounded down; `parts` rounds up and so finds the same part again.
            fraction: ((rest << 64) / period as u128) as u64,
            one_time_burst,
        }
    }

    /// Level in units of `1 / period` of a token.
    pub(crate) fn parts(&self, period: u64) -> i128 {
        let product = u128::from(self.fraction) * u128::from(period);
        let rest = (product >> 64) + u128::from(product as u64 != 0);
        i128::from(self.tokens) * i128::from(period) + rest as i128
    }
}

fn saturate(tokens: i128) -> i64 {
    tokens.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl Levels {
    pub(crate) const fn to_array(self) -> [Option<Level>; crate::config::KINDS] {
        [self.bandwidth, self.ops, self.peak_bandwidth]
    }

    pub(crate) const fn from_array(levels: [Option<Level>; crate::config::KINDS]) -> Self {
        let [bandwidth, ops, peak_bandwidth] = levels;
        Self {
            bandwidth,
            ops,
            peak_bandwidth,
        }
    }
}
