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
