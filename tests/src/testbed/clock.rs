//! A clock that stands still until a test moves it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::{Clock, Timer};

/// Timers by descriptor.
#[derive(Debug, Default)]
struct Timers {
    /// Those that are set, and when they expire.
    set: Vec<(RawFd, u64)>,
    /// Those that have expired since they were set.
    expired: Vec<RawFd>,
}

impl Timers {
    fn forget(&mut self, fd: RawFd) {
        self.set.retain(|(timer, _)| *timer != fd);
        self.expired.retain(|timer| *timer != fd);
    }
}

type SharedTimers = Arc<Mutex<Timers>>;

fn lock(timers: &SharedTimers) -> MutexGuard<'_, Timers> {
    timers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time as a value, and the timers on it. Their descriptors only name them: nothing ever becomes
/// readable, the test [asks](ManualClock::take_expired) instead.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Arc<AtomicU64>,
    timers: SharedTimers,
}

impl ManualClock {
    /// Lets `ns` nanoseconds pass.
    pub fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::SeqCst);
    }

    /// Time at which the next timer expires, of those that are set.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        lock(&self.timers).set.iter().map(|(_, at)| *at).min()
    }

    /// Descriptors of the timers that have expired since this was called last.
    #[must_use]
    pub fn take_expired(&self) -> Vec<RawFd> {
        let (mut timers, now) = (lock(&self.timers), self.now_ns());
        let due = |(fd, at): &(RawFd, u64)| (*at <= now).then_some(*fd);
        let expired: Vec<RawFd> = timers.set.iter().filter_map(due).collect();
        timers.set.retain(|(_, at)| *at > now);
        timers.expired.extend(&expired);
        expired
    }

    /// Time at which timer `fd` expires, if it is set.
    #[must_use]
    pub fn deadline_of(&self, fd: RawFd) -> Option<u64> {
        let timers = lock(&self.timers);
        let found = timers.set.iter().find(|(timer, _)| *timer == fd);
        found.map(|(_, at)| *at)
    }

    /// Returns whether timer `fd` was taken as expired and not set since.
    #[must_use]
    pub fn is_expired(&self, fd: RawFd) -> bool {
        lock(&self.timers).expired.contains(&fd)
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
            timers: self.timers.clone(),
        }))
    }
}

#[derive(Debug)]
struct ManualTimer {
    name: OwnedFd,
    now: Arc<AtomicU64>,
    timers: SharedTimers,
}

impl Timer for ManualTimer {
    fn set(&mut self, wait_ns: u64) {
        let at = self.now.load(Ordering::SeqCst).saturating_add(wait_ns);
        let (fd, mut timers) = (self.name.as_raw_fd(), lock(&self.timers));
        timers.forget(fd);
        timers.set.push((fd, at));
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.name.as_fd()
    }
}

impl Drop for ManualTimer {
    fn drop(&mut self) {
        lock(&self.timers).forget(self.name.as_raw_fd());
    }
}
