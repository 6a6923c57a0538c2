use std::cell::Cell;

use super::{BusyPoll, GiveWay, LONG, REST};

/// Asks at `now`; whether it looks, and whether it read the clock.
fn ask(poll: &mut BusyPoll, now: u64) -> (bool, bool) {
    let read = Cell::new(false);
    let looks = poll.looks(|| {
        read.set(true);
        now
    });
    (looks, read.get())
}

#[test]
fn without_a_limit_a_worker_sleeps_at_once_and_reads_no_clock() {
    let mut poll = BusyPoll::new(0);
    assert_eq!(ask(&mut poll, 5), (false, false));
    poll.passed(1);
    assert_eq!(ask(&mut poll, 6), (false, false));
}

#[test]
fn the_time_begins_when_frames_run_out() {
    let mut poll = BusyPoll::new(50);
    assert_eq!(ask(&mut poll, 1_000), (true, true));
    assert_eq!(ask(&mut poll, 50_999), (true, true));
    assert_eq!(ask(&mut poll, 51_000), (false, true));
    // An event that brings none changes nothing.
    poll.passed(0);
    assert!(!ask(&mut poll, 70_000).0);
}

#[test]
fn frames_start_the_time_again() {
    let mut poll = BusyPoll::new(50);
    assert!(ask(&mut poll, 0).0);
    assert!(!ask(&mut poll, 50_000).0);
    poll.passed(1);
    assert!(ask(&mut poll, 60_000).0);
    assert!(ask(&mut poll, 109_999).0);
    assert!(!ask(&mut poll, 110_000).0);
}

#[test]
fn the_end_of_the_clock_is_no_overflow() {
    let mut poll = BusyPoll::new(1_000);
    assert!(ask(&mut poll, u64::MAX - 1).0);
    assert!(!ask(&mut poll, u64::MAX).0);
}

/// Lets it look at `now`, where others take so long; returns whether it gave way.
fn give_way(idle: &mut GiveWay, now: u64, others: u64) -> bool {
    let clock = Cell::new(now);
    let looks = idle.looks(|| clock.get(), || clock.set(now + others.max(1)));
    assert_eq!(looks, clock.get() > now);
    looks
}

#[test]
fn a_worker_gives_way_once_behind_several_frames() {
    let mut idle = GiveWay::default();
    assert!(!give_way(&mut idle, 0, 5));
    idle.passed(1);
    assert!(!give_way(&mut idle, 10, 5), "behind one frame");
    idle.passed(2);
    idle.passed(0);
    assert!(give_way(&mut idle, 20, 5));
    assert!(!give_way(&mut idle, 30, 5), "for the same frames");
    idle.passed(2);
    assert!(give_way(&mut idle, 40, LONG));
}

#[test]
fn a_worker_that_waited_for_long_rests_for_a_multiple_of_it() {
    let mut idle = GiveWay::default();
    let others = LONG + 1;
    idle.passed(2);
    assert!(give_way(&mut idle, 0, others));
    let rest = others + others * REST;
    idle.passed(2);
    assert!(!give_way(&mut idle, rest - 1, others));
    // What passed in the rest has had its look.
    assert!(!give_way(&mut idle, rest, others));
    idle.passed(2);
    assert!(give_way(&mut idle, rest, 1));
    idle.passed(2);
    assert!(give_way(&mut idle, rest + 1, 1));
}
