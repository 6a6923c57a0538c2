//! Choices of a worker that has run out of work, before it sleeps: it looks for more for a while,
//! or gives way to others.

use std::mem;

#[cfg(test)]
mod tests;

/// Longest time in ns for which others may have the processor, without a rest behind it.
const LONG: u64 = 100_000;
/// Rest behind a longer time, in multiples of it. So this is the part of its time that a worker
/// can lose.
const REST: u64 = 64;

/// Both, for one worker.
#[derive(Debug)]
pub(crate) struct Idle {
    busy_poll: BusyPoll,
    /// For a worker with a thread of its own.
    give_way: Option<GiveWay>,
}

impl Idle {
    /// For a worker that polls for so long, on a thread of its own or on a VMM's.
    pub(crate) fn new(poll_us: u16, has_thread: bool) -> Self {
        Self {
            busy_poll: BusyPoll::new(poll_us),
            give_way: has_thread.then(GiveWay::default),
        }
    }

    /// The driver was given so many frames in one turn.
    pub(crate) fn received(&mut self, frames: u64) {
        self.busy_poll.passed(frames);
    }

    /// So many of the driver's frames left in one turn.
    pub(crate) fn sent(&mut self, frames: u64) {
        self.busy_poll.passed(frames);
        if let Some(give_way) = &mut self.give_way {
            give_way.passed(frames);
        }
    }

    /// Decides to look for events instead of sleeping until there is one; `now` is asked only where
    /// it matters.
    pub(crate) fn looks(&mut self, now: impl Fn() -> u64) -> bool {
        self.busy_poll.looks(&now)
            || self
                .give_way
                .as_mut()
                .is_some_and(|it| it.looks(now, std::thread::yield_now))
    }
}

/// Time that a worker that has run out of work looks for more before it sleeps. Once that is over,
/// only frames start it again: an event that brings none does not.
#[derive(Debug)]
struct BusyPoll {
    limit_ns: u64,
    /// When it is to sleep, if no frame passed since it was set.
    until: Option<u64>,
}

impl BusyPoll {
    fn new(limit_us: u16) -> Self {
        Self {
            limit_ns: u64::from(limit_us) * 1000,
            until: None,
        }
    }

    /// So many frames passed: where there are any, more may follow.
    fn passed(&mut self, frames: u64) {
        if frames > 0 {
            self.until = None;
        }
    }

    fn looks(&mut self, now: impl Fn() -> u64) -> bool {
        if self.limit_ns == 0 {
            return false;
        }
        let now = now();
        now < *self.until.get_or_insert(now.saturating_add(self.limit_ns))
    }
}

/// Gives way to whoever else is to run on the worker's processor, behind several frames: more are
/// likely then.
///
/// Frames that the driver makes available meanwhile leave without a kick, and together. Whoever
/// shares the processor, such as their receiver, is not interrupted for each few of them. No frame
/// is held back for it: there is none.
///
/// Where others keep the processor for long, frames wait for which a kick would have woken the
/// worker at once. So one to which that happened does without for a multiple of the time.
#[derive(Debug, Default)]
struct GiveWay {
    /// Several frames passed in one turn since it looked last.
    burst: bool,
    /// Earliest time of the next one, in ns.
    not_before: u64,
}

impl GiveWay {
    fn passed(&mut self, frames: u64) {
        self.burst |= frames > 1;
    }

    /// Calls `give_way` if it is worth it, and looks for more then.
    fn looks(&mut self, now: impl Fn() -> u64, give_way: impl FnOnce()) -> bool {
        if !mem::take(&mut self.burst) {
            return false;
        }
        let begin = now();
        if begin < self.not_before {
            return false;
        }
        give_way();
        let end = now();
        let took = end.saturating_sub(begin);
        if took > LONG {
            self.not_before = end.saturating_add(took.saturating_mul(REST));
        }
        true
    }
}
