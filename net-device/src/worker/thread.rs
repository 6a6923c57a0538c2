//! A named, filtered thread that runs what it is handed and hands it back.
//!
//! A worker is moved into its thread to run and moved out again to be paused, changed or taken apart. So its
//! owner never looks at it while it runs, and no lock guards its state.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::{ActivateError, SpawnError, WorkerLost};
use crate::seccomp::{SeccompAction, ThreadKind, install};
use crate::shared::Shared;

/// What a thread can run.
pub(crate) trait Worker: Send + 'static {
    /// Does all that can fail of the next run, in the thread that can report it.
    fn prepare(&mut self, stop: &EventFd) -> Result<(), ActivateError>;

    /// Runs until `stop` is readable, then leaves a state from which another run can go on.
    fn run(&mut self, stop: &EventFd);
}

/// A thread for one worker. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct WorkerThread<W: Worker> {
    name: String,
    inbox: Option<Sender<Box<W>>>,
    outbox: Receiver<Box<W>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Worker> WorkerThread<W> {
    /// Starts the thread and returns when it has confined itself.
    pub(crate) fn spawn(
        name: String,
        kind: ThreadKind,
        action: SeccompAction,
        shared: Arc<Shared>,
    ) -> Result<Self, SpawnError> {
        let stop = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(SpawnError::Thread)?);
        let (inbox, work) = channel::<Box<W>>();
        let (done, outbox) = channel();
        let (started, ready) = channel();
        let (thread_stop, thread_name) = (stop.clone(), name.clone());
        let body = move || {
            let confined = install(kind, action);
            let failed = confined.is_err();
            if started.send(confined).is_err() || failed {
                return;
            }
            while let Ok(mut work) = work.recv() {
                if catch_unwind(AssertUnwindSafe(|| work.run(&thread_stop))).is_err() {
                    shared.worker_panicked(&thread_name);
                    return;
                }
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
        ready.recv().map_err(|_| gone())??;
        Ok(Self {
            name,
            inbox: Some(inbox),
            outbox,
            stop,
            thread: Some(thread),
        })
    }

    /// Lets the thread run `work`.
    fn start(&self, work: Box<W>) -> Result<(), WorkerLost> {
        let sent = self.inbox.as_ref().map(|inbox| inbox.send(work));
        if matches!(sent, Some(Ok(()))) {
            Ok(())
        } else {
            Err(WorkerLost(self.name.clone()))
        }
    }

    /// Stops the run and takes the work back. To be called once for each start.
    fn stop(&self) -> Result<Box<W>, WorkerLost> {
        // The event cannot overflow: it is read after each stop.
        let _ = self.stop.write(1);
        let work = self.outbox.recv();
        let _ = self.stop.read();
        work.map_err(|_| WorkerLost(self.name.clone()))
    }
}

impl<W: Worker> Drop for WorkerThread<W> {
    fn drop(&mut self) {
        // A thread that still runs sees the stop event; one that waits sees the inbox closed.
        let _ = self.stop.write(1);
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A worker and its thread: the worker is either here, to be looked at and changed, or runs there.
#[derive(Debug)]
pub(crate) struct WorkerHandle<W: Worker> {
    thread: WorkerThread<W>,
    parked: Option<Box<W>>,
}

impl<W: Worker> WorkerHandle<W> {
    pub(crate) fn new(thread: WorkerThread<W>, work: W) -> Self {
        Self {
            thread,
            parked: Some(Box::new(work)),
        }
    }

    /// Stops the worker unless it is stopped, to be changed before it is started again.
    pub(crate) fn park(&mut self) -> Result<&mut W, WorkerLost> {
        let work = match self.parked.take() {
            Some(work) => work,
            None => self.thread.stop()?,
        };
        Ok(self.parked.insert(work))
    }

    /// Calls `read` with the worker if it is stopped. One that runs is left alone.
    pub(crate) fn with_parked<T>(&mut self, read: impl FnOnce(&mut W) -> T) -> Option<T> {
        self.parked.as_deref_mut().map(read)
    }

    /// Prepares a parked worker for its next run.
    pub(crate) fn prepare(&mut self) -> Result<(), ActivateError> {
        match self.parked.as_mut() {
            Some(work) => work.prepare(&self.thread.stop),
            None => Ok(()),
        }
    }

    /// Lets a prepared worker run.
    pub(crate) fn start(&mut self) -> Result<(), WorkerLost> {
        match self.parked.take() {
            Some(work) => self.thread.start(work),
            None => Ok(()),
        }
    }

    /// Ends the thread and takes the worker out.
    pub(crate) fn into_work(mut self) -> Result<W, WorkerLost> {
        self.park()?;
        match self.parked.take() {
            Some(work) => Ok(*work),
            None => Err(WorkerLost(self.thread.name.clone())),
        }
    }
}
