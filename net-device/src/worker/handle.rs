//! A worker as its device holds it: either here, to be looked at and changed, or where it runs.

use std::sync::Arc;

use crate::error::{WorkerError, WorkerLost};
use crate::worker::epoll::Poller;
use crate::worker::event_loop::{EventWorker, LoopWorker};
use crate::worker::thread::WorkerThread;
use crate::worker::turn::Worker;

/// Home of a worker.
#[derive(Debug)]
pub(crate) enum Home<W: Worker> {
    Thread(WorkerThread<W>),
    EventLoop(Arc<LoopWorker<W>>),
}

/// A worker and where it runs.
#[derive(Debug)]
pub(crate) struct WorkerHandle<W: Worker> {
    home: Home<W>,
    parked: Option<Box<W>>,
    /// For the next run in a thread.
    poller: Option<Poller>,
}

impl<W: Worker> WorkerHandle<W> {
    pub(crate) fn new(home: Home<W>, work: W) -> Self {
        Self {
            home,
            parked: Some(Box::new(work)),
            poller: None,
        }
    }

    /// The VMM's end of a worker without a thread.
    pub(crate) fn event_worker(&self) -> Option<EventWorker> {
        match &self.home {
            Home::Thread(_) => None,
            Home::EventLoop(place) => Some(place.handle()),
        }
    }

    fn take(&mut self) -> Result<Box<W>, WorkerLost> {
        match (self.parked.take(), &mut self.home) {
            (Some(work), _) => Ok(work),
            (None, Home::Thread(thread)) => thread.stop(),
            (None, Home::EventLoop(place)) => place.stop(),
        }
    }

    /// Stops the worker unless it is stopped, to be changed before it is started again.
    pub(crate) fn park(&mut self) -> Result<&mut W, WorkerLost> {
        let work = self.take()?;
        Ok(self.parked.insert(work))
    }

    /// Has a worker that runs look at its rings once more. One that is stopped does so anyway when
    /// it goes on.
    pub(crate) fn wake(&self) {
        match &self.home {
            _ if self.parked.is_some() => {}
            Home::Thread(thread) => thread.wake(),
            Home::EventLoop(place) => place.wake(),
        }
    }

    /// Calls `read` with the worker if it is stopped. One that runs is left alone.
    pub(crate) fn with_parked<T>(&mut self, read: impl FnOnce(&mut W) -> T) -> Option<T> {
        self.parked.as_deref_mut().map(read)
    }

    /// Prepares a parked worker for its next run.
    pub(crate) fn prepare(&mut self) -> Result<(), WorkerError> {
        if let Some(work) = self.parked.as_deref() {
            match &self.home {
                Home::Thread(thread) => self.poller = Some(thread.prepare(work)?),
                Home::EventLoop(place) => place.prepare(work)?,
            }
        }
        Ok(())
    }

    /// Lets a prepared worker run.
    pub(crate) fn start(&mut self) -> Result<(), WorkerLost> {
        let Some(work) = self.parked.take() else {
            return Ok(());
        };
        match (&mut self.home, self.poller.take()) {
            (Home::Thread(thread), Some(poller)) => thread.start(work, poller),
            (Home::EventLoop(place), _) => place.start(work),
            (Home::Thread(_), None) => {
                // Not prepared: it stays here.
                self.parked = Some(work);
                Ok(())
            }
        }
    }

    /// Takes the worker out of where it runs, and returns both.
    pub(crate) fn into_work(mut self) -> Result<(W, Home<W>), WorkerLost> {
        Ok((*self.take()?, self.home))
    }
}
