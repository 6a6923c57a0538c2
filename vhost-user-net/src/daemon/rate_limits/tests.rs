//! Limits as words.

use super::*;

fn limits(changes: &str) -> Limits {
    Limits::default().with(changes).unwrap()
}

/// Tokens, and the milliseconds in which they come back.
type Numbers = Option<(u64, u64)>;

/// The buckets of bytes and of frames.
fn bucket(config: Option<RateLimiterConfig>) -> (Numbers, Numbers) {
    let config = config.unwrap();
    let numbers =
        |bucket: net_device::rate_limiter::TokenBucketConfig| (bucket.size, bucket.refill_time);
    (config.bandwidth.map(numbers), config.ops.map(numbers))
}

#[test]
fn nothing_is_limited_unless_told() {
    assert_eq!(limits("").rx(), Ok(None));
    assert_eq!(limits("rx=1Gbit").tx(), Ok(None));
    assert_eq!(
        limits("rx=1Gbit rx-pps=1kpps rx=off rx-pps=off").rx(),
        Ok(None)
    );
}

#[test]
fn a_bucket_holds_ten_milliseconds_and_one_large_frame() {
    let fast = limits("rx=1Gbit tx-pps=20kpps");
    assert_eq!(bucket(fast.rx().unwrap()), (Some((1_250_000, 10)), None));
    assert_eq!(bucket(fast.tx().unwrap()), (None, Some((200, 10))));
    let slow = limits("tx=8Mbit").tx().unwrap();
    assert_eq!(bucket(slow), (Some((66_000, 66)), None));
}

#[test]
fn a_burst_is_chosen() {
    let config = limits("rx=8Mbit burst=1MB").rx().unwrap();
    assert_eq!(bucket(config), (Some((1_000_000, 1000)), None));
    let small = limits("rx=8Mbit burst=1").rx().unwrap();
    assert_eq!(bucket(small), (Some((10_000, 10)), None));
}

#[test]
fn what_is_not_named_stays() {
    let before = limits("rx=1Gbit tx-pps=5pps burst=64KiB");
    let after = before.with("rx=off tx=10MB").unwrap();
    assert_eq!(
        after.to_string(),
        "rx=off tx=10000000B rx-pps=off tx-pps=5pps burst=65536"
    );
    assert_eq!(limits(&after.to_string()), after);
}

#[test]
fn nonsense_is_refused() {
    for changes in [
        "rx",
        "=",
        "rx=",
        "rx=1",
        "rx=0bit",
        "rx=5pps",
        "tx-pps=1Gbit",
        "mtu=5",
        "rx=-1bit",
        "burst=",
        "burst=x",
        "burst=1MB/s",
        "burst=5pps",
        "burst=0.1B",
        "burst=-1",
        "rx=99999999999999999999999999999Tbit",
    ] {
        assert!(Limits::default().with(changes).is_err(), "{changes}");
    }
}
