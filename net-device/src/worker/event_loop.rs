//! Workers that a VMM's own event loop drives, for devices without threads.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::{SpawnError, WorkerError, WorkerLost};
use crate::seccomp::ThreadKind;
use crate::worker::turn::{Event, Source, Turn, Worker};

/// A worker without a thread: a queue pair's, or the control queue's.
///
/// The VMM's event loop waits for its [sources](Self::for_each_source), edge-triggered, tells it of
/// [events](Self::on_event), lets it take [turns](Self::turn), and waits for as long as each turn
/// says. While the device holds its worker back (paused, being changed, reset) a turn does nothing.
///
/// One thread at a time gets in: calls that change the device wait for the turn that is under way,
/// which is bounded, and a turn waits for them. So none of those may be made from
/// [`Interrupt::trigger`](crate::Interrupt::trigger), which is called within turns.
///
/// ```no_run
/// use epoll::{ControlOptions, Events};
/// # fn drive(worker: net_device::EventWorker) -> std::io::Result<()> {
/// use std::os::fd::AsRawFd;
///
/// use net_device::{WorkerEvent, now_ns};
///
/// let poll = epoll::create(true)?;
/// loop {
///     let turn = worker.turn();
///     if turn.sources_changed {
///         let mut failed = None;
///         worker.for_each_source(|source, fd| {
///             let interest = Events::EPOLLIN | Events::EPOLLET;
///             let event = epoll::Event::new(interest, source as u64);
///             let add = ControlOptions::EPOLL_CTL_ADD;
///             match epoll::ctl(poll, add, fd.as_raw_fd(), event) {
///                 Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
///                     failed = Some(error);
///                 }
///                 _ => {}
///             }
///         });
///         failed.map_or(Ok(()), Err)?;
///         continue;
///     }
///     // A loop over a real backend also follows `turn.rearm_backend` here.
///     let mut events = [epoll::Event::new(Events::empty(), 0); 8];
///     let count = epoll::wait(poll, turn.timeout_ms(now_ns), &mut events)?;
///     for event in &events[..count] {
///         if let Some(event) = WorkerEvent::from_epoll(event.events, event.data) {
///             worker.on_event(event);
///         }
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct EventWorker(Arc<dyn Drive>);

impl std::fmt::Debug for EventWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EventWorker").field(&self.name()).finish()
    }
}

impl EventWorker {
    /// Its name: the device's id, then `_qp` and the pair's number, or `_ctrl`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Returns whether both are handles of one worker, which a loop drives already.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }

    /// Its task.
    #[must_use]
    pub fn kind(&self) -> ThreadKind {
        self.0.kind()
    }

    /// Calls `each` with every source and its descriptor. The descriptors other than
    /// [`Source::Owner`]'s may be closed when the worker's sources change.
    pub fn for_each_source(&self, mut each: impl FnMut(Source, BorrowedFd<'_>)) {
        self.0.sources(&mut each);
    }

    /// Takes note of an event. [`EventWorker::turn`] acts on it.
    pub fn on_event(&self, event: Event) {
        self.0.on_event(event);
    }

    /// Lets the worker do a bounded amount of work, and returns what it waits for. To be called
    /// after the events of each wait, also when it ended without one.
    pub fn turn(&self) -> Turn {
        self.0.turn()
    }

    /// The backend refused to be waited for as [`Turn::rearm_backend`] asks: the device fails.
    pub fn backend_failed(&self, error: &std::io::Error) {
        self.0.backend_failed(error);
    }
}

/// A [`LoopWorker`] of either kind.
trait Drive: Send + Sync {
    fn name(&self) -> &str;
    fn kind(&self) -> ThreadKind;
    fn sources(&self, each: &mut dyn FnMut(Source, BorrowedFd<'_>));
    fn on_event(&self, event: Event);
    fn turn(&self) -> Turn;
    fn backend_failed(&self, error: &std::io::Error);
}

/// A worker between its device and a VMM's event loop.
#[derive(Debug)]
pub(crate) struct LoopWorker<W> {
    name: String,
    kind: ThreadKind,
    /// Tells the loop that the worker came or went.
    owner: EventFd,
    state: Mutex<LoopState<W>>,
}

#[derive(Debug)]
struct LoopState<W> {
    worker: Option<Box<W>>,
    /// A run has begun.
    begun: bool,
    sources_changed: bool,
    /// It panicked.
    lost: bool,
}

impl<W: Worker> LoopWorker<W> {
    pub(crate) fn new(name: String, kind: ThreadKind) -> Result<Arc<Self>, SpawnError> {
        Ok(Arc::new(Self {
            name,
            kind,
            owner: EventFd::new(EFD_NONBLOCK).map_err(SpawnError::Thread)?,
            state: Mutex::new(LoopState {
                worker: None,
                begun: false,
                sources_changed: true,
                lost: false,
            }),
        }))
    }

    /// The VMM's end of it.
    pub(crate) fn handle(self: &Arc<Self>) -> EventWorker {
        EventWorker(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, LoopState<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> WorkerLost {
        WorkerLost(self.name.clone())
    }

    /// Shows that `work` can be waited for: its descriptors are the VMM's to register.
    pub(crate) fn prepare(&self, work: &W) -> Result<(), WorkerError> {
        work.sources(&mut |_, _| Ok(()))
    }

    /// Lets the event loop run `work`.
    pub(crate) fn start(&self, work: Box<W>) -> Result<(), WorkerLost> {
        let mut state = self.lock();
        if state.lost {
            return Err(self.lost());
        }
        state.worker = Some(work);
        state.sources_changed = true;
        drop(state);
        // The counter cannot be full: it is read at each event.
        let _ = self.owner.write(1);
        Ok(())
    }

    /// Has the worker look at its rings once more.
    pub(crate) fn wake(&self) {
        let _ = self.owner.write(1);
    }

    /// Takes the work back. To be called once for each start.
    pub(crate) fn stop(&self) -> Result<Box<W>, WorkerLost> {
        let work = self.within(|state| {
            let mut work = state.worker.take()?;
            state.sources_changed = true;
            if std::mem::take(&mut state.begun) {
                work.end();
            }
            Some(work)
        });
        let _ = self.owner.write(1);
        work.flatten().ok_or_else(|| self.lost())
    }

    /// Calls `work` with the worker's state. A panic loses the worker, as in a thread of its own,
    /// and does not reach the VMM's event loop.
    fn within<T>(&self, work: impl FnOnce(&mut LoopState<W>) -> T) -> Option<T> {
        let mut state = self.lock();
        let shared = state.worker.as_ref().map(|work| work.shared().clone());
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut state)));
        if done.is_err() {
            state.lost = true;
            state.worker = None;
        }
        drop(state);
        if let (Err(_), Some(shared)) = (&done, shared) {
            shared.worker_panicked(&self.name);
        }
        done.ok()
    }
}

impl<W: Worker> Drive for LoopWorker<W> {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> ThreadKind {
        self.kind
    }

    fn sources(&self, each: &mut dyn FnMut(Source, BorrowedFd<'_>)) {
        each(Source::Owner, crate::fd::of(&self.owner));
        if let Some(work) = &self.lock().worker {
            // Nothing fails: `each` takes what it is given.
            let _ = work.sources(&mut |fd, source| {
                each(source, fd);
                Ok(())
            });
        }
    }

    fn on_event(&self, event: Event) {
        if event.source == Source::Owner {
            let _ = self.owner.read();
        } else {
            self.within(|state| {
                let work = state.worker.iter_mut();
                work.for_each(|work| work.on_event(event));
            });
        }
    }

    fn turn(&self) -> Turn {
        let turn = self.within(|state| {
            let sources_changed = std::mem::take(&mut state.sources_changed);
            let Some(work) = &mut state.worker else {
                return Turn {
                    sources_changed,
                    ..Turn::default()
                };
            };
            if std::mem::replace(&mut state.begun, true) {
                work.after_wakeup();
            } else {
                work.begin();
            }
            Turn {
                sources_changed,
                ..work.turn()
            }
        });
        turn.unwrap_or_default()
    }

    fn backend_failed(&self, error: &std::io::Error) {
        self.within(|state| {
            let work = state.worker.iter_mut();
            work.for_each(|work| work.backend_failed(error));
        });
    }
}
