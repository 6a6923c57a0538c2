//! Homes of a device's workers: threads made for them or beforehand, or in a VMM's event
//! loop.

use crate::error::SpawnError;
use crate::seccomp::{SeccompAction, ThreadKind};
use crate::worker::control_queue::CtrlWorker;
use crate::worker::event_loop::LoopWorker;
use crate::worker::handle::Home;
use crate::worker::queue_pair::PairWorker;
use crate::worker::thread::{ThreadSetup, WorkerThread};

/// Homes for workers. A thread that was made beforehand is kept over resets, others end with their
/// activation.
#[derive(Default)]
pub(crate) struct WorkerThreads {
    pub(crate) setup: ThreadSetup,
    /// Workers have no threads: a VMM's event loop drives them.
    pub(crate) event_loop: bool,
    /// Threads are made beforehand.
    keeps: bool,
    /// Threads that have no worker now, one for each pair at most.
    idle: Vec<Option<WorkerThread<PairWorker>>>,
    idle_control: Option<WorkerThread<CtrlWorker>>,
}

fn queue_pair_name(id: &str, pair: u16) -> String {
    format!("{id}_qp{pair}")
}

fn control_name(id: &str) -> String {
    format!("{id}_ctrl")
}

impl WorkerThreads {
    /// Threads with these filters, each made when its worker needs it.
    pub(crate) fn new(seccomp: SeccompAction) -> Self {
        Self {
            setup: ThreadSetup {
                seccomp,
                ..ThreadSetup::default()
            },
            ..Self::default()
        }
    }

    /// Makes the threads of `pairs` pairs, and of the control queue if there is one.
    ///
    /// # Errors
    /// One cannot be made; none is kept.
    pub(crate) fn spawn_all(
        &mut self,
        id: &str,
        pairs: u16,
        control: bool,
    ) -> Result<(), SpawnError> {
        let spawn = |pair| {
            let name = queue_pair_name(id, pair);
            WorkerThread::spawn(name, ThreadKind::QueuePair, &self.setup).map(Some)
        };
        let idle = (0..pairs).map(spawn).collect::<Result<_, _>>()?;
        let control = control
            .then(|| WorkerThread::spawn(control_name(id), ThreadKind::Control, &self.setup));
        self.idle_control = control.transpose()?;
        self.idle = idle;
        self.keeps = true;
        Ok(())
    }

    /// A home for the worker of a pair.
    pub(crate) fn queue_pair(
        &mut self,
        id: &str,
        pair: u16,
    ) -> Result<Home<PairWorker>, SpawnError> {
        let name = queue_pair_name(id, pair);
        if self.event_loop {
            return LoopWorker::new(name, ThreadKind::QueuePair).map(Home::EventLoop);
        }
        match self.idle.get_mut(usize::from(pair)).and_then(Option::take) {
            Some(thread) => Ok(Home::Thread(thread)),
            None => WorkerThread::spawn(name, ThreadKind::QueuePair, &self.setup).map(Home::Thread),
        }
    }

    /// A home for the control worker.
    pub(crate) fn control(&mut self, id: &str) -> Result<Home<CtrlWorker>, SpawnError> {
        let name = control_name(id);
        if self.event_loop {
            return LoopWorker::new(name, ThreadKind::Control).map(Home::EventLoop);
        }
        match self.idle_control.take() {
            Some(thread) => Ok(Home::Thread(thread)),
            None => WorkerThread::spawn(name, ThreadKind::Control, &self.setup).map(Home::Thread),
        }
    }

    /// Takes a home back that has no worker any more.
    pub(crate) fn keep_queue_pair(&mut self, pair: u16, home: Home<PairWorker>) {
        if let (true, Home::Thread(thread)) = (self.keeps, home)
            && let Some(idle) = self.idle.get_mut(usize::from(pair))
        {
            *idle = Some(thread);
        }
    }

    /// The same for the control worker's.
    pub(crate) fn keep_control(&mut self, home: Home<CtrlWorker>) {
        if let (true, Home::Thread(thread)) = (self.keeps, home) {
            self.idle_control = Some(thread);
        }
    }
}
