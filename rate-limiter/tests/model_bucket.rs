//! The bucket against a slow model that lives through every single nanosecond.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rate_limiter::{Deadline, Level, Quantity, Rate, TokenBucket};

/// Counts in `1 / period` of a token and moves one nanosecond at a time.
#[derive(Debug, Clone)]
struct Model {
    level: i128,
    capacity: i128,
    tokens: i128,
    period: i128,
    burst: i128,
    now: u64,
}

impl Model {
    fn live_until(&mut self, now: u64) {
        while self.now < now {
            self.now += 1;
            self.level = (self.level + self.tokens).min(self.capacity * self.period);
        }
    }

    fn passes(&self, cost: i128) -> bool {
        let beyond_burst = (cost - self.burst).max(0);
        let full = self.level == self.capacity * self.period;
        cost == 0
            || full
            || (beyond_burst <= self.capacity && self.level >= beyond_burst * self.period)
    }

    fn charge(&mut self, cost: i128) {
        let from_burst = cost.min(self.burst);
        self.burst -= from_burst;
        self.level -= (cost - from_burst) * self.period;
    }

    fn deadline(&self, cost: i128) -> u64 {
        let mut later = self.clone();
        while !later.passes(cost) {
            later.live_until(later.now + 1);
        }
        later.now
    }
}

#[derive(Debug, Clone)]
enum Op {
    Take(u64),
    Force(u64),
    Refund(u64),
    Wait(u64),
    StepBack(u64),
    SaveAndRestore,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0u64..300).prop_map(Op::Take),
        1 => (0u64..300).prop_map(Op::Force),
        1 => (0u64..100).prop_map(Op::Refund),
        3 => (0u64..200).prop_map(Op::Wait),
        1 => (0u64..50).prop_map(Op::StepBack),
        1 => Just(Op::SaveAndRestore),
    ];
    prop::collection::vec(op, 1..60)
}

fn step(op: &Op, now: &mut u64, bucket: &mut TokenBucket, model: &mut Model) -> TestCaseResult {
    match *op {
        Op::Take(cost) => {
            model.live_until(*now);
            let wide = i128::from(cost);
            if model.passes(wide) {
                prop_assert_eq!(bucket.take(*now, cost), Ok(()));
                model.charge(wide);
            } else {
                let deadline = Deadline::at(model.deadline(wide));
                prop_assert_eq!(bucket.take(*now, cost), Err(deadline));
            }
        }
        Op::Force(cost) => {
            bucket.force(*now, cost);
            model.live_until(*now);
            model.charge(cost.into());
        }
        Op::Refund(cost) => {
            bucket.refund(cost);
            if model.burst > 0 {
                model.burst += i128::from(cost);
            } else {
                let full = model.capacity * model.period;
                model.level = (model.level + i128::from(cost) * model.period).min(full);
            }
        }
        Op::Wait(ns) => *now += ns,
        Op::StepBack(ns) => {
            // Brings nothing, costs nothing.
            model.live_until(*now);
            bucket.level(*now);
            bucket.level(now.saturating_sub(ns));
        }
        Op::SaveAndRestore => {
            let level = bucket.level(*now);
            bucket.restore(*now, &level);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn bucket_is_the_model(
        (capacity, tokens, period) in (0u64..200, 1u64..50, 1u64..50),
        burst in prop_oneof![Just(0), 0u64..200],
        ops in ops(),
    ) {
        let rate = Rate::new(tokens, period, Quantity::Bytes).unwrap();
        let mut bucket = TokenBucket::new(capacity, rate, burst);
        let mut model = Model {
            level: i128::from(capacity) * i128::from(period),
            capacity: capacity.into(),
            tokens: tokens.into(),
            period: period.into(),
            burst: burst.into(),
            now: 0,
        };
        let mut now = 0;
        for op in &ops {
            step(op, &mut now, &mut bucket, &mut model)?;
        }
        model.live_until(now);
        let level = bucket.level(now);
        prop_assert_eq!(i128::from(level.tokens), model.level.div_euclid(model.period));
        prop_assert_eq!(i128::from(level.one_time_burst), model.burst);
    }

    #[test]
    fn no_number_overflows(
        (capacity, tokens, period, burst) in any::<(u64, u64, u64, u64)>(),
        ops in prop::collection::vec(any::<(u64, u64, u8)>(), 1..40),
        level in any::<(i64, u64, u64)>(),
    ) {
        let quantity = Quantity::Bytes;
        let rate = Rate::new(tokens.max(1), (period >> 1).max(1), quantity).unwrap();
        let mut bucket = TokenBucket::new(capacity, rate, burst);
        for (now, cost, what) in ops {
            match what % 6 {
                0 => if let Err(deadline) = bucket.take(now, cost) {
                    prop_assert!(deadline.ns() > 0);
                },
                1 => bucket.force(now, cost),
                2 => bucket.refund(cost),
                3 => bucket.update(now, cost, Rate::new(1, u64::MAX >> 1, quantity).unwrap(), None),
                4 => bucket.update(now, cost, Rate::new(u64::MAX, 1, quantity).unwrap(), Some(now)),
                _ => {
                    let (tokens, fraction, one_time_burst) = level;
                    bucket.restore(now, &Level { tokens, fraction, one_time_burst });
                }
            }
            let level = bucket.level(now);
            prop_assert!(level.tokens >= -i64::MAX);
        }
    }

    #[test]
    fn a_deadline_is_the_first_nanosecond_that_passes(
        (capacity, tokens, period) in (1u64..1 << 40, 1u64..1 << 40, 1u64..1 << 40),
        (debt, cost) in (0u64..1 << 41, 1u64..1 << 41),
    ) {
        let rate = Rate::new(tokens, period, Quantity::Bytes).unwrap();
        let mut bucket = TokenBucket::new(capacity, rate, 0);
        bucket.force(1, capacity.saturating_add(debt));
        let deadline = bucket.take(1, cost).unwrap_err().ns();
        prop_assume!(deadline < u64::MAX);
        if deadline > 2 {
            prop_assert_eq!(bucket.clone().take(deadline - 1, cost), Err(Deadline::at(deadline)));
        }
        prop_assert_eq!(bucket.take(deadline, cost), Ok(()));
    }

    #[test]
    fn what_is_saved_comes_back_to_the_last_part(
        (capacity, tokens, period) in (0u64..1 << 40, 1u64.., 1u64..1 << 63),
        (debt, wait) in (0u64..1 << 50, any::<u64>()),
    ) {
        let rate = Rate::new(tokens, period, Quantity::Bytes).unwrap();
        let mut bucket = TokenBucket::new(capacity, rate, 0);
        bucket.force(0, debt);
        let saved = bucket.level(wait);
        // The other machine's clock started at another time.
        let mut other = TokenBucket::new(capacity, rate, 0);
        other.restore(wait / 2, &saved);
        prop_assert_eq!(other.level(wait / 2), saved);
        let (here, there) = (bucket.deadline(wait, 1), other.deadline(wait / 2, 1));
        let ahead = |deadline: Option<Deadline>, now| deadline.map_or(0, |d| d.ns() - now);
        if here.is_none_or(|deadline| deadline < Deadline::NEVER) {
            prop_assert_eq!(ahead(here, wait), ahead(there, wait / 2));
        }
    }
}

#[test]
fn a_refund_goes_back_to_where_it_was_taken_from() {
    let rate = Rate::new(1, 1000, Quantity::Bytes).unwrap();
    let mut bucket = TokenBucket::new(1000, rate, 500);
    let left = |bucket: &mut TokenBucket| {
        let level = bucket.level(0);
        (level.tokens, level.one_time_burst)
    };
    bucket.take(0, 100).unwrap();
    assert_eq!(left(&mut bucket), (1000, 400));
    bucket.refund(100);
    assert_eq!(left(&mut bucket), (1000, 500));
    bucket.take(0, 700).unwrap();
    assert_eq!(left(&mut bucket), (800, 0));
    bucket.refund(100);
    assert_eq!(left(&mut bucket), (900, 0));
    bucket.refund(200);
    assert_eq!(left(&mut bucket), (1000, 0), "no more than it holds");
}
