//! A clock that stands still until a test moves it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::{Clock, Timer};

/// Deadlines of timers that are set, by descriptor.
#[derive(Debug, Default)]
struct Deadlines(Mutex<Vec<(RawFd, u64)>>);

impl Deadlines {
    fn lock(&self) -> MutexGuard<'_, Vec<(RawFd, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time as a value, and the timers on it. Their descriptors only name them: nothing ever becomes
/// readable, the test [asks](ManualClock::take_expired) instead.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
    deadlines: Arc<Deadlines>,
}

impl ManualClock {
    /// Lets `ns` nanoseconds pass.
    pub fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::SeqCst);
    }

    /// Time at which the next timer expires, of those that are set.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.deadlines.lock().iter().map(|(_, at)| *at).min()
    }

    /// Descriptors of the timers that have expired since this was called last.
    #[must_use]
    pub fn take_expired(&self) -> Vec<RawFd> {
        let (mut deadlines, now) = (self.deadlines.lock(), self.now_ns());
        let (expired, waiting) = deadlines.drain(..).partition(|(_, at)| *at <= now);
        *deadlines = waiting;
        let expired: Vec<(RawFd, u64)> = expired;
        expired.into_iter().map(|(fd, _)| fd).collect()
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(ManualTimer {
            name: UnixDatagram::unbound()?.into(),
            now: self.now.clone(),
            deadlines: self.deadlines.clone(),
        }))
    }
}

#[derive(Debug)]
struct ManualTimer {
    name: OwnedFd,
    now: Arc<AtomicU64>,
    deadlines: Arc<Deadlines>,
}

impl Timer for ManualTimer {
    fn set(&mut self, wait_ns: u64) {
        let at = self.now.load(Ordering::SeqCst).saturating_add(wait_ns);
        let (fd, mut deadlines) = (self.name.as_raw_fd(), self.deadlines.lock());
        deadlines.retain(|(timer, _)| *timer != fd);
        deadlines.push((fd, at));
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.name.as_fd()
    }
}

impl Drop for ManualTimer {
    fn drop(&mut self) {
        let fd = self.name.as_raw_fd();
        self.deadlines.lock().retain(|(timer, _)| *timer != fd);
    }
}
