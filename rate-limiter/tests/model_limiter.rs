//! The limiter: all buckets or none, updates that keep debts, levels that survive a move.

mod common;

use common::{MS, bandwidth, bucket};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rate_limiter::{
    Deadline, Level, Levels, Limiter, Quantity, Rate, RateLimiter, RateLimiterConfig, TokenBucket,
    TokenBucketConfig,
};

fn config(sizes: [u64; 3]) -> RateLimiterConfig {
    RateLimiterConfig {
        bandwidth: Some(bucket(sizes[0], 1000)),
        ops: Some(bucket(sizes[1], 1000)),
        peak_bandwidth: Some(bucket(sizes[2], 1)),
    }
}

/// One bucket as the limiter should have it.
fn alone(size: u64, ms: u64) -> TokenBucket {
    TokenBucket::new(size, Rate::new(size, ms * MS, Quantity::Bytes).unwrap(), 0)
}

fn granting(bucket: TokenBucketConfig, one_time_burst: Option<u64>) -> TokenBucketConfig {
    TokenBucketConfig {
        one_time_burst,
        ..bucket
    }
}

/// A limiter, and buckets that are refilled and charged for each frame.
struct Pair {
    config: RateLimiterConfig,
    limiter: RateLimiter,
    buckets: [Option<TokenBucket>; 3],
    now: u64,
}

impl Pair {
    fn new(config: RateLimiterConfig) -> Self {
        let bucket = |field: TokenBucketConfig| {
            let rate = Rate::new(field.size, field.refill_time * MS, Quantity::Bytes).unwrap();
            TokenBucket::new(field.size, rate, field.one_time_burst.unwrap_or(0))
        };
        let fields = [config.bandwidth, config.ops, config.peak_bandwidth];
        Self {
            config,
            limiter: RateLimiter::new(&config).unwrap(),
            buckets: fields.map(|field| field.map(bucket)),
            now: 0,
        }
    }

    fn each(&mut self, costs: [u64; 3]) -> impl Iterator<Item = (&mut TokenBucket, u64)> {
        let pairs = self.buckets.iter_mut().zip(costs);
        pairs.filter_map(|(bucket, cost)| Some((bucket.as_mut()?, cost)))
    }

    fn latest(&mut self, costs: [u64; 3]) -> Option<Deadline> {
        let now = self.now;
        let deadlines = self
            .each(costs)
            .filter_map(|(bucket, cost)| bucket.deadline(now, cost));
        deadlines.max()
    }

    /// Steps that change nothing: to restore what was saved, or the same limits with no burst
    /// granted anew.
    fn save_or_update(&mut self, save: bool) {
        if save {
            let levels = self.limiter.levels(self.now);
            return self.limiter.restore(self.now, &levels);
        }
        let again = |field: Option<TokenBucketConfig>| Some(granting(field?, None));
        let same = RateLimiterConfig {
            bandwidth: again(self.config.bandwidth),
            ops: again(self.config.ops),
            peak_bandwidth: again(self.config.peak_bandwidth),
        };
        self.limiter.update(self.now, &same).unwrap();
    }

    /// Most are takes.
    fn step(&mut self, what: u8, bytes: u64, ops: u64, wait: u64) -> TestCaseResult {
        let (now, costs) = (self.now, [bytes, ops, bytes]);
        match what % 32 {
            0 => self.now += wait,
            1 => self.now += 1,
            2 => self.now = now.saturating_sub(wait),
            3 => {
                self.limiter.force(now, bytes, ops);
                self.each(costs).for_each(|(b, cost)| b.force(now, cost));
            }
            4 => {
                self.limiter.refund(bytes, ops);
                self.each(costs).for_each(|(b, cost)| b.refund(cost));
            }
            5 => prop_assert_eq!(self.limiter.deadline(now, bytes, ops), self.latest(costs)),
            6 | 7 => {
                // The buckets see the time as well, in case it steps back.
                self.latest(costs);
                self.save_or_update(what % 32 == 6);
            }
            _ => {
                let latest = self.latest(costs);
                prop_assert_eq!(
                    self.limiter.take(now, bytes, ops),
                    latest.map_or(Ok(()), Err)
                );
                if latest.is_none() {
                    self.each(costs).for_each(|(b, cost)| b.force(now, cost));
                }
            }
        }
        Ok(())
    }

    fn compare(mut self) -> TestCaseResult {
        let now = self.now;
        let levels = self.buckets.map(|bucket| bucket.map(|mut b| b.level(now)));
        let [bandwidth, ops, peak_bandwidth] = levels;
        prop_assert_eq!(
            self.limiter.levels(now),
            Levels {
                bandwidth,
                ops,
                peak_bandwidth
            }
        );
        Ok(())
    }
}

proptest! {
    /// Three buckets that are asked first and charged only when all agree.
    #[test]
    fn limiter_is_three_buckets_that_agree(
        sizes in [1000u64..100_000, 1u64..100, 1000u64..5000],
        steps in prop::collection::vec((0u64..3000, 0u64..3, 0u64..400 * MS, 0u8..8), 1..80),
    ) {
        let mut limiter = RateLimiter::new(&config(sizes)).unwrap();
        let mut buckets = [alone(sizes[0], 1000), alone(sizes[1], 1000), alone(sizes[2], 1)];
        let mut now = 0;
        for (bytes, ops, wait, what) in steps {
            now += wait;
            let costs = [bytes, ops, bytes];
            let pairs = buckets.iter_mut().zip(costs);
            match what {
                0 => {
                    limiter.force(now, bytes, ops);
                    pairs.for_each(|(bucket, cost)| bucket.force(now, cost));
                }
                1 => {
                    limiter.refund(bytes, ops);
                    pairs.for_each(|(bucket, cost)| bucket.refund(cost));
                }
                _ => {
                    let latest: Option<Deadline> =
                        pairs.filter_map(|(bucket, cost)| bucket.deadline(now, cost)).max();
                    prop_assert_eq!(limiter.take(now, bytes, ops), latest.map_or(Ok(()), Err));
                    if latest.is_none() {
                        buckets.iter_mut().zip(costs).for_each(|(b, cost)| b.force(now, cost));
                    }
                }
            }
        }
        let [bandwidth, ops, peak_bandwidth] = buckets.map(|mut bucket| Some(bucket.level(now)));
        prop_assert_eq!(limiter.levels(now), Levels { bandwidth, ops, peak_bandwidth });
    }

    /// Frames come in batches: at one time, a nanosecond later, or with a clock that steps back.
    #[test]
    fn a_batch_on_credit_is_frame_by_frame(
        sizes in [1000u64..100_000, 1u64..100, 1000u64..5000],
        bursts in [prop_oneof![Just(0), 0u64..10_000], prop_oneof![Just(0), 0u64..20], prop_oneof![Just(0), 0u64..3000]],
        kinds in prop_oneof![Just([true; 3]), any::<[bool; 3]>()],
        steps in prop::collection::vec((any::<u8>(), 0u64..1600, 0u64..3, 0u64..5 * MS), 1..200),
    ) {
        let mut config = config(sizes);
        let fields = [&mut config.bandwidth, &mut config.ops, &mut config.peak_bandwidth];
        for ((field, burst), kind) in fields.into_iter().zip(bursts).zip(kinds) {
            *field = field.filter(|_| kind).map(|field| granting(field, Some(burst)));
        }
        let mut pair = Pair::new(config);
        for (what, bytes, ops, wait) in steps {
            pair.step(what, bytes, ops, wait)?;
        }
        pair.compare()?;
    }

    #[test]
    fn an_update_keeps_tokens_and_debt(
        (old, new) in (1000u64..1 << 40, 1000u64..1 << 40),
        charge in 0u64..1 << 41,
    ) {
        let mut limiter = RateLimiter::new(&bandwidth(old, 1000)).unwrap();
        limiter.force(0, charge, 1);
        let before = limiter.levels(0).bandwidth.unwrap().tokens;
        limiter.update(0, &bandwidth(new, 500)).unwrap();
        let after = limiter.levels(0).bandwidth.unwrap().tokens;
        prop_assert_eq!(after, before.min(i64::try_from(new).unwrap()));
    }
}

#[test]
fn storm_of_updates_gives_nothing_away() {
    for (name, mut limiter) in common::every_kind(&bandwidth(1_000_000, 1000)) {
        let (mut now, mut bytes) = (0, 0);
        while now < 1000 * MS {
            if limiter.take(now, 1500, 1).is_ok() {
                bytes += 1500;
            } else {
                now += MS / 2;
                let other = if now.is_multiple_of(MS) {
                    1_000_000
                } else {
                    2_000_000
                };
                limiter.update(now, &bandwidth(other, 1000)).unwrap();
            }
        }
        // Half of the time at 1 MB/s, half at 2 MB/s, and the first burst.
        assert!(bytes <= 2_500_000, "{name}: {bytes}");
        assert!(bytes >= 2_470_000, "{name}: {bytes}");
    }
}

#[test]
fn an_update_may_add_and_lift_limits() {
    let none = RateLimiterConfig::default();
    for mut limiter in [
        Limiter::Unlimited,
        common::member(&rate_limiter::Group::new(&none).unwrap()).into(),
    ] {
        limiter.take(0, 1 << 40, 1).unwrap();
        limiter.update(0, &bandwidth(1000, 1000)).unwrap();
        limiter.take(0, 1000, 1).unwrap();
        assert_eq!(limiter.take(0, 1, 1), Err(Deadline::at(MS)));
        limiter.update(0, &none).unwrap();
        limiter.take(0, 1 << 40, 1).unwrap();
        limiter.update(0, &bandwidth(2000, 1000)).unwrap();
        limiter.take(0, 2000, 1).unwrap();
        assert!(limiter.take(0, 1, 1).is_err());
    }
}

#[test]
fn a_faster_limit_moves_the_deadline_forward() {
    for (name, mut limiter) in common::every_kind(&bandwidth(1000, 1000)) {
        limiter.force(0, 2000, 1);
        assert_eq!(
            limiter.take(0, 500, 1),
            Err(Deadline::at(1500 * MS)),
            "{name}"
        );
        limiter.update(0, &bandwidth(1000, 10)).unwrap();
        assert_eq!(
            limiter.take(0, 500, 1),
            Err(Deadline::at(15 * MS)),
            "{name}"
        );
        limiter.take(15 * MS, 500, 1).unwrap();
    }
}

#[test]
fn the_one_time_burst_comes_once() {
    let mut bucket = bucket(1000, 1000);
    bucket.one_time_burst = Some(5000);
    let config = RateLimiterConfig {
        bandwidth: Some(bucket),
        ..Default::default()
    };
    for (name, mut limiter) in common::every_kind(&config) {
        for _ in 0..6 {
            limiter.take(0, 1000, 1).unwrap();
        }
        assert_eq!(
            limiter.take(0, 1000, 1),
            Err(Deadline::at(1000 * MS)),
            "{name}"
        );
        limiter.idle(0);
        limiter.take(3_600_000 * MS, 1000, 1).unwrap();
        assert!(limiter.take(3_600_000 * MS, 1000, 1).is_err(), "{name}");
    }
}

#[test]
fn a_deadline_is_what_a_take_would_say_and_takes_nothing() {
    for (name, mut limiter) in common::every_kind(&bandwidth(1000, 1000)) {
        assert_eq!(limiter.deadline(0, 1000, 1), None, "{name}");
        limiter.take(0, 1000, 1).unwrap();
        let deadline = Deadline::at(500 * MS);
        assert_eq!(limiter.deadline(0, 500, 1), Some(deadline), "{name}");
        assert_eq!(limiter.take(0, 500, 1), Err(deadline), "{name}");
        assert_eq!(limiter.deadline(500 * MS, 500, 1), None, "{name}");
        limiter.take(500 * MS, 500, 1).unwrap();
        assert_eq!(limiter.levels(500 * MS).bandwidth.unwrap().tokens, 0);
    }
}

#[test]
fn an_idle_queue_leaves_the_others_all_that_it_holds() {
    let group = rate_limiter::Group::new(&bandwidth(1000, 1000)).unwrap();
    let mut queues = [0, 1].map(|_| Limiter::from(common::member(&group)));
    queues[0].take(0, 1, 1).unwrap(); // and an advance
    assert!(queues[1].take(0, 999, 1).is_err());
    queues[1].idle(0);
    queues[0].idle(0);
    queues[1].take(0, 999, 1).unwrap();
}

#[test]
fn a_moved_limiter_goes_on_where_it_was() {
    let config = config([100_000, 50, 90_000]);
    for ((name, mut here), (_, mut there)) in common::every_kind(&config)
        .into_iter()
        .zip(common::every_kind(&config))
    {
        here.force(7 * MS, 150_000, 60);
        let levels = here.levels(9 * MS);
        let text = serde_json::to_string(&levels).unwrap();
        there.restore(500 * MS, &serde_json::from_str(&text).unwrap());
        assert_eq!(there.levels(500 * MS), levels, "{name}");
        let wait = |limiter: &mut Limiter, now| limiter.take(now, 100, 1).unwrap_err().ns() - now;
        assert_eq!(
            wait(&mut here, 9 * MS),
            wait(&mut there, 500 * MS),
            "{name}"
        );
    }
}

#[test]
fn restored_levels_are_not_trusted() {
    let level = |tokens| Level {
        tokens,
        fraction: u64::MAX,
        one_time_burst: u64::MAX,
    };
    for tokens in [i64::MAX, 1001, -1, i64::MIN] {
        for (name, mut limiter) in common::every_kind(&bandwidth(1000, 1000)) {
            let bandwidth = Some(level(tokens));
            limiter.restore(
                0,
                &Levels {
                    bandwidth,
                    ops: bandwidth,
                    ..Default::default()
                },
            );
            let level = limiter.levels(0).bandwidth.unwrap();
            assert!(level.tokens <= 1000, "{name}");
            assert_eq!(level.one_time_burst, 0, "{name}");
            assert_eq!(limiter.levels(0).ops, None, "{name}");
            let _ = limiter.take(u64::MAX, u64::MAX, u64::MAX);
        }
    }
}

#[test]
fn refunds_are_as_if_never_taken() {
    for (name, mut limiter) in common::every_kind(&config([10_000, 10, 10_000])) {
        for now in 0..1000 {
            limiter.take(now, 1500, 1).unwrap();
            limiter.refund(1500, 1);
        }
        limiter.idle(1000);
        let levels = limiter.levels(1000);
        assert_eq!(levels.bandwidth.unwrap().tokens, 10_000, "{name}");
        assert_eq!(levels.ops.unwrap().tokens, 10, "{name}");
    }
}

#[test]
fn the_default_limits_nothing() {
    assert!(RateLimiter::default().is_unlimited());
    let mut limiter = Limiter::from(RateLimiter::default());
    assert!(matches!(limiter, Limiter::Unlimited));
    limiter.take(0, u64::MAX, u64::MAX).unwrap();
    limiter.force(0, u64::MAX, u64::MAX);
    limiter.refund(u64::MAX, u64::MAX);
    assert_eq!(limiter.deadline(0, u64::MAX, u64::MAX), None);
    assert_eq!(limiter.levels(0), Levels::default());
}
