//! Settings with which limiters in use today are off by a factor, or stall.

mod common;

use common::{Judge, MS, assert_close, bandwidth, every_kind, take_soon};

/// Greedy for 30 refills and at least 200 packets; 1 % in every window of 10 refills.
fn is_exact(size: u64, refill_ms: u64, packet: u64) {
    let config = bandwidth(size, refill_ms);
    let refill = refill_ms * MS;
    for (name, mut limiter) in every_kind(&config) {
        let mut judge = Judge::of(&config.bandwidth.unwrap(), packet);
        let mut taken = Vec::new();
        let mut now = 0;
        while now < 30 * refill || taken.len() < 200 {
            now = take_soon(&mut limiter, now, packet, 1);
            judge.saw(now, packet);
            taken.push(now);
        }
        // Past the first burst, each stretch of packets that spans 10 refills has the rate.
        let steady = taken.partition_point(|at| *at < 2 * refill);
        let (from, to) = (taken[steady], *taken.last().unwrap());
        let packets = (taken.len() - 1 - steady) as f64;
        let rate = size as f64 / refill as f64;
        assert_close(
            packets * packet as f64 / (to - from) as f64,
            rate,
            1.0,
            name,
        );
        for (index, from) in taken.iter().enumerate().skip(steady) {
            let end = taken.partition_point(|at| *at < from + 10 * refill);
            if let Some(to) = taken.get(end) {
                let bytes = (end - index) as f64 * packet as f64;
                assert_close(bytes / (to - from) as f64, rate, 1.0, name);
            }
        }
    }
}

#[test]
fn packet_one_byte_larger_than_a_small_bucket() {
    is_exact(1000, 1000, 1001);
}

#[test]
fn packet_one_byte_larger_than_64_kib_does_not_stall() {
    is_exact(65_536, 1000, 65_537);
}

#[test]
fn large_segments_at_a_megabyte_per_second() {
    is_exact(1_000_000, 1000, 65_000);
}

#[test]
fn largest_segments_from_a_128_kib_bucket() {
    is_exact(131_072, 1000, 65_562);
}

#[test]
fn short_refill_time() {
    is_exact(100_000, 10, 1500);
}

#[test]
fn debt_below_a_millisecond_is_waited_for() {
    for (name, mut limiter) in every_kind(&bandwidth(1_000_000, 1)) {
        limiter.force(0, 1_000_001, 1);
        let deadline = limiter.take(0, 1, 1).unwrap_err();
        assert_eq!(
            deadline.ns(),
            2,
            "{name}: one byte of debt and one to take, at 1 byte per ns"
        );
        limiter.take(2, 1, 1).unwrap();
    }
}
