use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn params(max_packets: u32, max_usecs: u32) -> NotificationCoalescing {
    NotificationCoalescing {
        max_packets,
        max_usecs,
    }
}

fn moderation(max_packets: u32, max_usecs: u32) -> Moderation {
    let mut moderation = Moderation::default();
    moderation.set(params(max_packets, max_usecs));
    moderation
}

#[test]
fn net_cvq_25_it_is_due_by_number_or_by_time_whichever_comes_first() {
    let mut queue = moderation(15, 10_000);
    assert_eq!((queue.remaining(), queue.deadline()), (15, None));
    queue.count(10, 5 * MS);
    assert_eq!((queue.remaining(), queue.deadline()), (5, Some(15 * MS)));
    queue.count(4, 9 * MS);
    assert_eq!(queue.deadline(), Some(15 * MS), "from the first packet on");
    assert!(!queue.is_due(15 * MS - 1) && queue.is_due(15 * MS));
    queue.count(1, 9 * MS);
    assert!(queue.is_due(9 * MS));
    queue.reset();
    assert!(!queue.is_due(u64::MAX), "nothing waits");
    assert_eq!(queue.remaining(), 15);
}

#[test]
fn net_cvq_25_what_waits_is_judged_by_parameters_that_change() {
    let mut queue = moderation(15, 10_000);
    queue.count(10, MS);
    queue.set(params(8, 10_000));
    assert!(queue.is_due(MS));
    queue.set(params(15, 2000));
    assert!(!queue.is_due(2 * MS) && queue.is_due(3 * MS));
    queue.set(params(u32::MAX, u32::MAX));
    assert!(!queue.is_due(4000 * 1000 * MS) && queue.is_due(u64::MAX));
    for off in [params(0, 10), params(10, 0), params(0, 0)] {
        queue.set(off);
        assert!(!queue.is_on() && queue.is_due(MS));
    }
}

/// One queue of a worker: runs for packets that arrived, and a timer.
struct Worker {
    queue: Moderation,
    notified: Vec<u64>,
}

impl Worker {
    fn notify_if_due(&mut self, now: u64) {
        if self.queue.is_due(now) {
            self.notified.push(now);
            self.queue.reset();
        }
    }

    /// Time goes on to `now`: the timer expires on the way.
    fn pass(&mut self, now: u64) {
        if let Some(deadline) = self.queue.deadline().filter(|deadline| *deadline <= now) {
            self.notify_if_due(deadline);
        }
    }

    /// `count` packets arrive, and are taken in runs.
    fn arrive(&mut self, mut count: u64, now: u64) {
        while count > 0 {
            let run = count.min(self.queue.remaining().into()).min(128);
            self.queue.count(run, now);
            self.notify_if_due(now);
            count -= run;
        }
    }
}

#[test]
fn net_cvq_25_steady_traffic_is_notified_of_as_often_as_the_parameters_say() {
    // A packet each 10 us for a second.
    for (max_packets, max_usecs, expected) in [
        (16, 10_000, 100_000 / 16),
        (1000, 1_000_000, 100),
        (1, 50, 100_000),
        // The time from a packet on, and to the next one.
        (1_000_000, 490, 100_000 / 50),
    ] {
        let queue = moderation(max_packets, max_usecs);
        let mut worker = Worker {
            queue,
            notified: Vec::new(),
        };
        for packet in 0..100_000 {
            let now = packet * 10_000;
            worker.pass(now);
            worker.arrive(1, now);
        }
        let count = worker.notified.len();
        assert!(count.abs_diff(expected) * 20 <= expected, "{count}");
    }
}

proptest! {
    /// None is lost, none waits longer than it may, and none comes early, however count and time
    /// race.
    #[test]
    fn net_cvq_25_count_and_time_race_over_a_modelled_clock(
        max_packets in 1u32..40,
        max_usecs in 1u32..200,
        bursts in prop::collection::vec((0u64..100, 0u64..300_000), 1..60),
    ) {
        let queue = moderation(max_packets, max_usecs);
        let mut worker = Worker { queue, notified: Vec::new() };
        // Arrivals that wait, the oldest first.
        let (mut now, mut waiting, mut told) = (0, std::collections::VecDeque::new(), 0);
        for (count, gap) in bursts {
            now += gap;
            worker.pass(now);
            for at in &worker.notified[told..] {
                // By its time alone.
                let oldest: u64 = *waiting.front().expect("something waited");
                prop_assert_eq!(*at, oldest + u64::from(max_usecs) * 1000);
                waiting.clear();
            }
            told = worker.notified.len();
            waiting.extend((0..count).map(|_| now));
            worker.arrive(count, now);
            let by_count = worker.notified.len() - told;
            prop_assert_eq!(by_count, waiting.len() / max_packets as usize);
            waiting.drain(..by_count * max_packets as usize);
            told = worker.notified.len();
            prop_assert_eq!(worker.queue.deadline().is_some(), !waiting.is_empty());
        }
        worker.pass(u64::MAX);
        prop_assert_eq!(worker.notified.len() - told, usize::from(!waiting.is_empty()));
    }
}
