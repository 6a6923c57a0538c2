//! Limits as engines ask them.

use rate_limiter::{Limiter, RateLimiter, RateLimiterConfig, TokenBucketConfig};

use super::*;

#[test]
fn what_is_unlimited_always_passes() {
    let mut limit = Unlimited;
    limit.force(0, u64::MAX);
    limit.refund(1);
    Limit::idle(&mut limit, 0);
    assert_eq!(limit.take(0, u64::MAX), Ok(()));
}

/// A limiter of ten frames or a thousand bytes a second, and as many at once.
fn limiter() -> Limiter {
    let bucket = |size| TokenBucketConfig {
        size,
        one_time_burst: None,
        refill_time: 1000,
    };
    let config = RateLimiterConfig {
        bandwidth: Some(bucket(1000)),
        ops: Some(bucket(10)),
        ..RateLimiterConfig::default()
    };
    Limiter::from(RateLimiter::new(&config).expect("it is valid"))
}

#[test]
fn a_frame_costs_its_bytes_and_one_operation() {
    let mut limit: Box<dyn Limit> = Box::new(limiter());
    for _ in 0..10 {
        assert_eq!(limit.take(0, 10), Ok(()));
    }
    assert_eq!(limit.take(0, 10), Err(100_000_000), "no operation is left");
    limit.refund(10);
    assert_eq!(limit.take(0, 10), Ok(()));
    limit.idle(0);
    limit.force(0, 900);
    assert!(limit.take(0, 0).is_err(), "what was forced is owed");
}
