//! Tokens that members hold, reserve, give back and report, as the level of their group shows it.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{MS, bandwidth, bucket, member};
use rate_limiter::{Deadline, Group, Level, Levels, Member, RateLimiterConfig};

const US: u64 = 1000;

/// A group that gets one byte in a microsecond, and its members.
fn shared(size: u64, members: usize) -> (Group, Vec<Member>) {
    let group = Group::new(&bandwidth(size, size / 1000)).unwrap();
    let members = (0..members).map(|_| member(&group)).collect();
    (group, members)
}

/// Uses `bytes` at once, and tells the others.
fn use_up(member: &mut Member, bytes: u64) {
    member.force(0, bytes, 1);
    member.idle(0);
}

/// A member, and how often it was woken.
fn waiter(group: &Group) -> (Member, Arc<AtomicU64>) {
    let woken = Arc::new(AtomicU64::new(0));
    let count = woken.clone();
    let wake = move || {
        count.fetch_add(1, Relaxed);
    };
    (group.member(Arc::new(wake)), woken)
}

fn level(group: &Group, now: u64) -> i64 {
    let level = group.levels(now).bandwidth.unwrap();
    assert_eq!(level.fraction, 0, "no part of a microsecond");
    level.tokens
}

#[test]
fn an_advance_is_a_share_of_an_eighth_of_the_burst() {
    for (size, members, held) in [
        (8000, 1, 1000),
        (8000, 4, 250),
        (1_600_000, 4, 50_000),
        (16_000_000, 1, 65_536),
        (16_000_000, 4, 65_536),
    ] {
        let (group, mut queues) = shared(size, members);
        queues[0].take(0, 1, 1).unwrap();
        let what = format!("{members} members of {size}");
        assert_eq!(level(&group, 0), size as i64 - held, "{what}");
        queues[0].idle(0);
        assert_eq!(level(&group, 0), size as i64 - 1, "{what}");
    }
}

#[test]
fn an_advance_of_frames_is_one_batch() {
    let config = RateLimiterConfig {
        ops: Some(bucket(8000, 8)),
        ..Default::default()
    };
    let group = Group::new(&config).unwrap();
    let mut queue = member(&group);
    queue.take(0, 1500, 1).unwrap();
    assert_eq!(group.levels(0).ops.unwrap().tokens, 8000 - 64);
}

#[test]
fn an_advance_is_no_more_than_there_is() {
    let (group, mut queues) = shared(8000, 1);
    queues[0].force(0, 7500, 1);
    assert_eq!(level(&group, 0), 500, "what is forced takes no advance");
    queues[0].take(0, 1, 1).unwrap();
    assert_eq!(level(&group, 0), 0);
    // A frame that is larger than an advance takes none.
    let (group, mut queues) = shared(8000, 1);
    queues[0].take(0, 3000, 1).unwrap();
    assert_eq!(level(&group, 0), 5000);
    queues[0].take(0, 5000, 1).unwrap();
    assert_eq!(level(&group, 0), 0);
}

#[test]
fn a_member_that_waits_reserves_its_quantum_or_its_frame() {
    for (size, members, frame, reserved) in [
        (8000, 1, 100, 100),
        (8000, 2, 100, 2000),
        (8000, 4, 100, 1000),
        (8000, 2, 3000, 3000),
        (16_000_000, 2, 100, 65_536),
    ] {
        let (group, mut queues) = shared(size, members);
        use_up(&mut queues[0], size + 1);
        assert_eq!(level(&group, 0), -1);
        let last = &mut queues[members - 1];
        let conforms = (reserved + 1) * US;
        assert_eq!(last.take(0, frame, 1), Err(Deadline::at(conforms)));
        assert_eq!(level(&group, 0), -1 - reserved as i64);
        let early = last.take(conforms - 1, frame, 1);
        assert_eq!(early, Err(Deadline::at(conforms)));
        last.take(conforms, frame, 1).unwrap();
        assert_eq!(level(&group, conforms), 0);
    }
}

#[test]
fn a_frame_larger_than_the_burst_waits_until_the_bucket_is_full() {
    let (group, mut queues) = shared(8000, 2);
    use_up(&mut queues[0], 8000);
    let full = Err(Deadline::at(8000 * US));
    assert_eq!(queues[1].take(0, 10_000, 1), full);
    assert_eq!(level(&group, 0), -10_000);
    queues[1].take(8000 * US, 10_000, 1).unwrap();
    assert_eq!(level(&group, 8000 * US), -2000);
}

#[test]
fn what_is_in_hand_goes_back_before_all_of_a_frame_is_reserved() {
    let (group, mut queues) = shared(8000, 2);
    queues[1].take(0, 1, 1).unwrap(); // and 499 of its advance stay
    queues[0].force(0, 7500, 1);
    assert_eq!(level(&group, 0), 0);
    assert_eq!(
        queues[1].take(0, 1000, 1),
        Err(Deadline::at(501 * US)),
        "with room for a part of it"
    );
    assert_eq!(level(&group, 0), -501);

    let (group, mut queues) = shared(8000, 2);
    queues[1].take(0, 1, 1).unwrap();
    queues[0].force(0, 8500, 1);
    assert_eq!(
        queues[1].take(0, 1000, 1),
        Err(Deadline::at(3000 * US)),
        "with no room, the quantum beside what it had"
    );
    assert_eq!(level(&group, 0), -3000);
}

#[test]
fn a_deadline_keeps_a_place_and_takes_nothing() {
    let (group, mut queues) = shared(8000, 1);
    assert_eq!(queues[0].deadline(0, 8000, 1), None);
    queues[0].take(0, 8000, 1).unwrap();
    assert_eq!(queues[0].deadline(0, 0, 1), None, "no bytes, no wait");
    let deadline = Some(Deadline::at(500 * US));
    assert_eq!(queues[0].deadline(0, 500, 1), deadline);
    assert_eq!(queues[0].deadline(0, 500, 1), deadline, "the same place");
    assert_eq!(queues[0].deadline(500 * US, 500, 1), None);
    assert_eq!(level(&group, 500 * US), 0, "it is held");
    queues[0].idle(500 * US);
    assert_eq!(level(&group, 500 * US), 500, "it was not used");
}

#[test]
fn use_of_an_advance_is_reported_late_and_the_clock_stands_so_long() {
    let (group, mut queues) = shared(8000, 1);
    queues[0].take(0, 1, 1).unwrap(); // 999 stay in hand
    for bytes in [500, 470, 25] {
        queues[0].take(100 * US, bytes, 1).unwrap();
    }
    assert_eq!(level(&group, 100 * US), 7001, "as if only 1 was used");
    queues[0].idle(1000 * US); // 995 were used at 100 us, 4 go back
    assert_eq!(level(&group, 1000 * US), 8000 - 996 + 901);
    assert_eq!(level(&group, 2000 * US), 8000);
}

#[test]
fn a_take_after_a_look_at_its_deadline_is_paid_from_the_hand_and_reported_late_as_well() {
    let (group, mut queues) = shared(8000, 1);
    queues[0].take(0, 1, 1).unwrap(); // 999 stay in hand
    assert_eq!(queues[0].deadline(100 * US, 500, 1), None);
    queues[0].take(100 * US, 500, 1).unwrap();
    assert_eq!(level(&group, 200 * US), 7001, "as if only 1 was used");
}

#[test]
fn a_refund_keeps_an_advance_and_gives_back_the_rest() {
    for (members, level_after) in [(1, 6000), (4, 8000 - 1000 - 250)] {
        let (group, mut queues) = shared(8000, members);
        queues[0].take(0, 5000, 1).unwrap();
        queues[0].refund(4000, 1);
        assert_eq!(level(&group, 0), level_after, "{members} members");
        queues[0].idle(0);
        assert_eq!(level(&group, 0), 7000, "{members} members");
        // What came back is not counted as used: it can be had again, and no more.
        queues[0].take(0, 7000, 1).unwrap();
        assert_eq!(queues[0].take(0, 1, 1), Err(Deadline::at(US)));
    }
}

#[test]
fn what_a_refund_leaves_in_hand_is_not_counted_as_used() {
    let (group, mut queues) = shared(8000, 1);
    queues[0].take(0, 5000, 1).unwrap();
    queues[0].refund(4000, 1); // 1000 stay in hand
    let later = 5000 * US;
    assert_eq!(level(&group, later), 7000);
    queues[0].take(later, 1000, 1).unwrap();
    assert_eq!(level(&group, later), 7000);
    queues[0].idle(later);
    assert_eq!(level(&group, later), 7000);
    assert_eq!(level(&group, later + 1000 * US), 8000);
}

#[test]
fn a_member_that_leaves_keeps_not_even_a_fraction() {
    // Three bytes in seven milliseconds: no whole number of nanoseconds brings one.
    let group = Group::new(&bandwidth(3000, 7000)).unwrap();
    let mut queue = member(&group);
    queue.take(0, 1, 1).unwrap();
    drop(queue);
    let level = group.levels(3_600_000 * MS).bandwidth.unwrap();
    assert_eq!((level.tokens, level.fraction), (3000, 0));
}

#[test]
fn who_waits_is_woken_when_all_that_is_reserved_is_there() {
    for refund in [true, false] {
        let (group, mut queues) = shared(8000, 1);
        let (mut waiter, woken) = waiter(&group);
        queues[0].force(0, 10_000, 1);
        waiter.take(0, 500, 1).unwrap_err();
        assert_eq!(level(&group, 0), -4000);
        queues[0].refund(3000, 1); // 500 of it stay in hand
        assert_eq!(level(&group, 0), -1500);
        assert_eq!(woken.load(Relaxed), 0, "not all of it is there");
        if refund {
            queues[0].refund(1500, 1);
            assert_eq!(level(&group, 0), 0);
        } else {
            queues[0].refund(1000, 1);
            assert_eq!((level(&group, 0), woken.load(Relaxed)), (-500, 0));
            queues[0].idle(0);
            assert_eq!(level(&group, 0), 0);
        }
        assert_eq!(woken.load(Relaxed), 1);
        waiter.take(0, 500, 1).unwrap();
        assert_eq!(level(&group, 0), 0, "the rest of its quantum is in hand");
        waiter.take(0, 1500, 1).unwrap();
        assert_eq!(level(&group, 0), 0);
    }
}

#[test]
fn an_idle_member_wakes_nobody_for_whom_it_is_too_little() {
    let (group, mut queues) = shared(8000, 1);
    let (mut waiter, woken) = waiter(&group);
    queues[0].force(0, 10_000, 1);
    waiter.take(0, 500, 1).unwrap_err();
    queues[0].refund(400, 1); // all of it stays in hand
    assert_eq!(level(&group, 0), -4000);
    queues[0].idle(0);
    assert_eq!((level(&group, 0), woken.load(Relaxed)), (-3600, 0));
}

#[test]
fn an_idle_member_that_waited_does_not_stay_among_those_that_wait() {
    let (group, mut queues) = shared(8000, 1);
    let (mut waiter, woken) = waiter(&group);
    queues[0].take(0, 8000, 1).unwrap();
    waiter.take(0, 500, 1).unwrap_err();
    waiter.idle(0);
    assert_eq!(level(&group, 0), 0, "its place is free again");
    queues[0].refund(8000, 1);
    assert_eq!(woken.load(Relaxed), 0);
    drop(waiter);
    queues[0].idle(0);
    // Alone by now, it has the advance of one member.
    queues[0].take(0, 1, 1).unwrap();
    assert_eq!(level(&group, 0), 7000);
}

#[test]
fn who_no_longer_waits_is_not_woken_for_another() {
    let (group, mut queues) = shared(8000, 1);
    let woken = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
    let mut waiters = woken.clone().map(|count| {
        group.member(Arc::new(move || {
            count.fetch_add(1, Relaxed);
        }))
    });
    queues[0].take(0, 8000, 1).unwrap();
    for waiter in &mut waiters {
        waiter.take(0, 500, 1).unwrap_err();
    }
    waiters[1].idle(0);
    queues[0].refund(8000, 1);
    queues[0].idle(0);
    assert_eq!(woken.map(|count| count.load(Relaxed)), [1, 0]);
}

#[test]
fn a_place_that_others_queue_behind_lapses() {
    let (group, mut queues) = shared(8000, 3);
    use_up(&mut queues[0], 8000);
    queues[1].take(0, 2000, 1).unwrap_err();
    let second = queues[2].take(0, 2000, 1).unwrap_err();
    assert_eq!(second, Deadline::at(4000 * US));
    queues[1].idle(0);
    assert_eq!(level(&group, 0), -4000, "the second was told its time");
    queues[2].take(second.ns(), 2000, 1).unwrap();
    queues[2].idle(second.ns());
    assert_eq!(level(&group, second.ns()), 0);
    assert_eq!(level(&group, 12_000 * US), 8000, "nothing is lost for good");
    // The last in the queue leaves it as it was.
    let (group, mut queues) = shared(8000, 3);
    use_up(&mut queues[0], 8000);
    queues[1].take(0, 2000, 1).unwrap_err();
    queues[2].take(0, 2000, 1).unwrap_err();
    queues[2].idle(0);
    assert_eq!(level(&group, 0), -2000);
}

#[test]
fn a_frame_of_almost_the_whole_burst_does_not_wait_for_advances() {
    let (group, mut queues) = shared(8000, 2);
    queues[0].take(0, 1, 1).unwrap(); // 499 more are held, and not used
    let deadline = queues[1].take(0, 7990, 1).unwrap_err();
    assert_eq!(deadline, Deadline::at(490 * US));
    queues[1].take(490 * US, 7990, 1).unwrap();
    assert_eq!(level(&group, 490 * US), 8000 - 8490 + 1);
}

#[test]
fn a_frame_that_leaves_room_for_all_advances_waits_for_what_is_held() {
    // One byte a nanosecond. All advances are an eighth, and each member may keep a fraction.
    let (size, little) = (8_000_000, 1_000_000 + 2);
    for (frame, held, passes) in [
        (size - little, 1_500_000, false),
        (size - little + 1, 1_500_001, true),
    ] {
        let group = Group::new(&bandwidth(size, 8)).unwrap();
        let (mut holder, mut queue) = (member(&group), member(&group));
        assert_eq!(holder.deadline(0, held, 1), None, "it holds, and uses none");
        let waits = Err(Deadline::at(held + frame - size));
        let expected = if passes { Ok(()) } else { waits };
        assert_eq!(queue.take(0, frame, 1), expected, "{frame}");
    }
}

#[test]
fn an_advance_outlives_a_change_of_the_rate() {
    let (group, mut queues) = shared(8000, 1);
    queues[0].take(0, 1, 1).unwrap(); // 999 stay in hand
    group.update(0, &bandwidth(16_000, 8)).unwrap(); // two bytes a microsecond
    let tokens = |now| group.levels(now).bandwidth.unwrap().tokens;
    assert_eq!(tokens(0), 7000);
    assert_eq!(tokens(4000 * US), 15_000);
    let full = tokens(20 * MS);
    assert!((15_000..=15_001).contains(&full), "999 are held: {full}");
    queues[0].take(20 * MS, 999, 1).unwrap();
    assert!((15_000..=15_001).contains(&tokens(20 * MS)));
    queues[0].idle(20 * MS);
    assert!((15_998..=16_000).contains(&tokens(30 * MS)));
}

#[test]
fn restored_levels_leave_members_what_they_hold() {
    let (group, mut queues) = shared(8000, 1);
    queues[0].take(0, 1, 1).unwrap(); // 999 stay in hand
    let full = Level {
        tokens: 8000,
        ..Default::default()
    };
    let levels = Levels {
        bandwidth: Some(full),
        ..Default::default()
    };
    group.restore(0, &levels);
    assert_eq!(level(&group, 0), 7001, "as full as that leaves it");
    assert_eq!(level(&group, MS), 7001);
    queues[0].idle(MS);
    assert_eq!(level(&group, MS), 8000);
}

#[test]
fn a_place_in_the_queue_is_reserved_again_at_the_new_rate() {
    let (group, mut queues) = shared(8000, 2);
    use_up(&mut queues[0], 8001);
    queues[1].take(0, 500, 1).unwrap_err();
    assert_eq!(level(&group, 0), -2001);
    group.update(0, &bandwidth(8000, 4)).unwrap(); // two bytes a microsecond
    assert_eq!(level(&group, 0), -2001, "until its member comes back");
    let again = Deadline::at(1_000_500);
    assert_eq!(queues[1].take(0, 500, 1), Err(again));
    assert_eq!(level(&group, 0), -2001, "2000 of it once, not twice");
    queues[1].take(again.ns(), 500, 1).unwrap();
}

#[test]
fn nobody_waits_longer_than_a_burst_for_use_that_is_not_reported() {
    let (_, mut queues) = shared(8000, 2);
    use_up(&mut queues[0], 1500);
    queues[0].force(0, 6501, 1); // and is not heard of again: the clock stands at 1500
    let (mut now, mut deadlines) = (0, Vec::new());
    while let Err(deadline) = queues[1].take(now, 100, 1) {
        now = deadline.ns();
        deadlines.push(now / US);
    }
    let looks = [2001, 3001, 4001, 5001, 6001, 7001, 8001, 9001, 10_001];
    assert_eq!(deadlines, looks, "an eighth of the burst apart");
}

#[test]
fn a_place_pays_for_what_its_member_forces_and_does_not_lapse() {
    for forced in [1, 500, 1999, 2000, 3000] {
        let (group, mut queues) = shared(8000, 2);
        use_up(&mut queues[1], 9000);
        // It waits for a quantum of 2000 bytes, of which it uses a part early.
        let waits = queues[0].take(0, 1, 1).expect_err("there is a debt");
        assert_eq!(waits.ns(), 3000 * US);
        queues[0].force(0, forced, 1);
        let again = queues[0].take(0, 1, 1).expect_err("it is not paid yet");
        let due = if forced < 2000 { 3000 } else { forced + 3000 };
        assert_eq!(again.ns(), due * US, "{forced} bytes");
        queues[0].idle(0);
        assert_eq!(level(&group, 0), -1000 - forced as i64, "{forced} bytes");
    }
}
