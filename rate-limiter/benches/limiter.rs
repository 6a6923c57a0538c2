//! Cost of a limit per frame: `cargo bench -p virtio-net-rate-limiter`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use rate_limiter::{Group, Limiter, Member, RateLimiter, RateLimiterConfig, TokenBucketConfig};

const FRAME: u64 = 1514;

/// Far above what is taken, so that every take passes.
fn config() -> RateLimiterConfig {
    let bucket = |size| {
        Some(TokenBucketConfig {
            size,
            one_time_burst: None,
            refill_time: 100,
        })
    };
    RateLimiterConfig {
        bandwidth: bucket(1 << 50),
        ops: bucket(1 << 40),
        peak_bandwidth: None,
    }
}

fn member(group: &Group) -> Member {
    group.member(Arc::new(|| {}))
}

fn take(limiter: &mut Limiter, now: &mut u64) {
    *now += 100;
    let _ = black_box(limiter.take(black_box(*now), black_box(FRAME), 1));
}

fn uncontended(c: &mut Criterion) {
    let bytes = RateLimiterConfig {
        ops: None,
        ..config()
    };
    let group = Group::new(&config()).unwrap();
    let device = group.within(&config()).unwrap();
    let slow = RateLimiterConfig {
        bandwidth: Some(TokenBucketConfig {
            size: 1000,
            one_time_burst: None,
            refill_time: 1000,
        }),
        ..RateLimiterConfig::default()
    };
    let limiters: [(&str, Limiter); 6] = [
        ("unlimited", Limiter::Unlimited),
        ("own bytes", RateLimiter::new(&bytes).unwrap().into()),
        ("own bytes+ops", RateLimiter::new(&config()).unwrap().into()),
        ("shared bytes+ops", member(&group).into()),
        ("shared, two levels", member(&device).into()),
        (
            "own bytes, refused",
            RateLimiter::new(&slow).unwrap().into(),
        ),
    ];
    let mut batched = Limiter::from(RateLimiter::new(&config()).unwrap());
    c.bench_function("take/own bytes+ops, 32 at a time", |b| {
        let mut frames = 0u64;
        b.iter(|| {
            frames += 1;
            let now = frames / 32 * 100;
            let _ = black_box(batched.take(black_box(now), black_box(FRAME), 1));
        });
    });
    // One time for all, as two of them are in one group.
    let mut now = 0;
    for (name, mut limiter) in limiters {
        c.bench_function(&format!("take/{name}"), |b| {
            b.iter(|| take(&mut limiter, &mut now))
        });
    }
}

/// The time of one take while as many threads as named do nothing else.
fn contended(c: &mut Criterion) {
    for threads in [1, 2] {
        let group = Group::new(&config()).unwrap();
        c.bench_function(&format!("group/{threads} threads"), |b| {
            b.iter_custom(|takes| together(&group, threads, takes));
        });
    }
}

fn together(group: &Group, threads: usize, takes: u64) -> Duration {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut limiter = Limiter::from(member(group));
                let mut now = 0;
                (0..takes).for_each(|_| take(&mut limiter, &mut now));
            });
        }
    });
    start.elapsed()
}

criterion_group!(benches, uncontended, contended);
criterion_main!(benches);
