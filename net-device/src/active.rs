//! An activated device: its workers, and queues that come and go one by one.

use std::collections::BTreeSet;
use std::sync::Arc;

use net_queue::ring::{Cursor, RingConfig};
use net_queue::{Engine, LinkConfig, Offloads};

use crate::active::queue_factory::QueueFactory;
use crate::active::threads::WorkerThreads;
use crate::announcement::Announcement;
use crate::error::{QueueError, WorkerError, WorkerLost};
use crate::port::PortControl;
use crate::queue_role::QueueRole;
use crate::shared::Shared;
use crate::shared::kernel_programs::KernelPrograms;
use crate::state::DeviceState;
use crate::transport::{InterruptSource, QueueSetup};
use crate::worker::control_queue::{CtrlQueue, CtrlWorker};
use crate::worker::event_loop::EventWorker;
use crate::worker::handle::WorkerHandle;
use crate::worker::queue_pair::{PairWorker, QueuePairResources, RxQueue, TxQueue};

pub(crate) mod discard;
mod halted;
mod limits;
mod memory;
mod pair_worker;
pub(crate) mod queue_factory;
mod queue_reset;
pub(crate) mod threads;

use halted::HaltedQueues;

/// Resources of a device that are its own over all activations: backends, limiters, programs of
/// the link.
pub(crate) struct DetachedResources {
    pub(crate) pairs: Vec<QueuePairResources>,
    pub(crate) controls: Vec<Box<dyn PortControl>>,
    pub(crate) kernel: KernelPrograms,
    pub(crate) threads: WorkerThreads,
}

impl DetachedResources {
    /// Work that every backend takes undone in frames sent to it.
    pub(crate) fn tx_caps(&self) -> Offloads {
        let caps = self.pairs.iter().map(|pair| pair.backend.caps().tx);
        caps.fold(Offloads::all(), |all, caps| all & caps)
    }

    /// Segmentation that every backend does so well that frames may be merged for it.
    pub(crate) fn coalesce_caps(&self) -> Offloads {
        let caps = self.pairs.iter().map(|pair| pair.backend.caps().coalesce);
        caps.fold(Offloads::all(), |all, caps| all & caps)
    }

    /// Work that every backend can leave undone in received frames.
    pub(crate) fn rx_caps(&self) -> Offloads {
        let caps = self.pairs.iter().map(|pair| pair.backend.caps());
        caps.fold(Offloads::all(), |all, one| all & one.rx)
    }

    /// MTU of the link as it is now, if it has one: the smallest of all ports.
    pub(crate) fn link_mtu(&self) -> Option<u16> {
        self.pairs
            .iter()
            .filter_map(|pair| pair.backend.mtu())
            .min()
    }
}

/// A pair before and after its first queue was started.
enum Pair {
    Idle(Box<QueuePairResources>),
    Worker(WorkerHandle<PairWorker>),
    Lost(WorkerLost),
}

impl Pair {
    /// Resources of its worker, which is parked for it.
    fn resources(&mut self) -> Result<&mut QueuePairResources, WorkerLost> {
        match self {
            Self::Idle(resources) => Ok(resources),
            Self::Worker(handle) => Ok(&mut handle.park()?.resources),
            Self::Lost(lost) => Err(lost.clone()),
        }
    }
}

/// A device that a driver has activated.
pub(crate) struct ActiveDevice {
    shared: Arc<Shared>,
    factory: QueueFactory,
    pairs: Vec<Pair>,
    control: Option<WorkerHandle<CtrlWorker>>,
    threads: WorkerThreads,
    halted: HaltedQueues,
    lost: Option<WorkerLost>,
    /// It comes from elsewhere, where the link may have been another, and has not gone on yet: the
    /// driver is told then.
    restored: bool,
    /// Queues that were stopped, here or where the device was saved, and not started again. Of what
    /// they used before, the driver may not have heard.
    stopped: BTreeSet<u16>,
    /// Queues that the driver reset, and has not enabled again.
    reset: BTreeSet<u16>,
}

impl ActiveDevice {
    /// A device without queues, whose queues `factory` makes.
    pub(crate) fn new(
        shared: Arc<Shared>,
        factory: QueueFactory,
        resources: Vec<QueuePairResources>,
        threads: WorkerThreads,
    ) -> Self {
        let pairs = resources
            .into_iter()
            .map(|resources| Pair::Idle(Box::new(resources)))
            .collect();
        Self {
            shared,
            factory,
            pairs,
            control: None,
            threads,
            halted: HaltedQueues::default(),
            lost: None,
            restored: false,
            stopped: BTreeSet::new(),
            reset: BTreeSet::new(),
        }
    }

    /// The workers that a VMM's event loop drives.
    pub(crate) fn event_workers(&self) -> Vec<EventWorker> {
        let pairs = self.pairs.iter().filter_map(|pair| match pair {
            Pair::Worker(handle) => handle.event_worker(),
            _ => None,
        });
        let control = self.control.iter().filter_map(WorkerHandle::event_worker);
        pairs.chain(control).collect()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn link_config(&self) -> LinkConfig {
        LinkConfig {
            hdr_len: self.factory.negotiated.features.hdr_size().bytes(),
            rx: self.shared.link_offloads(),
        }
    }

    /// Programs header size and offloads into every backend.
    pub(crate) fn configure(&mut self) -> Result<(), WorkerError> {
        let link = self.link_config();
        for pair in &mut self.pairs {
            pair.resources()?
                .configure(&link)
                .map_err(WorkerError::Backend)?;
        }
        Ok(())
    }

    /// The same for backends that took it before. One that does not any more is lost, and fails its
    /// device instead of the call.
    fn reconfigure(&mut self) -> Result<(), WorkerLost> {
        let link = self.link_config();
        for (pair, state) in self.pairs.iter_mut().enumerate() {
            match state {
                Pair::Worker(handle) => handle.park()?.reconfigure(&link),
                Pair::Idle(resources) => {
                    if let Err(error) = resources.configure(&link) {
                        self.shared.port_died(pair, &error);
                    }
                }
                Pair::Lost(lost) => return Err(lost.clone()),
            }
        }
        Ok(())
    }

    /// Puts a queue in; its worker does not run before [`ActiveDevice::run`].
    pub(crate) fn insert(&mut self, setup: QueueSetup) -> Result<(), QueueError> {
        let index = setup.index;
        let config = self.factory.ring_config(&setup)?;
        let kick = setup.kick;
        let role = self.factory.role(index).ok_or(QueueError::Index(index))?;
        if self.halted.start(index, &config)? {
            return Ok(());
        }
        match role {
            QueueRole::Rx(pair) => {
                let engine = self.factory.rx(index, &config)?;
                let goes_on = engine.cursor() != Cursor::default();
                let interrupts = goes_on || self.stopped.contains(&index);
                let was_reset = self.started_again(index, goes_on);
                let worker = self.worker(pair, index)?;
                if worker.rx.is_some() {
                    return Err(QueueError::Running(index));
                }
                let queue = RxQueue::new(index, engine, kick, config);
                worker.rx = Some(queue.interrupting(interrupts));
                worker.discard_passed();
                if was_reset {
                    worker.discard_stale();
                }
                self.shared.queue_changed(|running| {
                    running.rx[usize::from(pair)] = true;
                    running.first_reset &= pair != 0;
                });
            }
            QueueRole::Tx(pair) => {
                let engine = self.factory.tx(index, &config)?;
                let goes_on = engine.cursor() != Cursor::default();
                let interrupts = goes_on || self.stopped.contains(&index);
                self.started_again(index, goes_on);
                let worker = self.worker(pair, index)?;
                if worker.tx.is_some() {
                    return Err(QueueError::Running(index));
                }
                let queue = TxQueue::new(index, engine, kick, config);
                worker.tx = Some(queue.interrupting(interrupts));
                self.shared
                    .queue_changed(|running| running.tx[usize::from(pair)] = true);
            }
            QueueRole::Ctrl => self.insert_control(CtrlQueue {
                index,
                engine: self.factory.ctrl(index, &config)?,
                kick,
                config,
            })?,
        }
        Ok(())
    }

    fn insert_control(&mut self, queue: CtrlQueue) -> Result<(), QueueError> {
        let index = queue.index;
        if self.control.is_some() {
            return Err(QueueError::Running(index));
        }
        let home = self
            .threads
            .control(&self.shared.id)
            .map_err(|source| QueueError::Spawn { index, source })?;
        let stopped = self.stopped.remove(&index);
        let interrupt_first = stopped || queue.engine.cursor() != Cursor::default();
        let mut worker = CtrlWorker::new(self.shared.clone(), self.factory.counters.clone(), queue);
        worker.interrupt_first = interrupt_first;
        self.control = Some(WorkerHandle::new(home, worker));
        Ok(())
    }

    /// Lets every worker run that is parked.
    pub(crate) fn run(&mut self) -> Result<(), WorkerError> {
        for pair in &mut self.pairs {
            if let Pair::Worker(handle) = pair {
                handle.prepare()?;
            }
        }
        if let Some(control) = &mut self.control {
            control.prepare()?;
        }
        for pair in &mut self.pairs {
            if let Pair::Worker(handle) = pair {
                handle.start()?;
            }
        }
        if let Some(control) = &mut self.control {
            control.start()?;
        }
        Ok(())
    }

    /// Puts one more queue in and lets it run.
    ///
    /// # Errors
    /// It cannot be used, and is out again; the others go on.
    pub(crate) fn insert_and_run(&mut self, setup: QueueSetup) -> Result<(), QueueError> {
        let index = setup.index;
        if let Err(error) = self.insert(setup) {
            self.run_or_fail()?;
            return Err(error);
        }
        let ran = self.run();
        if ran.is_err() {
            // A worker that is lost keeps nothing, and has said so.
            let _ = self.remove(index);
            self.run_or_fail()?;
        }
        Ok(ran?)
    }

    /// As [`ActiveDevice::run`], for workers that ran a moment ago: a host that cannot let them go
    /// on has failed.
    pub(crate) fn run_or_fail(&mut self) -> Result<(), WorkerError> {
        let done = self.run();
        if let Err(error) = &done {
            self.shared
                .fail(&format_args!("workers cannot go on: {error}"));
        }
        done
    }

    fn existing(&mut self, pair: u16) -> Result<Option<&mut PairWorker>, WorkerLost> {
        match &mut self.pairs[usize::from(pair)] {
            Pair::Worker(handle) => Ok(Some(handle.park()?)),
            Pair::Lost(lost) => Err(lost.clone()),
            Pair::Idle(_) => Ok(None),
        }
    }

    /// Stops every worker. A worker that is lost does not keep the others from being stopped.
    pub(crate) fn park(&mut self) -> Result<(), WorkerLost> {
        let mut result = Ok(());
        for pair in &mut self.pairs {
            if let Pair::Worker(handle) = pair
                && let Err(lost) = handle.park()
            {
                *pair = Pair::Lost(lost.clone());
                result = Err(lost);
            }
        }
        if let Some(control) = &mut self.control
            && let Err(lost) = control.park()
        {
            self.control = None;
            result = Err(lost);
        }
        self.lost = result.clone().err().or(self.lost.take());
        result
    }

    /// Goes on, as if every queue had been kicked, and interrupts every queue once.
    pub(crate) fn resume(&mut self) -> Result<(), WorkerError> {
        for pair in &mut self.pairs {
            if let Pair::Worker(handle) = pair {
                handle.park()?.interrupt_first();
            }
        }
        if let Some(control) = &mut self.control {
            control.park()?.interrupt_first = true;
        }
        self.reconfigure()?;
        let done = self.run();
        if done.is_err() {
            // Some may run already.
            let _ = self.park();
        }
        if done.is_ok() && std::mem::take(&mut self.restored) {
            self.shared.trigger(InterruptSource::Config);
        }
        done
    }

    /// Returns whether it was restored, and has not gone on yet.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored
    }

    /// Sends `frames` through the first port, whose worker is left parked. One that is lost has
    /// said so.
    pub(crate) fn send(&mut self, frames: &[Announcement]) {
        if let Some(Ok(resources)) = self.pairs.first_mut().map(Pair::resources) {
            resources.send(frames);
        }
    }

    /// Stops every worker of a pair between two frames. One that is lost has said so.
    pub(crate) fn park_pairs(&mut self) {
        for pair in &mut self.pairs {
            if let Pair::Worker(handle) = pair {
                let _ = handle.park();
            }
        }
    }

    /// Starts from what was saved; to be called before any queue is there. No queue of a
    /// device that needed a reset runs before that.
    pub(crate) fn restore(&mut self, saved: &DeviceState) {
        if saved.needs_reset {
            self.halted.halt_all();
        }
        self.restored = true;
        self.restore_resets(saved);
        self.shared.restore(
            saved.pairs,
            saved.rss.as_ref(),
            saved.offloads,
            &saved.tables,
        );
        self.shared.notf_coal.restore(&saved.notf_coal);
        let queues = 0..=2 * self.factory.pairs;
        self.stopped
            .extend(queues.filter(|queue| !saved.ran(*queue)));
    }

    /// Reads where every queue stands that was started. Queues of workers that run are left alone
    /// and out.
    pub(crate) fn cursors(&mut self) -> Vec<(u16, RingConfig)> {
        let mut cursors: Vec<_> = self.halted.started().collect();
        for pair in &mut self.pairs {
            if let Pair::Worker(handle) = pair {
                handle.with_parked(|worker| {
                    let rx = worker.rx.as_ref().map(|rx| (rx.index, rx.position()));
                    let tx = worker.tx.as_ref().map(|tx| (tx.index, tx.position()));
                    cursors.extend(rx.into_iter().chain(tx));
                });
            }
        }
        if let Some(control) = &mut self.control {
            control.with_parked(|worker| {
                let queue = &worker.queue;
                cursors.push((queue.index, queue.position()));
            });
        }
        cursors.sort_by_key(|(index, _)| *index);
        cursors
    }

    /// The worker that [`ActiveDevice::park`] has found to be lost, if there is one.
    pub(crate) fn lost(&self) -> Option<&WorkerLost> {
        self.lost.as_ref()
    }

    /// Ends every worker and returns what the next activation needs.
    ///
    /// # Errors
    /// The worker of a pair was lost, and its port with it. The control queue's has none.
    pub(crate) fn into_resources(mut self) -> Result<DetachedResources, WorkerLost> {
        // Each pair says below whether it is lost.
        let _ = self.park();
        if let Some(Ok((_, home))) = self.control.take().map(WorkerHandle::into_work) {
            self.threads.keep_control(home);
        }
        let mut pairs = Vec::with_capacity(self.pairs.len());
        for pair in self.pairs {
            pairs.push(match pair {
                Pair::Idle(resources) => *resources,
                Pair::Worker(handle) => {
                    let (worker, home) = handle.into_work()?;
                    self.threads.keep_queue_pair(worker.pair(), home);
                    worker.resources
                }
                Pair::Lost(lost) => return Err(lost),
            });
        }
        let (controls, kernel) = self.shared.release();
        Ok(DetachedResources {
            pairs,
            controls,
            kernel,
            threads: self.threads,
        })
    }
}
