//! Limits that tests of several programs use.

use net_device::rate_limiter::{RateLimiterConfig, TokenBucketConfig};

/// Longer than any test.
pub const HOUR_MS: u64 = 3_600_000;

/// `count` frames now, and as many again within `refill_ms`.
#[must_use]
pub fn frame_limit(count: u64, refill_ms: u64) -> Option<RateLimiterConfig> {
    Some(RateLimiterConfig {
        ops: Some(TokenBucketConfig {
            size: count,
            one_time_burst: None,
            refill_time: refill_ms,
        }),
        ..RateLimiterConfig::default()
    })
}
