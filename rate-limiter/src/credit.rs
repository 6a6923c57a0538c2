//! Takes on credit: what the buckets are known to hold is counted in whole tokens, and they are
//! charged for all of it at once.

use crate::config::{KINDS, costs};

#[cfg(test)]
mod tests;

/// Tokens that can be taken without a look at the buckets.
///
/// A take is then two subtractions, whatever the number of buckets. Whoever does anything else to
/// the buckets must [`close`](Self::close) it before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credit {
    left: Tokens,
    granted: Tokens,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tokens {
    bytes: u64,
    ops: u64,
}

impl Credit {
    /// New credit of what each bucket has; `None` is as much as anyone wants.
    #[inline]
    pub(crate) fn of(funds: [Option<u64>; KINDS]) -> Self {
        let [bandwidth, ops, peak_bandwidth] = funds.map(|tokens| tokens.unwrap_or(u64::MAX));
        let granted = Tokens {
            bytes: bandwidth.min(peak_bandwidth),
            ops,
        };
        Self {
            left: granted,
            granted,
        }
    }

    /// Takes `bytes` and `ops`; false, and nothing taken, where the credit does not reach.
    #[inline]
    pub(crate) fn take(&mut self, bytes: u64, ops: u64) -> bool {
        let covered = bytes <= self.left.bytes && ops <= self.left.ops;
        if covered {
            self.left.bytes -= bytes;
            self.left.ops -= ops;
        }
        covered
    }

    /// Ends the credit: what each bucket is to be charged, if anything.
    #[inline]
    pub(crate) fn close(&mut self) -> Option<[u64; KINDS]> {
        let Self { left, granted } = std::mem::take(self);
        let (bytes, ops) = (granted.bytes - left.bytes, granted.ops - left.ops);
        (bytes | ops != 0).then(|| costs(bytes, ops))
    }
}

/// Tokens in `parts`, of which `period` make one: at least half of them, and no division.
#[inline]
pub(crate) fn tokens_at_least(parts: u128, period: u64) -> u64 {
    // The power of two at or above `period`, which is below 2^63.
    let shift = u64::BITS - (period - 1).leading_zeros();
    u64::try_from(parts >> shift).unwrap_or(u64::MAX)
}
