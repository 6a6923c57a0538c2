//! A VMM's event loop as a value: what `epoll` would report, one worker at a time.
//!
//! Edges as Linux has them. A descriptor is reported when something happens to it, and once when it
//! is registered or changed while it is ready. What was reported is forgotten, except by those
//! descriptors that stay readable and are registered again.

use std::os::fd::{AsRawFd, RawFd};

use net_device::{EventWorker, Source, Turn, WorkerEvent};

/// Readiness of a source as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Its other end is gone.
    pub(crate) error: bool,
}

/// One worker, and what it is to be told.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) worker: EventWorker,
    /// Pair of the worker; none for the control queue's.
    pub(crate) pair: Option<usize>,
    sources: Vec<(Source, RawFd)>,
    pending: Vec<Source>,
    pub(crate) again: bool,
    pub(crate) deadline: Option<u64>,
    /// The backend is waited for as writable, too.
    writable: bool,
}

impl Registration {
    /// A worker that no loop has driven yet: its first turn is due.
    pub(crate) fn new(worker: EventWorker) -> Self {
        let pair = worker.name().rsplit_once("_qp");
        Self {
            pair: pair.and_then(|(_, pair)| pair.parse().ok()),
            worker,
            sources: Vec::new(),
            pending: Vec::new(),
            again: true,
            deadline: None,
            writable: false,
        }
    }

    /// Something happened to `source`, which is noticed if it is registered.
    pub(crate) fn happened(&mut self, source: Source) -> bool {
        let known = self.sources.iter().any(|(one, _)| *one == source);
        if known && !self.pending.contains(&source) {
            self.pending.push(source);
        }
        known
    }

    /// Notes that another worker has passed frames on to this one. That is the one event which the
    /// device makes by itself; workers never read it.
    pub(crate) fn hear_doorbell(&mut self) {
        if self.fd_of(Source::Steering).is_none() {
            return;
        }
        let mut rings = false;
        self.worker.for_each_source(|source, fd| {
            let reads = source == Source::Steering;
            rings |= reads && rustix::io::read(fd, &mut [0; 8]).is_ok();
        });
        if rings {
            self.happened(Source::Steering);
        }
    }

    /// The descriptor of `source`.
    pub(crate) fn fd_of(&self, source: Source) -> Option<RawFd> {
        let found = self.sources.iter().find(|(one, _)| *one == source);
        found.map(|(_, fd)| *fd)
    }

    /// The source whose descriptor is `fd`.
    pub(crate) fn source_of(&self, fd: RawFd) -> Option<Source> {
        let found = self.sources.iter().find(|(_, one)| *one == fd);
        found.map(|(source, _)| *source)
    }

    /// Returns whether a loop would let it take a turn at `now`.
    pub(crate) fn is_runnable(&self, now: u64) -> bool {
        let due = self.deadline.is_some_and(|deadline| deadline <= now);
        self.again || !self.pending.is_empty() || due
    }

    /// Tells the worker of what has happened and lets it take a turn; what `ready` says of a source
    /// is asked when it is told.
    pub(crate) fn turn(
        &mut self,
        mut late: impl FnMut(Source) -> bool,
        mut ready: impl FnMut(Source) -> Level,
    ) -> Turn {
        let happened = std::mem::take(&mut self.pending);
        for source in happened {
            if late(source) {
                self.pending.push(source);
                continue;
            }
            let level = ready(source);
            let writable = level.writable && self.writable;
            if level.readable || writable || level.error {
                let event = WorkerEvent {
                    source,
                    readable: level.readable || level.error,
                    writable: writable || level.error,
                    error: level.error,
                };
                self.worker.on_event(event);
            }
        }
        let turn = self.worker.turn();
        (self.again, self.deadline) = (turn.again, turn.deadline_ns);
        turn
    }

    /// Registers all sources anew. One that was registered already is reported again if `again`.
    pub(crate) fn register(&mut self, again: bool, mut ready: impl FnMut(Source, RawFd) -> Level) {
        let before = std::mem::take(&mut self.sources);
        let sources = &mut self.sources;
        self.worker
            .for_each_source(|source, fd| sources.push((source, fd.as_raw_fd())));
        self.pending
            .retain(|one| sources.iter().any(|(source, _)| source == one));
        for (source, fd) in self.sources.clone() {
            if !again && before.contains(&(source, fd)) {
                continue;
            }
            if source == Source::Backend && !before.contains(&(source, fd)) {
                self.writable = false;
            }
            let level = ready(source, fd);
            if level.readable || level.error || level.writable && self.writable {
                self.happened(source);
            }
        }
        self.again = true;
    }

    /// Waits for the backend to be writable, too, and reports what it is now.
    pub(crate) fn rearm_backend(&mut self, level: Level) {
        self.writable = true;
        if level.readable || level.writable || level.error {
            self.happened(Source::Backend);
        }
    }

    /// It has taken no turn yet with all that it waits for.
    pub(crate) fn is_new(&self) -> bool {
        self.sources.is_empty()
    }

    pub(crate) fn waits_for_room(&self) -> bool {
        self.writable
    }
}
