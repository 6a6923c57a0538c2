//! The `epoll` crate, wrapped once: owned descriptors, named sources, interrupted waits repeated.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use epoll::{ControlOptions, Event, Events};

use crate::fd;
use crate::worker::turn::{Event as WorkerEvent, Source};

/// A set of descriptors to wait for.
///
/// All are edge-triggered: an event says that something *became* so, and the worker remembers it.
/// That spares one `read` per kick and one `epoll_ctl` per change of mind.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// Time that a worker that has run out of work looks for more before it sleeps. Once that is over,
/// only frames start it again: an event that brings none does not.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    limit_ns: u64,
    /// When it is to sleep, if no frame passed since it was set.
    until: Option<u64>,
}

impl BusyPoll {
    pub(crate) fn new(limit_us: u16) -> Self {
        Self {
            limit_ns: u64::from(limit_us) * 1000,
            until: None,
        }
    }

    /// Frames passed, so more may follow.
    pub(crate) fn reset(&mut self) {
        self.until = None;
    }

    /// Decides to look for events instead of sleeping until there is one; `now` is asked only where
    /// it matters.
    pub(crate) fn looks(&mut self, now: impl FnOnce() -> u64) -> bool {
        if self.limit_ns == 0 {
            return false;
        }
        let now = now();
        now < *self.until.get_or_insert(now.saturating_add(self.limit_ns))
    }
}

const EDGE_IN: Events = Events::EPOLLIN.union(Events::EPOLLET);
const EDGE_BOTH: Events = EDGE_IN.union(Events::EPOLLOUT);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: fd::epoll()?,
        })
    }

    fn ctl(
        &self,
        what: ControlOptions,
        fd: BorrowedFd<'_>,
        source: Source,
        events: Events,
    ) -> io::Result<()> {
        let event = Event::new(events, source as u64);
        epoll::ctl(self.epoll.as_raw_fd(), what, fd.as_raw_fd(), event)
    }

    /// Reports `fd` as long as it is readable.
    #[cfg(test)]
    pub(crate) fn add_level(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        self.ctl(ControlOptions::EPOLL_CTL_ADD, fd, source, Events::EPOLLIN)
    }

    /// Reports `fd` each time it becomes readable.
    pub(crate) fn add_edge(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        self.ctl(ControlOptions::EPOLL_CTL_ADD, fd, source, EDGE_IN)
    }

    /// Reports once more what `fd` is now, and from then on when it becomes readable or writable. A
    /// tap says that it became writable only to who asked since it was not.
    pub(crate) fn rearm_writable(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        self.ctl(ControlOptions::EPOLL_CTL_MOD, fd, source, EDGE_BOTH)
    }

    /// Waits for events, at most until one is there or `timeout` milliseconds are over; for ever if
    /// it is negative.
    pub(crate) fn wait_ms(
        &self,
        timeout: i32,
        mut each: impl FnMut(WorkerEvent),
    ) -> io::Result<()> {
        let mut events = [Event::new(Events::empty(), 0); Source::ALL.len()];
        let count = loop {
            match epoll::wait(self.epoll.as_raw_fd(), timeout, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        for event in &events[..count] {
            if let Some(event) = WorkerEvent::from_epoll(event.events, event.data) {
                each(event);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
