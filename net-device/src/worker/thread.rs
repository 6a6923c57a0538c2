//! A named, filtered thread that runs what it is handed and hands it back.
//!
//! A worker is moved into its thread to run and moved out again to be paused, changed or taken
//! apart. So its owner never looks at it while it runs, and no lock guards its state.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::{SpawnError, WorkerError, WorkerLost};
use crate::log_limited;
use crate::seccomp::{SeccompAction, ThreadKind, install};
use crate::transport::Interrupt;
use crate::worker::epoll::Poller;
use crate::worker::turn::{Source, Worker};

/// A worker thread, as [`ThreadHook`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ThreadInfo<'a> {
    /// Its name: the device's id, then `_qp` and the pair's number, or `_ctrl`.
    pub name: &'a str,
    /// Its task.
    pub kind: ThreadKind,
    /// Its thread id (`gettid`), for cgroups, schedulers and pinning.
    pub tid: i32,
}

/// A VMM's hook for worker threads. Called in each new thread, before its seccomp filter is on.
pub trait ThreadHook: Send + Sync {
    /// Sets the thread up: pins it, sets its priority, moves it to a cgroup.
    ///
    /// # Errors
    /// The thread ends, and its queue cannot be started.
    fn started(&self, thread: &ThreadInfo<'_>) -> io::Result<()>;
}

impl<F: Fn(&ThreadInfo<'_>) -> io::Result<()> + Send + Sync> ThreadHook for F {
    fn started(&self, thread: &ThreadInfo<'_>) -> io::Result<()> {
        self(thread)
    }
}

/// Instructions for making the threads of a device.
#[derive(Clone, Default)]
pub(crate) struct ThreadSetup {
    pub(crate) seccomp: SeccompAction,
    pub(crate) hook: Option<Arc<dyn ThreadHook>>,
    /// System calls beyond the list of each kind.
    pub(crate) more_calls: Vec<i64>,
}

impl ThreadSetup {
    /// In the new thread: calls the hook, then puts the filter on.
    fn enter(&self, name: &str, kind: ThreadKind) -> Result<(), SpawnError> {
        if let Some(hook) = &self.hook {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            let thread = ThreadInfo { name, kind, tid };
            hook.started(&thread).map_err(SpawnError::Hook)?;
        }
        Ok(install(kind, self.seccomp, &self.more_calls)?)
    }
}

/// A worker, and what it waits with during its next run.
type Job<W> = (Box<W>, Poller);

/// Time that a worker has to stop before its interrupt is told that somebody waits for it: many
/// turns, so that one that is merely busy is left alone.
const PATIENCE: Duration = Duration::from_millis(10);

/// A thread for one worker. Dropping it ends the thread.
pub(crate) struct WorkerThread<W: Worker> {
    name: String,
    inbox: Option<Sender<Job<W>>>,
    outbox: Receiver<Box<W>>,
    /// Tells the worker that something is to be looked at: `stopping` first, then the rings.
    stop: EventFd,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Call in which the worker that runs may wait against all rules.
    interrupt: Option<Arc<dyn Interrupt>>,
}

impl<W: Worker> std::fmt::Debug for WorkerThread<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerThread")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<W: Worker> WorkerThread<W> {
    /// Starts the thread and returns when it has confined itself.
    pub(crate) fn spawn(
        name: String,
        kind: ThreadKind,
        setup: &ThreadSetup,
    ) -> Result<Self, SpawnError> {
        let stop = EventFd::new(EFD_NONBLOCK).map_err(SpawnError::Thread)?;
        let (inbox, jobs) = channel::<Job<W>>();
        let (done, outbox) = channel();
        let (started, ready) = channel();
        let (thread_name, setup) = (name.clone(), setup.clone());
        let stopping = Arc::new(AtomicBool::new(false));
        let to_stop = stopping.clone();
        let body = move || {
            let entered = setup.enter(&thread_name, kind);
            drop(setup);
            let failed = entered.is_err();
            if started.send(entered).is_err() || failed {
                return;
            }
            while let Ok((mut work, poller)) = jobs.recv() {
                let shared = work.shared().clone();
                if catch_unwind(AssertUnwindSafe(|| run(&mut *work, &poller, &to_stop))).is_err() {
                    shared.worker_panicked(&thread_name);
                    return;
                }
                // The descriptors that it waited with are closed before its owner goes on.
                drop(poller);
                if done.send(work).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(body)
            .map_err(SpawnError::Thread)?;
        let gone = || SpawnError::Thread(io::Error::other("worker thread ended at once"));
        let entered = ready.recv().map_err(|_| gone());
        // Dropping this waits for a thread that failed and ends by itself.
        let started = Self {
            name,
            inbox: Some(inbox),
            outbox,
            stop,
            stopping,
            thread: Some(thread),
            interrupt: None,
        };
        entered??;
        Ok(started)
    }

    /// Does all that can fail of the next run of `work`, in the thread that can report it.
    pub(crate) fn prepare(&self, work: &W) -> Result<Poller, WorkerError> {
        let poller = Poller::new().map_err(WorkerError::Poll)?;
        poller
            .add_edge(crate::fd::of(&self.stop), Source::Owner)
            .map_err(WorkerError::Poll)?;
        work.sources(&mut |fd, source| poller.add_edge(fd, source))?;
        Ok(poller)
    }

    /// Lets the thread run `work`.
    pub(crate) fn start(&mut self, work: Box<W>, poller: Poller) -> Result<(), WorkerLost> {
        self.interrupt = Some(work.shared().interrupt());
        let sent = self.inbox.as_ref().map(|inbox| inbox.send((work, poller)));
        if matches!(sent, Some(Ok(()))) {
            Ok(())
        } else {
            Err(WorkerLost(self.name.clone()))
        }
    }

    /// Stops the run and takes the work back. To be called once for each start.
    pub(crate) fn stop(&mut self) -> Result<Box<W>, WorkerLost> {
        self.tell_to_stop();
        let work = self.take_back();
        self.stopping.store(false, Ordering::Relaxed);
        let _ = self.stop.read();
        self.interrupt = None;
        work.ok_or_else(|| WorkerLost(self.name.clone()))
    }

    /// Has the worker that runs look at its rings once more.
    pub(crate) fn wake(&self) {
        // It has room for 2^64 of these.
        let _ = self.stop.write(1);
    }

    fn tell_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.stop.write(1);
    }

    /// Waits for the worker, which was told to stop; `None` if its thread is gone.
    fn take_back(&self) -> Option<Box<W>> {
        loop {
            match self.outbox.recv_timeout(PATIENCE) {
                Ok(work) => return Some(work),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.interrupt.iter().for_each(|it| it.unblock());
                }
            }
        }
    }
}

impl<W: Worker> Drop for WorkerThread<W> {
    fn drop(&mut self) {
        // A thread that still runs sees the stop event; one that waits sees the inbox closed.
        self.tell_to_stop();
        self.inbox = None;
        while self.take_back().is_some() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs `work` until its owner, who sets `stopping` then, wants it back.
fn run<W: Worker>(work: &mut W, poller: &Poller, stopping: &AtomicBool) {
    work.begin();
    loop {
        let turn = work.turn();
        if turn.rearm_backend {
            let armed = match work.backend() {
                Some(fd) => poller.rearm_writable(fd, Source::Backend),
                None => Ok(()),
            };
            if let Err(error) = armed {
                work.backend_failed(&error);
            }
        }
        let mut stopped = false;
        let timeout = turn.timeout_ms(|| work.shared().now_ns());
        let waited = poller.wait_ms(timeout, |event| match event.source {
            Source::Owner if stopping.load(Ordering::Acquire) => stopped = true,
            _ => work.on_event(event),
        });
        if let Err(error) = waited {
            let shared = work.shared();
            log_limited!(
                shared.status.events().log,
                Error,
                "{}: a worker cannot wait: {error}",
                shared.id
            );
            shared.fail(&"a worker cannot wait for events");
            break;
        }
        if stopped {
            break;
        }
        work.after_wakeup();
    }
    work.end();
}
