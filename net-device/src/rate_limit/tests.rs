use super::*;

use crate::clock::{MonotonicClock, now_ns};
use crate::wake_timer::tests::expires_within;
use rate_limiter::TokenBucketConfig;

const HOUR_MS: u64 = 3_600_000;

/// One frame in an hour, for all who share it.
fn config() -> RateLimiterConfig {
    RateLimiterConfig {
        ops: Some(TokenBucketConfig {
            size: 1,
            one_time_burst: None,
            refill_time: HOUR_MS,
        }),
        ..RateLimiterConfig::default()
    }
}

fn used_up() -> (Group, QueueLimit) {
    let group = Group::new(&config()).expect("a usable limit");
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock);
    let mut limit = QueueLimit::shared(&group, &clock).expect("a timer");
    assert_eq!(limit.limiter.take(now_ns(), 60, 1), Ok(()));
    (group, limit)
}

/// Returns whether the timer expires long before the hour is over.
fn expires(limit: &QueueLimit) -> bool {
    let timer = limit.timer.as_ref().expect("it can say no");
    expires_within(timer, 20_000)
}

/// The order of events of a worker that was refused, and is slow to arm its timer.
#[test]
fn a_wake_between_the_refusal_and_the_timer_is_not_lost() {
    let (group, mut limit) = used_up();
    let asked = limit.ask();
    let deadline = limit.limiter.take(asked.now, 60, 1).expect_err("used up");
    let lifted = RateLimiterConfig::default();
    group.update(now_ns(), &lifted).expect("no limit is usable");
    limit.wait_until(deadline.ns(), asked);
    assert!(expires(&limit));
}

#[test]
fn a_wake_after_the_timer_was_armed_shortens_the_wait() {
    let (group, mut limit) = used_up();
    let asked = limit.ask();
    let deadline = limit.limiter.take(asked.now, 60, 1).expect_err("used up");
    limit.wait_until(deadline.ns(), asked);
    let lifted = RateLimiterConfig::default();
    group.update(now_ns(), &lifted).expect("no limit is usable");
    assert!(expires(&limit));
}
