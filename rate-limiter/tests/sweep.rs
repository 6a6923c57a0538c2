//! Rate x refill time x frame size x traffic: exact everywhere, never too much, never a stall.

mod common;

use common::{Judge, MS, SECOND, assert_close, every_kind, take_soon};
use rate_limiter::{Limiter, Quantity, Rate, RateLimiterConfig, TokenBucket, TokenBucketConfig};

const RATES: [&str; 7] = [
    "64kbit", "1Mbit", "33Mbit", "1Gbit", "2.5Gbit", "10Gbit", "40Gbit",
];
const REFILLS_MS: [u64; 6] = [1, 7, 100, 1000, 60_000, 3_600_000];
const FRAMES: [u64; 6] = [42, 60, 64, 1514, 9014, 65_562];
/// Enough takes to see a deviation of 1 %; where they are more than 10 refills, those.
const TAKES: usize = 400;

/// Every bucket of the sweep, with its rate in bytes per ns.
fn buckets() -> impl Iterator<Item = (TokenBucketConfig, f64)> {
    RATES.into_iter().flat_map(|rate| {
        let rate: Rate = rate.parse().unwrap();
        REFILLS_MS.into_iter().map(move |refill_time| {
            let size = u128::from(rate.tokens()) * u128::from(refill_time * MS)
                / u128::from(rate.period_ns());
            let config = common::bucket(u64::try_from(size).unwrap(), refill_time);
            (config, config.size as f64 / (refill_time * MS) as f64)
        })
    })
}

fn limit(bandwidth: TokenBucketConfig) -> RateLimiterConfig {
    RateLimiterConfig {
        bandwidth: Some(bandwidth),
        ..Default::default()
    }
}

/// A greedy source from an empty bucket; `late` is how long its timer oversleeps.
fn greedy(limiter: &mut Limiter, config: &TokenBucketConfig, frame: u64, late: u64) -> f64 {
    let mut judge = Judge::of(config, frame);
    judge.saw(0, config.size);
    limiter.force(0, config.size, 1);
    let window = 10 * config.refill_time * MS;
    let (mut now, mut bytes, mut takes) = (0, 0, 0);
    while takes < TAKES && now < window {
        match limiter.take(now, frame, 1) {
            Ok(()) => {
                judge.saw(now, frame);
                bytes += frame;
                takes += 1;
            }
            Err(deadline) => {
                assert!(deadline.ns() > now);
                now = deadline.ns() + late;
            }
        }
    }
    // A frame larger than the bucket is charged ahead: it counts for the time up to the next one.
    let end = limiter
        .deadline(now, frame, 1)
        .map_or(now, |deadline| deadline.ns());
    let ahead = frame.min(config.size);
    (bytes + ahead) as f64 / end as f64
}

#[test]
fn greedy_sources_get_exactly_the_rate() {
    for (config, rate) in buckets().filter(|(config, _)| config.size > 0) {
        for frame in FRAMES
            .into_iter()
            .chain([config.size, config.size + 1, 3 * config.size / 2])
        {
            for (name, mut limiter) in every_kind(&limit(config)) {
                let what = format!("{name} {config:?} frame {frame}");
                assert_close(greedy(&mut limiter, &config, frame, 0), rate, 1.0, &what);
            }
        }
    }
}

#[test]
fn late_timers_cost_nothing_while_the_bucket_holds_what_came_meanwhile() {
    for (config, rate) in buckets() {
        let late = (config.refill_time * MS / 4).min(50_000);
        for frame in FRAMES.into_iter().filter(|frame| 2 * frame <= config.size) {
            for (name, mut limiter) in every_kind(&limit(config)) {
                let what = format!("{name} {config:?} frame {frame}");
                let measured = greedy(&mut limiter, &config, frame, late);
                // One deadline may be overslept at the end.
                let slack = rate * late as f64 / (TAKES as f64 * frame as f64);
                assert_close(measured, rate, 1.0 + 100.0 * slack, &what);
            }
        }
    }
}

#[test]
fn bursts_pass_at_once_as_far_as_the_bucket_holds_them() {
    for (config, _) in buckets() {
        for frame in FRAMES.into_iter().filter(|frame| *frame <= config.size) {
            for (name, mut limiter) in every_kind(&limit(config)) {
                let mut judge = Judge::of(&config, frame);
                let burst = (config.size / frame).min(20);
                let mut now = 1;
                for _ in 0..3 {
                    for _ in 0..burst {
                        limiter.take(now, frame, 1).unwrap_or_else(|deadline| {
                            panic!("{name} {config:?} frame {frame}: {deadline}")
                        });
                        judge.saw(now, frame);
                    }
                    // The burst after the burst waits, the next one comes when all is refilled.
                    now += config.refill_time * MS;
                }
            }
        }
    }
}

#[test]
fn traffic_below_the_limit_is_never_delayed() {
    for (config, rate) in buckets() {
        for frame in FRAMES.into_iter().filter(|frame| *frame <= config.size) {
            let gap = (frame as f64 / rate).ceil() as u64;
            for (name, mut limiter) in every_kind(&limit(config)) {
                for tick in 0..200 {
                    let result = limiter.take(tick * gap, frame, 1);
                    assert_eq!(
                        result,
                        Ok(()),
                        "{name} {config:?} frame {frame} tick {tick}"
                    );
                }
            }
        }
    }
}

#[test]
fn operations_are_as_exact_as_bytes() {
    for (size, refill_time) in [
        (1, 1),
        (3, 7),
        (10, 1000),
        (148_810, 10),
        (1_000_000, 60_000),
    ] {
        let ops = Some(common::bucket(size, refill_time));
        let config = RateLimiterConfig {
            ops,
            ..Default::default()
        };
        for (name, mut limiter) in every_kind(&config) {
            limiter.force(0, 0, size);
            let end = (0..1000).fold(0, |now, _| take_soon(&mut limiter, now, 64, 1));
            let rate = size as f64 / (refill_time * MS) as f64;
            assert_close(1000.0 / end as f64, rate, 0.001, name);
        }
    }
}

#[test]
fn the_scarcer_of_bytes_and_operations_decides() {
    let config = RateLimiterConfig {
        bandwidth: Some(common::bucket(1_000_000, 100)),
        ops: Some(common::bucket(1000, 100)),
        peak_bandwidth: None,
    };
    // 1000 bytes per operation is where they meet.
    for (frame, per_second) in [
        (64, 10_000.0),
        (999, 10_000.0),
        (1001, 9990.0),
        (4000, 2500.0),
    ] {
        for (name, mut limiter) in every_kind(&config) {
            limiter.force(0, 1_000_000, 1000);
            let end = (0..2000).fold(0, |now, _| take_soon(&mut limiter, now, frame, 1));
            assert_close(2000.0 / (end as f64 / SECOND as f64), per_second, 0.1, name);
        }
    }
}

#[test]
fn the_peak_caps_the_burst_and_not_the_rate() {
    let peak = common::bucket(10_000, 1); // 10 MB/s
    let config = RateLimiterConfig {
        bandwidth: Some(common::bucket(1_000_000, 1000)), // 1 MB/s, 1 MB of burst
        ops: None,
        peak_bandwidth: Some(peak),
    };
    for (name, mut limiter) in every_kind(&config) {
        let mut judge = Judge::of(&peak, 1000);
        let mut now = 0;
        let mut at = Vec::new();
        for _ in 0..5000 {
            now = take_soon(&mut limiter, now, 1000, 1);
            judge.saw(now, 1000);
            at.push(now);
        }
        assert_close(at[900] as f64, 89.0 * MS as f64, 1.0, name); // 900 kB less 10 kB at 10 MB/s
        assert_close((at[4999] - at[1999]) as f64, 3.0 * SECOND as f64, 0.1, name);
    }
}

#[test]
fn a_billion_takes_do_not_drift() {
    // A rate that no nanosecond divides; each step is worth a million takes in debt and deadline.
    let rate = Rate::new(999_999_937, SECOND, Quantity::Bytes).unwrap();
    let mut bucket = TokenBucket::new(1_000_000, rate, 0);
    bucket.force(0, 1_000_000);
    let mut now = 0;
    for _ in 0..1_000_000 {
        bucket.force(now, 1000);
        now = bucket
            .deadline(now, 1)
            .map_or(now, |deadline| deadline.ns());
    }
    // 10^9 tokens, and the one that the last deadline was for.
    let exact = (1_000_000_001u128 * u128::from(SECOND)).div_ceil(999_999_937);
    assert_eq!(u128::from(now), exact);
}
