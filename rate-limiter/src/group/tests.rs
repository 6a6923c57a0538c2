//! Races: threads under `shuttle`, which runs each test under many interleavings of the atomics and
//! locks of [`crate::sync`] and reports a deadlock or a spin as a failure.

use std::sync::Arc;

use shuttle::sync::{Condvar, Mutex, mpsc};
use shuttle::thread;

use super::node::{Node, Waiter};
use super::{Group, Member};
use crate::{Levels, RateLimiterConfig, TokenBucketConfig};

const ITERATIONS: usize = 200;
const MS: u64 = 1_000_000;

/// One byte per microsecond: no fraction of a nanosecond is left anywhere.
fn microseconds(size: u64) -> RateLimiterConfig {
    let bucket = TokenBucketConfig {
        size,
        one_time_burst: None,
        refill_time: size / 1000,
    };
    RateLimiterConfig {
        bandwidth: Some(bucket),
        ..Default::default()
    }
}

fn member(group: &Group) -> Member {
    group.member(Arc::new(|| {}))
}

fn check(test: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(test.clone(), ITERATIONS);
    shuttle::check_pct(test, ITERATIONS, 3);
}

/// Runs `work` in one thread for each of `members`.
fn race<M: Send + 'static, T: Send + 'static>(
    members: Vec<M>,
    work: impl Fn(M) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let work = Arc::new(work);
    let spawn = |member: M| {
        let work = work.clone();
        thread::spawn(move || work(member))
    };
    let threads: Vec<_> = members.into_iter().map(spawn).collect();
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

fn level(group: &Group, now: u64) -> i64 {
    group.levels(now).bandwidth.unwrap().tokens
}

#[test]
fn what_is_taken_and_given_back_adds_up() {
    check(|| {
        let group = Group::new(&microseconds(16_000)).unwrap();
        let members = (0..3).map(|_| member(&group)).collect();
        let used: i64 = race(members, |mut member| {
            // Together less than what is there beside the advances of others: never refused.
            for _ in 0..3 {
                member.take(0, 1500, 1).unwrap();
            }
            member.refund(1000, 1);
            member.idle(0);
            member.take(0, 100, 1).unwrap();
            3600
        })
        .into_iter()
        .sum();
        assert_eq!(used + level(&group, 0), 16_000);
    });
}

#[test]
fn racing_members_never_take_more_than_there_is() {
    check(|| {
        let group = Group::new(&microseconds(8000)).unwrap();
        let device = group.within(&microseconds(6000)).unwrap();
        let members = vec![member(&group), member(&device), member(&device)];
        let used = race(members, |mut member| {
            (0..6)
                .map(|_| {
                    if member.take(0, 900, 1).is_ok() {
                        900
                    } else {
                        0
                    }
                })
                .sum::<i64>()
        });
        assert!(used[1] + used[2] <= 6000, "{used:?}");
        let all: i64 = used.iter().sum();
        assert!(all <= 8000, "{used:?}");
        assert!(all >= 4500, "{used:?}: a refusal with half of it left");
        assert!(all + level(&group, 0) <= 8000);
    });
}

/// Lets threads move through time on their own, but none further ahead of the others than a timer
/// may be late.
struct Pace {
    times: Mutex<Vec<u64>>,
    moved: Condvar,
}

impl Pace {
    fn wait_until(&self, who: usize, time: u64) {
        let mut times = self.times.lock().unwrap();
        times[who] = time;
        self.moved.notify_all();
        while time > times.iter().min().copied().unwrap_or(0).saturating_add(MS) {
            times = self.moved.wait(times).unwrap();
        }
    }
}

/// The uses in order of time, on a bucket that they may not empty.
fn assert_conforms(mut log: Vec<(u64, u64)>) {
    log.sort_unstable();
    let (mut ns, mut last) = (8 * MS, 0);
    for (now, bytes) in &log {
        ns = (ns + now - last).min(8 * MS);
        assert!(ns >= bytes * 1000, "too much at {now}: {log:?}");
        ns -= bytes * 1000;
        last = *now;
    }
}

#[test]
fn every_window_holds_under_races() {
    check(|| {
        let group = Group::new(&microseconds(8000)).unwrap();
        let pace = Pace {
            times: Mutex::new(vec![1; 3]),
            moved: Condvar::new(),
        };
        let members = (0..3).map(|who| (who, member(&group))).collect();
        let logs = race(members, move |(who, mut member)| {
            let (mut now, mut log) = (1, Vec::new());
            for bytes in [2500, 700, 1900, 3000] {
                while let Err(deadline) = member.take(now, bytes, 1) {
                    assert!(log.len() < 50, "stalls");
                    now = deadline.ns();
                    pace.wait_until(who, now);
                    log.push((now, 0));
                }
                log.push((now, bytes));
            }
            pace.wait_until(who, u64::MAX);
            log
        });
        assert_conforms(logs.concat());
    });
}

#[test]
fn updates_in_between_lose_and_invent_nothing() {
    check(|| {
        let group = Group::new(&microseconds(8000)).unwrap();
        let other = group.clone();
        let updates = thread::spawn(move || {
            for size in [4000, 8000, 16_000, 8000] {
                other.update(0, &microseconds(size)).unwrap();
            }
        });
        let used: i64 = race(vec![member(&group), member(&group)], |mut member| {
            (0..5)
                .map(|_| {
                    if member.take(0, 1000, 1).is_ok() {
                        1000
                    } else {
                        0
                    }
                })
                .sum::<i64>()
        })
        .into_iter()
        .sum();
        updates.join().unwrap();
        assert!(
            used + level(&group, 0) <= 8000,
            "{used} {}",
            level(&group, 0)
        );
        assert_eq!(level(&group, 3_600_000 * MS), 8000);
    });
}

#[test]
fn lifted_and_restored_limits_leave_nobody_behind() {
    check(|| {
        let group = Group::new(&microseconds(1000)).unwrap();
        let other = group.clone();
        let updates = thread::spawn(move || {
            let levels = other.levels(0);
            other.update(0, &RateLimiterConfig::default()).unwrap();
            other.restore(0, &levels);
            other.update(0, &microseconds(2000)).unwrap();
            other.restore(0, &levels);
        });
        race(vec![member(&group), member(&group)], |mut member| {
            for _ in 0..3 {
                if member.take(0, 400, 1).is_err() {
                    member.force(0, 400, 1);
                    member.refund(400, 1);
                }
            }
        });
        updates.join().unwrap();
        assert_eq!(level(&group, 3_600_000 * MS), 2000);
    });
}

/// The clock stands still, so a waiter that is not woken deadlocks, and `shuttle` tells.
#[test]
fn no_wake_is_lost() {
    check(|| {
        let group = Group::new(&microseconds(8000)).unwrap();
        let (send, woken) = mpsc::channel();
        let send = Mutex::new(send);
        let mut waiter = group.member(Arc::new(move || {
            let _ = send.lock().unwrap().send(());
        }));
        let mut holder = member(&group);
        holder.take(0, 8000, 1).unwrap();
        let thread = thread::spawn(move || {
            holder.refund(8000, 1);
            holder.idle(0);
            holder
        });
        while waiter.take(0, 8000, 1).is_err() {
            woken.recv().unwrap();
        }
        drop(thread.join().unwrap());
    });
}

/// The way past the credit is taken once after an update, not for ever.
#[test]
fn an_update_that_was_seen_is_no_news() {
    shuttle::check_random(
        || {
            let limits = microseconds(8000).limits().unwrap();
            let node = Node::new(None, &limits);
            let waiter = crate::sync::Arc::new(Waiter::new(Arc::new(|| {})));
            node.join(waiter.clone());
            assert!(!waiter.is_outdated());
            node.replace(0, None, &Levels::default());
            assert!(waiter.is_outdated());
            waiter.catch_up();
            assert!(!waiter.is_outdated());
            node.leave(&waiter);
            assert_eq!(node.members(), 0);
            node.replace(0, None, &Levels::default());
            assert!(!waiter.is_outdated(), "it is not a member");
        },
        1,
    );
}
