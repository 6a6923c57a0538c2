use super::*;

use crate::clock::{MonotonicClock, now_ns};
use crate::worker::epoll::Poller;
use crate::worker::turn::Source;

const HOUR_NS: u64 = 3_600_000_000_000;

/// Returns whether `timer` expires before `ms` milliseconds are over.
pub(crate) fn expires_within(timer: &WakeTimer, ms: i32) -> bool {
    let poller = Poller::new().expect("an epoll descriptor");
    timer
        .with_fd(|fd| poller.add_level(fd, Source::RxTimer))
        .expect("a timer can be waited for");
    let mut expired = false;
    poller.wait_ms(ms, |_| expired = true).expect("it waits");
    expired
}

fn timer() -> WakeTimer {
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock);
    WakeTimer::new(&clock).expect("a timer")
}

#[test]
fn a_wake_before_the_question_does_not_shorten_the_wait() {
    let timer = timer();
    timer.wake();
    let asked = timer.ask();
    timer.set_deadline(now_ns() + HOUR_NS, asked);
    assert!(!expires_within(&timer, 0));
}

/// The order of events of a worker that is slow to arm its timer.
#[test]
fn a_wake_between_the_question_and_the_wait_is_not_lost() {
    for ask in [WakeTimer::ask, WakeTimer::wakes] {
        let timer = timer();
        let asked = ask(&timer);
        timer.wake();
        timer.set_deadline(now_ns() + HOUR_NS, asked);
        assert!(expires_within(&timer, 20_000));
    }
}

#[test]
fn a_wake_during_the_wait_ends_it() {
    let timer = timer();
    timer.set_deadline(now_ns() + HOUR_NS, timer.ask());
    timer.wake();
    assert!(expires_within(&timer, 20_000));
}
