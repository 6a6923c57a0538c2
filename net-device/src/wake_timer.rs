//! A timer that others can make expire before its deadline.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rate_limiter::Wake;

use crate::clock::{Clock, Timer};

/// A timer of a worker that waits for a time, because its rate limit says no or because a
/// notification is not due yet. Whoever changes the answer makes it expire early: a shared budget
/// to which tokens come back, and the control queue, which sets notification coalescing and takes a
/// pair out of use.
///
/// ```text
///   worker:   ask: read `wakes`  |  the answer is "not before …"  |  arm: unless `wakes` changed, expire then
///   others:                           wake: count in `wakes`, expire at once
/// ```
///
/// A wake may come at any point of this. Before the question, it has nothing to tell. After it,
/// arming sees the count, or its own setting is replaced: both are done under one lock.
#[derive(Debug)]
pub(crate) struct WakeTimer {
    clock: Arc<dyn Clock>,
    timer: Mutex<Box<dyn Timer>>,
    wakes: AtomicU64,
}

impl WakeTimer {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> io::Result<Self> {
        Ok(Self {
            timer: Mutex::new(clock.timer()?),
            clock: clock.clone(),
            wakes: AtomicU64::new(0),
        })
    }

    /// Begins a question whose answer depends on the time.
    #[inline]
    pub(crate) fn ask(&self) -> Asked {
        let Asked { wakes, .. } = self.wakes();
        let now = self.clock.now_ns();
        Asked { now, wakes }
    }

    /// Begins a question whose answer depends on no time.
    #[inline]
    pub(crate) fn wakes(&self) -> Asked {
        let wakes = self.wakes.load(Ordering::SeqCst);
        Asked { now: 0, wakes }
    }

    /// Expires at `deadline`, on the device's clock; at once when it was woken since `asked`.
    pub(crate) fn set_deadline(&self, deadline: u64, asked: Asked) {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = self.wakes.load(Ordering::SeqCst) != asked.wakes;
        let wait = if woken {
            0
        } else {
            deadline.saturating_sub(self.clock.now_ns())
        };
        timer.set(wait);
    }

    /// The time on its clock.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(crate) fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        let timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        f(timer.fd())
    }
}

impl Wake for WakeTimer {
    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        timer.set(0);
    }
}

/// A question that was begun: the time that its answer is about, and the wakes that came before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// The time, on the device's clock; 0 where the answer depends on none.
    pub(crate) now: u64,
    wakes: u64,
}

#[cfg(test)]
pub(crate) mod tests;
