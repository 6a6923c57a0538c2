//! Limit of the host work that the commands of one driver cause.

use std::sync::{Mutex, PoisonError};

use rate_limiter::{Quantity, Rate, TokenBucket, TokenBucketConfig};

/// Cost of a system call under a lock of the whole host: the unit of
/// [`NetConfig::control_limit`](crate::NetConfig::control_limit).
pub(crate) const HOST_LOCK: u64 = 10;
/// Cost of a receive policy that every worker of the device is waited for. It burdens nobody else,
/// and a driver adds VLANs by the thousand.
pub(crate) const POLICY: u64 = 1;

/// The budget of one device, over all its lives: a reset does not fill it. The default limits
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct ControlBudget(Option<Mutex<TokenBucket>>);

impl ControlBudget {
    /// A full budget; zeros in `config` limit nothing.
    pub(crate) fn new(config: Option<TokenBucketConfig>) -> Self {
        let bucket = |config: TokenBucketConfig| {
            let tokens = config.size.saturating_mul(HOST_LOCK);
            let period_ns = config.refill_time.saturating_mul(1_000_000);
            let rate = Rate::new(tokens, period_ns, Quantity::Operations).ok()?;
            let once = config.one_time_burst.unwrap_or(0);
            let once = once.saturating_mul(HOST_LOCK);
            Some(Mutex::new(TokenBucket::new(tokens, rate, once)))
        };
        Self(config.and_then(bucket))
    }

    /// Charges `cost`. What costs nothing always passes.
    ///
    /// # Errors
    /// The time at which to ask again; nothing was charged.
    pub(crate) fn take(&self, now_ns: u64, cost: u64) -> Result<(), u64> {
        let Some(bucket) = &self.0 else { return Ok(()) };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(now_ns, cost).map_err(|deadline| deadline.ns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn budget(size: u64, refill_time: u64) -> ControlBudget {
        ControlBudget::new(Some(TokenBucketConfig {
            size,
            one_time_burst: None,
            refill_time,
        }))
    }

    #[test]
    fn host_locks_are_counted_whole_and_policies_as_a_tenth() {
        let budget = budget(2, 2000);
        for _ in 0..10 {
            assert_eq!(budget.take(0, POLICY), Ok(()));
        }
        assert_eq!(budget.take(0, HOST_LOCK), Ok(()));
        assert_eq!(budget.take(0, HOST_LOCK), Err(1000 * MS));
        assert_eq!(budget.take(0, POLICY), Err(100 * MS));
        assert_eq!(budget.take(0, 0), Ok(()));
        assert_eq!(budget.take(1000 * MS, HOST_LOCK), Ok(()));
    }

    #[test]
    fn more_than_the_bucket_holds_passes_once_and_is_paid_for_afterwards() {
        let budget = budget(2, 2000);
        assert_eq!(budget.take(0, 255 * HOST_LOCK), Ok(()));
        assert_eq!(budget.take(0, POLICY), Err(253_100 * MS));
    }

    #[test]
    fn zeros_and_nothing_limit_nothing() {
        for budget in [budget(0, 5), budget(5, 0), ControlBudget::new(None)] {
            assert_eq!(budget.take(0, u64::MAX), Ok(()));
        }
    }
}
