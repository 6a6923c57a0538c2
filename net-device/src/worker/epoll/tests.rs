use super::BusyPoll;

/// Asks at `now`; whether it looks, and whether it read the clock.
fn ask(poll: &mut BusyPoll, now: u64) -> (bool, bool) {
    let mut read = false;
    let looks = poll.looks(|| {
        read = true;
        now
    });
    (looks, read)
}

#[test]
fn without_a_limit_a_worker_sleeps_at_once_and_reads_no_clock() {
    let mut poll = BusyPoll::new(0);
    assert_eq!(ask(&mut poll, 5), (false, false));
    poll.reset();
    assert_eq!(ask(&mut poll, 6), (false, false));
}

#[test]
fn the_time_begins_when_frames_run_out() {
    let mut poll = BusyPoll::new(50);
    assert_eq!(ask(&mut poll, 1_000), (true, true));
    assert_eq!(ask(&mut poll, 50_999), (true, true));
    assert_eq!(ask(&mut poll, 51_000), (false, true));
    // An event that brings none changes nothing.
    assert!(!ask(&mut poll, 70_000).0);
}

#[test]
fn frames_start_the_time_again() {
    let mut poll = BusyPoll::new(50);
    assert!(ask(&mut poll, 0).0);
    assert!(!ask(&mut poll, 50_000).0);
    poll.reset();
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
