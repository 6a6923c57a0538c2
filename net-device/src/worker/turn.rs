//! One turn of a worker, whoever drives it: a thread of the device, or a VMM's event loop.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use epoll::Events;

use crate::error::WorkerError;
use crate::shared::Shared;

/// Event source of a worker. All of them are to be waited for edge-triggered: nothing but
/// [`Source::Owner`] is read when it becomes readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The device itself: it wants its worker back, or has changed it.
    Owner,
    /// Kicks of the receive queue.
    RxKick,
    /// Kicks of the transmit queue.
    TxKick,
    /// Kicks of the control queue.
    CtrlKick,
    /// The backend. It is waited for as readable, and once a [`Turn`] says so, as writable too.
    Backend,
    /// Deadline of the receive limit.
    RxTimer,
    /// Deadline of the transmit limit.
    TxTimer,
    /// Deadline of a notification that waits (VirtIO 1.4 §5.1.9.5.10).
    NotfCoalTimer,
    /// Frames that other pairs have passed to this one (VirtIO 1.4 §5.1.9.5.7).
    Steering,
}

impl Source {
    /// All sources, each at the place of its number.
    pub(crate) const ALL: [Self; 9] = [
        Self::Owner,
        Self::RxKick,
        Self::TxKick,
        Self::CtrlKick,
        Self::Backend,
        Self::RxTimer,
        Self::TxTimer,
        Self::NotfCoalTimer,
        Self::Steering,
    ];
}

/// An event source that has something, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The source.
    pub source: Source,
    /// It is readable, or reports an error, which the next read shows.
    pub readable: bool,
    /// It is writable, or reports an error, which the next write shows.
    pub writable: bool,
    /// It reports an error or that its other end is gone.
    pub error: bool,
}

impl Event {
    /// The event that `epoll_wait` reports as `events`, for a descriptor that was registered with
    /// the number of its source as data; `None` for a number that is not a source's.
    #[must_use]
    pub fn from_epoll(events: u32, source: u64) -> Option<Self> {
        let events = Events::from_bits_truncate(events);
        let error = Events::EPOLLERR | Events::EPOLLHUP;
        Some(Self {
            source: *Source::ALL.get(usize::try_from(source).ok()?)?,
            readable: events.intersects(Events::EPOLLIN | error),
            writable: events.intersects(Events::EPOLLOUT | error),
            error: events.intersects(error),
        })
    }
}

/// Outcome of a turn: events and deadline that the worker waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Turn {
    /// There is more to do: look for events without waiting, and take another turn.
    pub again: bool,
    /// Time at which to take another turn without any event, in ns on the device's clock,
    /// [`now_ns`](crate::now_ns) unless it was given another.
    pub deadline_ns: Option<u64>,
    /// Change the interest in [`Source::Backend`] to readable and writable, edge-triggered, even if
    /// it is that already (`EPOLL_CTL_MOD`): a tap reports that it became writable only to who asks
    /// after it was not.
    pub rearm_backend: bool,
    /// The sources are others than before: register all of them again.
    pub sources_changed: bool,
}

impl Turn {
    /// Timeout for `epoll_wait` at `now`, in milliseconds: rounded up, so that no wait ends early
    /// and is made again; negative for ever.
    pub fn timeout_ms(&self, now: impl FnOnce() -> u64) -> i32 {
        match self.deadline_ns {
            _ if self.again => 0,
            None => -1,
            Some(deadline) => {
                let ms = deadline.saturating_sub(now()).div_ceil(1_000_000);
                i32::try_from(ms).unwrap_or(i32::MAX)
            }
        }
    }
}

/// Registers one descriptor, edge-triggered for reading.
pub(crate) type AddSource<'a> = dyn FnMut(BorrowedFd<'_>, Source) -> io::Result<()> + 'a;

/// Work that is done in turns. It belongs to whoever drives it between `begin` and `end`.
pub(crate) trait Worker: Send + 'static {
    fn shared(&self) -> &Arc<Shared>;

    /// Registers all sources but [`Source::Owner`].
    fn sources(&self, add: &mut AddSource<'_>) -> Result<(), WorkerError>;

    /// Begins a run.
    fn begin(&mut self);

    /// Does a bounded amount of what there is to do.
    fn turn(&mut self) -> Turn;

    /// Takes note of an event.
    fn on_event(&mut self, event: Event);

    /// Ends the wait after a turn, whatever ended it.
    fn after_wakeup(&mut self);

    /// The descriptor that [`Turn::rearm_backend`] is about.
    fn backend(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The backend cannot be waited for.
    fn backend_failed(&mut self, _error: &io::Error) {}

    /// Leaves a state from which another run can go on.
    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_and_nothing_is_waited_for_when_there_is_more_to_do() {
        let turn = |again, deadline_ns| Turn {
            again,
            deadline_ns,
            ..Turn::default()
        };
        assert_eq!(turn(false, None).timeout_ms(|| 0), -1);
        assert_eq!(turn(true, None).timeout_ms(|| 0), 0);
        assert_eq!(turn(false, Some(1)).timeout_ms(|| 0), 1);
        assert_eq!(turn(false, Some(5_000_001)).timeout_ms(|| 1_000_000), 5);
        assert_eq!(turn(false, Some(5)).timeout_ms(|| 9), 0);
        assert_eq!(turn(false, Some(u64::MAX)).timeout_ms(|| 0), i32::MAX);
    }

    #[test]
    fn every_source_stands_at_its_number() {
        for (number, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, number);
        }
    }
}
