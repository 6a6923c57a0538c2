//! Groups: never too much at any level, fair, nobody waits past the deadline, all comes back.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{Judge, MS, assert_close, bandwidth, bucket, member};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use rate_limiter::{Deadline, Group, Limiter, Member, RateLimiter, RateLimiterConfig};

#[derive(Debug, Clone, Copy)]
enum Op {
    /// The member tries what it wants: something of this size unless it waits already.
    Take(u64),
    Idle,
    /// Takes and gives back a part.
    TakeAndRefund(u64, u64),
    Rejoin,
    Wait(u64),
}

fn ops(largest: u64, longest: u64) -> impl Strategy<Value = Vec<(usize, Op)>> {
    let op = prop_oneof![
        8 => (1..largest).prop_map(Op::Take),
        1 => Just(Op::Idle),
        1 => (1..largest, 0..largest).prop_map(|(cost, back)| Op::TakeAndRefund(cost, back)),
        1 => Just(Op::Rejoin),
        4 => (0..longest).prop_map(Op::Wait),
    ];
    prop::collection::vec((0usize..4, op), 1..150)
}

/// A member and the frame it has in hand.
struct Queue {
    group: Group,
    member: Member,
    wants: Option<(u64, Deadline)>,
    refused: u32,
}

impl Queue {
    fn new(group: &Group) -> Self {
        Self {
            group: group.clone(),
            member: member(group),
            wants: None,
            refused: 0,
        }
    }

    /// Tokens that it used.
    fn step(&mut self, op: Op, now: u64) -> u64 {
        match op {
            Op::Take(cost) if self.wants.is_none() => return self.take(cost, now),
            Op::TakeAndRefund(cost, back) if self.wants.is_none() => {
                if self.member.take(now, cost, 1).is_ok() {
                    let back = back.min(cost);
                    self.member.refund(back, 0);
                    return cost - back;
                }
                self.member.idle(now);
            }
            Op::Idle => {
                self.member.idle(now);
                self.wants = None;
            }
            Op::Rejoin => *self = Self::new(&self.group),
            Op::Wait(_) | Op::Take(_) | Op::TakeAndRefund(..) => {}
        }
        0
    }

    fn take(&mut self, cost: u64, now: u64) -> u64 {
        match self.member.take(now, cost, 1) {
            Ok(()) => {
                (self.wants, self.refused) = (None, 0);
                cost
            }
            Err(deadline) => {
                assert!(deadline.ns() > now, "a deadline is ahead");
                self.wants = Some((cost, deadline));
                self.refused += 1;
                assert!(self.refused < 100, "stalls");
                0
            }
        }
    }
}

/// Lives through the operations; all that wait come back at their deadlines.
fn live(queues: &mut [Queue], ops: &[(usize, Op)], mut saw: impl FnMut(u64, usize, u64)) -> u64 {
    let mut now = 1;
    for (who, op) in ops {
        if let Op::Wait(ns) = op {
            let until = now + ns;
            let next = |queues: &[Queue]| {
                let due = |queue: &Queue| queue.wants.map(|(_, deadline)| deadline.ns());
                (0..queues.len())
                    .filter_map(|i| Some((due(&queues[i])?, i)))
                    .min()
            };
            while let Some((at, index)) = next(queues).filter(|(at, _)| *at <= until) {
                now = now.max(at);
                let (cost, _) = queues[index].wants.unwrap();
                saw(now, index, queues[index].take(cost, now));
            }
            now = until;
        } else {
            saw(now, *who, queues[*who].step(*op, now));
        }
    }
    now
}

/// The same operations with frames of up to `largest`.
fn resized(ops: &[(usize, Op)], largest: u64) -> Vec<(usize, Op)> {
    let fit = |cost: u64| cost % largest + 1;
    let resize = |op| match op {
        Op::Take(cost) => Op::Take(fit(cost)),
        Op::TakeAndRefund(cost, back) => Op::TakeAndRefund(fit(cost), back),
        op => op,
    };
    ops.iter().map(|(who, op)| (*who, resize(*op))).collect()
}

/// Four members take frames of up to `largest`; in the end all is back to the last part.
fn share_one_group(
    size: u64,
    ms: u64,
    largest: u64,
    mut judge: Judge,
    ops: &[(usize, Op)],
) -> TestCaseResult {
    let group = Group::new(&bandwidth(size, ms)).unwrap();
    let mut queues: Vec<Queue> = (0..4).map(|_| Queue::new(&group)).collect();
    let ops = resized(ops, largest);
    live(&mut queues, &ops, |now, _, used| judge.saw(now, used));
    drop(queues);
    let full = group.levels(u64::MAX / 4).bandwidth.unwrap();
    prop_assert_eq!(
        (full.tokens, full.fraction),
        (i64::try_from(size).unwrap(), 0)
    );
    Ok(())
}

proptest! {
    #[test]
    fn members_never_exceed_their_group_nor_stall(
        (size, ms) in (8u64..1_000_000, 1u64..50),
        ops in ops(300_000, 30 * MS),
    ) {
        let judge = Judge::of_group(&bucket(size, ms), 0, 4);
        share_one_group(size, ms, size / 2, judge, &ops)?;
    }

    #[test]
    fn frames_of_any_size_pass_a_group(
        (size, ms) in (1u64..200_000, 1u64..50),
        ops in ops(300_000, 30 * MS),
    ) {
        // A frame of almost the whole burst does not wait for what others hold in advance.
        let judge = Judge::of_group(&bucket(size, ms), 300_000 + size / 4, 4);
        share_one_group(size, ms, 300_000, judge, &ops)?;
    }

    #[test]
    fn every_level_holds_and_nothing_is_lost(
        (outer, inner) in (1000u64..100_000, 1000u64..100_000),
        ops in ops(300_000, 30 * MS),
    ) {
        // So that waiting for the outer group does not take longer than the inner one's refill.
        let ops = resized(&ops, outer.min(inner) / 8);
        let root = Group::new(&bandwidth(outer, 10)).unwrap();
        let devices = [0, 1].map(|_| root.within(&bandwidth(inner, 20)).unwrap());
        let mut queues: Vec<Queue> = (0..4).map(|i| Queue::new(&devices[i / 2])).collect();
        let mut judge = Judge::of_group(&bucket(outer, 10), 0, 4);
        let mut judges = [0, 1].map(|_| Judge::of_group(&bucket(inner, 20), 0, 2));
        let now = live(&mut queues, &ops, |now, who, used| {
            judge.saw(now, used);
            judges[who / 2].saw(now, used);
        });
        queues.iter_mut().for_each(|queue| queue.member.idle(now));
        for (group, size) in [(&root, outer), (&devices[0], inner), (&devices[1], inner)] {
            // Each may hold back the fraction of a nanosecond.
            let full = group.levels(u64::MAX / 2).bandwidth.unwrap();
            prop_assert!(i64::try_from(size).unwrap() - full.tokens <= 1);
        }
    }

    /// Advances and fractions must not show: a lone member is a limiter of its own.
    #[test]
    fn a_lone_member_is_a_limiter_of_its_own(
        (size, ms) in (1u64..1 << 20, 1u64..100),
        frames in prop::collection::vec((1u64..70_000, 0u64..20 * MS), 1..200),
    ) {
        let config = bandwidth(size, ms);
        let mut own: Limiter = RateLimiter::new(&config).unwrap().into();
        let mut shared: Limiter = member(&Group::new(&config).unwrap()).into();
        let (mut a, mut b, mut full) = (0, 0, 0);
        for (bytes, pause) in frames {
            let bytes = bytes.min(size);
            let arrival = a.max(b) + pause;
            a = common::take_soon(&mut own, arrival, bytes, 1);
            b = common::take_soon(&mut shared, arrival, bytes, 1);
            // Either may lose what overflows within a nanosecond, each time it is full; and the
            // group takes an advance for used until it is told, which is never lost twice.
            full += 1;
            prop_assert!(b + full >= a, "own {} shared {}", a, b);
            prop_assert!(a + full + ms * MS / 8 >= b, "own {} shared {}", a, b);
        }
    }

    #[test]
    fn no_number_overflows(
        (size, ms) in (1u64..1 << 56, 1u64..1 << 40),
        steps in prop::collection::vec(any::<(u64, u64, u64, u8)>(), 1..60),
    ) {
        let group = Group::new(&bandwidth(size, ms)).unwrap();
        let mut members = [member(&group), member(&group)];
        for (now, bytes, ops, what) in steps {
            let member = &mut members[usize::from(what & 1)];
            match what / 2 % 6 {
                0 | 1 => drop(member.take(now, bytes, ops)),
                2 => member.force(now, bytes, ops),
                3 => member.refund(bytes, ops),
                4 => member.idle(now),
                _ => drop(group.update(now, &bandwidth(bytes >> 8, ops))),
            }
            let _ = group.levels(now);
        }
    }
}

/// Greedy queues with frames of these sizes, each coming back at its deadline, and at last served
/// what it waits for: bytes of each, and when that was.
fn greedy(
    groups: &[&Group],
    frames: &[u64],
    until: u64,
    mut saw: impl FnMut(u64, u64),
) -> (Vec<u64>, u64) {
    let mut queues: Vec<Queue> = groups.iter().map(|group| Queue::new(group)).collect();
    let mut bytes = vec![0; queues.len()];
    let mut end = 0;
    loop {
        let time = |queue: &Queue| queue.wants.map_or(0, |(_, deadline)| deadline.ns());
        let due = (0..queues.len()).filter(|i| end < until || queues[*i].wants.is_some());
        let Some(index) = due.min_by_key(|index| time(&queues[*index])) else {
            return (bytes, end);
        };
        end = end.max(time(&queues[index]));
        let used = queues[index].take(frames[index], end);
        saw(end, used);
        bytes[index] += used;
    }
}

#[test]
fn greedy_members_share_equally_and_use_everything() {
    for (size, ms) in [
        (8000, 1000),
        (100_000, 10),
        (1_000_000, 100),
        (12_500_000, 10),
        (64, 1),
    ] {
        for queues in [1, 2, 3, 8] {
            for frame in [64, 1514, 65_562] {
                let group = Group::new(&bandwidth(size, ms)).unwrap();
                let mut judge = Judge::of(&bucket(size, ms), frame);
                member(&group).force(0, size, 1); // a first burst would go to the first
                judge.saw(0, size);
                let rate = size as f64 / (ms * MS) as f64;
                let turn = (size / 2 / queues as u64).min(65_536).max(frame);
                let until = (40 * queues as u64 * turn) as f64 / rate;
                let groups = vec![&group; queues];
                let frames = vec![frame; queues];
                let (bytes, end) = greedy(&groups, &frames, until as u64, |now, cost| {
                    judge.saw(now, cost);
                });
                let what = format!("{queues} queues, {size} in {ms} ms, frame {frame}: {bytes:?}");
                let sum: u64 = bytes.iter().sum();
                // What was not taken is there, or owed.
                let left = group.levels(end).bandwidth.unwrap().tokens;
                assert_close(sum as f64 + left as f64, rate * end as f64, 0.001, &what);
                for share in &bytes {
                    assert_close(*share as f64, sum as f64 / queues as f64, 5.0, &what);
                }
            }
        }
    }
}

#[test]
fn shares_are_of_bytes_not_of_frames() {
    // A burst of at least twice the largest frame for each member.
    let group = Group::new(&bandwidth(500_000, 50)).unwrap();
    let frames = [64, 1514, 9014, 65_562];
    let (bytes, _) = greedy(&[&group; 4], &frames, 20_000 * MS, |_, _| {});
    for share in &bytes {
        assert_close(
            *share as f64,
            bytes.iter().sum::<u64>() as f64 / 4.0,
            5.0,
            "share",
        );
    }
}

#[test]
fn a_member_that_stays_below_its_share_leaves_the_rest_to_the_others() {
    let group = Group::new(&bandwidth(1_000_000, 100)).unwrap(); // 10 MB/s
    let (mut light, mut greedy) = (member(&group), member(&group));
    let (mut light_bytes, mut greedy_bytes, mut backlog, mut longest) = (0u32, 0u32, 0, 0);
    for now in (0..2000 * MS).step_by(10_000) {
        backlog += u32::from(now % MS == 0); // 1 MB/s
        while backlog > 0 && light.take(now, 1000, 1).is_ok() {
            light_bytes += 1000;
            backlog -= 1;
        }
        longest = longest.max(backlog);
        while greedy.take(now, 1500, 1).is_ok() {
            greedy_bytes += 1500;
        }
    }
    assert_close(f64::from(light_bytes), 2_000_000.0, 1.0, "light");
    assert_close(
        f64::from(light_bytes + greedy_bytes),
        21_000_000.0,
        1.0,
        "sum",
    );
    assert!(longest <= 10, "{longest} frames waited");
}

#[test]
fn queue_in_device_in_group_takes_from_all_or_none() {
    let root = Group::new(&bandwidth(100_000, 10)).unwrap(); // 10 MB/s
    let devices = [0, 1, 2].map(|_| root.within(&bandwidth(40_000, 10)).unwrap()); // 4 MB/s
    let groups = [
        &devices[0],
        &devices[0],
        &devices[1],
        &devices[1],
        &devices[2],
    ];
    let until = 3000 * MS;
    let mut judge = Judge::of(&bucket(100_000, 10), 1514);
    let (bytes, _) = greedy(&groups, &[1514; 5], until, |now, cost| judge.saw(now, cost));
    assert_close(bytes.iter().sum::<u64>() as f64, 30_100_000.0, 1.0, "root");
    // Alone with one other device, each gets all of its own 4 MB/s.
    let root = Group::new(&bandwidth(100_000, 10)).unwrap();
    let devices = [0, 1].map(|_| root.within(&bandwidth(40_000, 10)).unwrap());
    let groups = [&devices[0], &devices[0], &devices[0], &devices[1]];
    let (bytes, _) = greedy(&groups, &[1514; 4], until, |_, _| {});
    assert_close(
        bytes[..3].iter().sum::<u64>() as f64,
        12_040_000.0,
        1.0,
        "three queues",
    );
    assert_close(bytes[3] as f64, 12_040_000.0, 1.0, "one queue");
}

#[test]
fn refused_take_uses_nothing_of_any_level() {
    let config = RateLimiterConfig {
        bandwidth: Some(bucket(100_000, 100)),
        ops: Some(bucket(10, 1000)),
        peak_bandwidth: None,
    };
    let root = Group::new(&bandwidth(1_000_000, 1000)).unwrap();
    let device = root.within(&config).unwrap();
    let mut queue = member(&device);
    for _ in 0..10 {
        queue.take(0, 1000, 1).unwrap();
    }
    assert_eq!(queue.take(0, 1000, 1), Err(Deadline::at(100 * MS)));
    queue.idle(0);
    assert_eq!(device.levels(0).bandwidth.unwrap().tokens, 90_000);
    assert_eq!(device.levels(0).ops.unwrap().tokens, 0);
    assert_eq!(root.levels(0).bandwidth.unwrap().tokens, 990_000);
}

#[test]
fn a_waiter_is_woken_when_tokens_come_back_or_limits_change() {
    let group = Group::new(&bandwidth(10_000, 1000)).unwrap();
    let woken = Arc::new(AtomicU64::new(0));
    let count = woken.clone();
    let mut waiter = group.member(Arc::new(move || {
        count.fetch_add(1, Relaxed);
    }));
    let mut other = member(&group);
    other.take(0, 10_000, 1).unwrap();
    waiter.take(0, 5000, 1).unwrap_err();
    other.refund(10_000, 1);
    assert_eq!(woken.load(Relaxed), 1);
    waiter.take(0, 5000, 1).unwrap();
    other.idle(0);

    waiter.take(0, 10_000, 1).unwrap_err();
    group.update(0, &bandwidth(1_000_000, 1000)).unwrap();
    assert_eq!(woken.load(Relaxed), 2);
    assert_eq!(waiter.take(0, 10_000, 1), Err(Deadline::at(5 * MS)));

    waiter.idle(0);
    other.idle(0);
    group.update(0, &bandwidth(1000, 1000)).unwrap();
    assert_eq!(woken.load(Relaxed), 2, "nobody waits");
}

#[test]
fn dropping_a_member_gives_everything_back() {
    let group = Group::new(&bandwidth(100_000, 1000)).unwrap();
    let mut queues: Vec<Member> = (0..5).map(|_| member(&group)).collect();
    for queue in &mut queues {
        queue.take(0, 1, 1).unwrap(); // and an advance
    }
    for queue in &mut queues {
        queue.take(0, 99_996, 1).unwrap_err(); // and a place in the queue
    }
    // Who is last in the queue leaves it as it was; the place of others would lapse.
    while queues.pop().is_some() {}
    assert_eq!(group.levels(0).bandwidth.unwrap().tokens, 99_995);
}

#[test]
fn an_advance_that_was_kept_is_part_of_the_next_burst() {
    let group = Group::new(&bandwidth(8000, 8)).unwrap();
    let (mut first, mut second) = (member(&group), member(&group));
    first.take(0, 1, 1).unwrap(); // and an advance, which is not given back
    let later = 3_600_000 * MS;
    let take = |member: &mut Member| {
        (0..1000)
            .take_while(|_| member.take(later, 50, 1).is_ok())
            .count()
    };
    assert_eq!(take(&mut first) + take(&mut second), 8000 / 50);
}
