//! The worker of one queue pair: turns the engines' reasons to stop into things to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use net_queue::{DropCause, Engine, FrameBackend, FrameFilter, LinkConfig, Stop};

use crate::error::WorkerError;
use crate::shared::Shared;
use crate::shared::queue_states::WaitsFor;
use crate::shared::reader_epoch::ReaderEpoch;
use crate::shared::rx_policy::PolicyReader;
use crate::transport::InterruptSource;
use crate::wake_timer::{Asked, WakeTimer};
use crate::worker::idle::Idle;
use crate::worker::patience::Patience;
use crate::worker::turn::{AddSource, Event, Source, Turn, Worker};

mod moderation;
mod queue;
mod receive;
mod resources;
mod steered;

use queue::{BUDGET, Ended, Wait};
pub(crate) use queue::{RxQueue, TxQueue, WorkerQueue};
pub(crate) use resources::QueuePairResources;
pub(crate) use steered::PairSteering;

/// Moves the frames of one pair.
pub(crate) struct PairWorker {
    pair: u16,
    shared: Arc<Shared>,
    pub(crate) resources: QueuePairResources,
    pub(crate) rx: Option<RxQueue>,
    pub(crate) tx: Option<TxQueue>,
    policy: PolicyReader,
    idle: Idle,
    /// It looks for events instead of sleeping.
    looks: bool,
    /// A frame waits for the backend to become writable.
    rearm_backend: bool,
    backend_dead: bool,
    /// As of the start of a run: whoever sets the link stops the workers for it.
    link_up: bool,
    patience: Patience,
    /// Timer for notifications that wait, if the driver can let them.
    notf_coal_timer: Option<Arc<WakeTimer>>,
    /// Deadline that it is set to.
    armed: Option<u64>,
    /// Ways to the other pairs, if the driver can steer by a table.
    steering: Option<PairSteering>,
}

impl PairWorker {
    pub(crate) fn new(
        pair: u16,
        shared: Arc<Shared>,
        resources: QueuePairResources,
        idle: Idle,
        notf_coal_timer: Option<Arc<WakeTimer>>,
        steering: Option<PairSteering>,
    ) -> Self {
        let policy = shared.reader();
        Self {
            pair,
            shared,
            resources,
            rx: None,
            tx: None,
            policy,
            looks: false,
            rearm_backend: false,
            idle,
            backend_dead: false,
            link_up: true,
            patience: Patience::default(),
            notf_coal_timer,
            armed: None,
            steering,
        }
    }

    /// Its number.
    pub(crate) fn pair(&self) -> u16 {
        self.pair
    }

    /// Makes every queue interrupt once when it starts.
    pub(crate) fn interrupt_first(&mut self) {
        self.rx.iter_mut().for_each(|rx| rx.interrupt_first = true);
        self.tx.iter_mut().for_each(|tx| tx.interrupt_first = true);
    }

    /// Drops the frames that came while its receive queue was reset; to be called before that runs.
    pub(crate) fn discard_stale(&mut self) {
        if let Some(rx) = &mut self.rx {
            rx.discard_stale(&mut *self.resources.backend);
        }
    }

    /// Drops the frames that were passed to it before its receive queue stopped; to be called when
    /// that comes back, before it runs: frames that come later are for it.
    pub(crate) fn discard_passed(&mut self) {
        if let (Some(rx), Some(steering)) = (&mut self.rx, &mut self.steering)
            && std::mem::take(&mut steering.stale)
        {
            let steering = &mut steering.by(None);
            rx.engine.discard_steered(steering, DropCause::Stopped);
        }
    }

    fn is_ready(&self) -> bool {
        RxQueue::is_ready(&self.rx) || TxQueue::is_ready(&self.tx) || self.distributes()
    }

    /// Asks the driver for kicks; false when there is something to do after all.
    fn prepare_sleep(&mut self) -> bool {
        self.rx.iter_mut().for_each(WorkerQueue::prepare_sleep);
        self.tx.iter_mut().for_each(WorkerQueue::prepare_sleep);
        !self.is_ready()
    }

    /// Shows the state of both queues while the worker is awake, or after its run.
    fn show_all(&self, waits_for: WaitsFor) {
        let states = &self.shared.status.queues;
        let (rx, tx) = (self.rx.as_ref(), self.tx.as_ref());
        let indices = rx.map(|rx| rx.index).into_iter();
        for index in indices.chain(tx.map(|tx| tx.index)) {
            states.clear(index, waits_for);
        }
    }

    fn step_tx(&mut self) {
        let Some(tx) = self.tx.as_mut() else { return };
        let limit = &mut self.resources.tx_limit;
        let asked = limit.ask();
        let budget = tx.budget();
        let done = if self.link_up {
            let backend = &mut *self.resources.backend;
            tx.engine
                .run(backend, &mut limit.limiter, asked.now, budget)
        } else {
            tx.engine.discard(DropCause::LinkDown, BUDGET)
        };
        self.idle.sent(done.frames);
        if tx.interrupts(&done, &self.shared) {
            self.shared.trigger(InterruptSource::Queue(tx.index));
        }
        let refused = tx.engine.take_refused_groups();
        if !refused.is_empty() {
            self.shared.groups_refused(tx.index, refused);
        }
        self.rearm_backend |= matches!(done.stop, Stop::Backend);
        match tx.stopped(done.stop, limit, asked) {
            Ok(()) => {}
            Err(Ended::Queue(fault)) => {
                self.shared
                    .fail(&format_args!("transmit queue {}: {fault}", tx.index));
            }
            Err(Ended::Backend(error)) => self.backend_died(&error),
        }
    }

    /// Takes over notification coalescing that has changed; returns when it was looked at, for
    /// [`Self::set_notf_coal_timer`].
    #[inline]
    fn apply_notf_coal(&mut self) -> Asked {
        let Some(timer) = &self.notf_coal_timer else {
            return Asked::default();
        };
        let asked = timer.wakes();
        let notf_coal = &self.shared.notf_coal;
        if let Some(rx) = &mut self.rx {
            rx.apply_notf_coal(notf_coal.get(rx.index));
        }
        if let Some(tx) = &mut self.tx {
            tx.apply_notf_coal(notf_coal.get(tx.index));
        }
        asked
    }

    /// Interrupts the driver for what has waited long enough.
    #[inline]
    fn notify_if_due(&mut self) {
        if let Some(rx) = &mut self.rx
            && rx.notify_if_due(&self.shared)
        {
            self.shared.trigger(InterruptSource::Queue(rx.index));
        }
        if let Some(tx) = &mut self.tx
            && tx.notify_if_due(&self.shared)
        {
            self.shared.trigger(InterruptSource::Queue(tx.index));
        }
    }

    /// Lets the timer end the sleep when a notification is due, or when parameters have changed
    /// since they were looked at.
    fn set_notf_coal_timer(&mut self, asked: Asked) {
        let rx = self
            .rx
            .as_ref()
            .and_then(WorkerQueue::notification_deadline);
        let tx = self
            .tx
            .as_ref()
            .and_then(WorkerQueue::notification_deadline);
        if let Some(deadline) = rx.into_iter().chain(tx).min()
            && self.armed != Some(deadline)
            && let Some(timer) = &self.notf_coal_timer
        {
            timer.set_deadline(deadline, asked);
            self.armed = Some(deadline);
        }
    }

    /// Programs the backend again as it was. One that does not take what it took before is gone.
    pub(crate) fn reconfigure(&mut self, link: &LinkConfig) {
        if !self.backend_dead
            && let Err(error) = self.resources.configure(link)
        {
            self.backend_died(&error);
        }
    }

    /// The port is gone: this device fails, its worker stays, and nothing else is touched.
    fn backend_died(&mut self, error: &std::io::Error) {
        self.backend_dead = true;
        self.rx.iter_mut().for_each(|rx| rx.wait = Wait::Halted);
        self.tx.iter_mut().for_each(|tx| tx.wait = Wait::Halted);
        self.resources.rx_limit.idle();
        self.resources.tx_limit.idle();
        self.shared.port_died(usize::from(self.pair), error);
    }

    /// Leaves rings whose cursors tell all, see [`RxEngine::drain`] and [`TxEngine::drain`], and a
    /// driver that was told of all that was done, due or not (DEV-LIFE-18).
    fn drain(&mut self) {
        if let Some(rx) = self.rx.as_mut() {
            let inside = self.shared.epoch(self.pair).map(ReaderEpoch::enter);
            rx.apply_policy(&self.shared, &mut self.policy);
            if self.pair >= self.policy.get().pairs {
                rx.engine.discard_held();
            }
            let filter = self.policy.get().filter.as_ref();
            let filter = filter.map(|filter| filter as &dyn FrameFilter);
            let limiter = &mut self.resources.rx_limit.limiter;
            let interrupt = rx.engine.drain(limiter, filter, self.shared.now_ns()) | rx.notify();
            drop(inside);
            if interrupt {
                self.shared.trigger(InterruptSource::Queue(rx.index));
            }
        }
        if let Some(tx) = self.tx.as_mut() {
            let limiter = &mut self.resources.tx_limit.limiter;
            let backend = &mut *self.resources.backend;
            if tx.engine.drain(backend, limiter, self.shared.now_ns()) | tx.notify() {
                self.shared.trigger(InterruptSource::Queue(tx.index));
            }
        }
        self.resources.rx_limit.idle();
        self.resources.tx_limit.idle();
    }
}

impl Worker for PairWorker {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn sources(&self, add: &mut AddSource<'_>) -> Result<(), WorkerError> {
        if !self.backend_dead {
            let fd = self.resources.backend.poll_fd();
            add(fd, Source::Backend).map_err(WorkerError::Backend)?;
        }
        let rx = self.rx.as_ref().map(|queue| (queue.index, &queue.kick));
        let tx = self.tx.as_ref().map(|queue| (queue.index, &queue.kick));
        for (queue, source) in [(rx, Source::RxKick), (tx, Source::TxKick)] {
            if let Some((index, kick)) = queue {
                add(kick.as_fd(), source).map_err(|source| WorkerError::Kick { index, source })?;
            }
        }
        for (limit, source) in [
            (&self.resources.rx_limit, Source::RxTimer),
            (&self.resources.tx_limit, Source::TxTimer),
        ] {
            if let Some(timer) = &limit.timer {
                timer
                    .with_fd(|fd| add(fd, source))
                    .map_err(WorkerError::Poll)?;
            }
        }
        if let Some(timer) = &self.notf_coal_timer {
            timer
                .with_fd(|fd| add(fd, Source::NotfCoalTimer))
                .map_err(WorkerError::Poll)?;
        }
        if let Some(doorbell) = self.steering.as_ref().and_then(PairSteering::doorbell) {
            add(doorbell, Source::Steering).map_err(WorkerError::Poll)?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        if self.rx.is_none() {
            let steering = self.steering.iter_mut();
            steering.for_each(|steering| steering.stale = true);
        }
        self.show_all(WaitsFor::Nothing);
        self.armed = None;
        let timer = self.notf_coal_timer.clone();
        self.shared.notf_coal.set_timer(self.pair, timer);
        // From now on, until another run begins, this is the timer that it waits for.
        self.shared
            .set_rx_timer(self.pair, self.resources.rx_limit.timer.clone());
        self.rx.iter_mut().for_each(WorkerQueue::reset_wait);
        self.tx.iter_mut().for_each(WorkerQueue::reset_wait);
        self.link_up = self.shared.space.passes_frames();
        let first = |index: u16, first: &mut bool| std::mem::take(first).then_some(index);
        let (rx, tx) = (self.rx.as_mut(), self.tx.as_mut());
        let rx = rx.and_then(|rx| first(rx.index, &mut rx.interrupt_first));
        let tx = tx.and_then(|tx| first(tx.index, &mut tx.interrupt_first));
        for index in rx.into_iter().chain(tx) {
            self.shared.trigger(InterruptSource::Queue(index));
        }
    }

    fn turn(&mut self) -> Turn {
        let asked = self.apply_notf_coal();
        if RxQueue::is_ready(&self.rx) {
            self.step_rx();
        } else if self.distributes() {
            self.distribute();
        }
        if TxQueue::is_ready(&self.tx) {
            self.step_tx();
        }
        self.looks = self.is_ready() || self.idle.looks(|| self.shared.now_ns());
        self.notify_if_due();
        let sleeps = !self.looks && self.prepare_sleep();
        if sleeps {
            self.set_notf_coal_timer(asked);
            let states = &self.shared.status.queues;
            self.rx.iter().for_each(|rx| rx.show_wait(states));
            self.tx.iter().for_each(|tx| tx.show_wait(states));
        }
        let waits_for_driver = |rx: &RxQueue| rx.wait == Wait::Driver;
        Turn {
            again: !sleeps,
            deadline_ns: match &self.rx {
                Some(rx) if waits_for_driver(rx) => self.patience.deadline(),
                _ => None,
            },
            rearm_backend: std::mem::take(&mut self.rearm_backend),
            sources_changed: false,
        }
    }

    fn on_event(&mut self, event: Event) {
        match event.source {
            // Any event ends the wait for the driver.
            Source::Owner | Source::CtrlKick => {}
            Source::RxKick => self.rx.iter().for_each(|rx| rx.engine.count_kick()),
            Source::TxKick => self.tx.iter().for_each(|tx| tx.engine.count_kick()),
            Source::RxTimer => self.rx.iter_mut().for_each(|rx| rx.mark_ready(Wait::Timer)),
            Source::NotfCoalTimer => self.armed = None,
            Source::Steering => {
                let rx = self.rx.iter_mut();
                rx.for_each(|rx| rx.mark_ready(Wait::Backend));
            }
            Source::TxTimer => self.tx.iter_mut().for_each(|tx| tx.mark_ready(Wait::Timer)),
            Source::Backend => {
                // A queue that waits for its driver would not try the backend.
                if event.error
                    && let Err(error) = self.resources.backend.check()
                {
                    self.backend_died(&error);
                    return;
                }
                let (rx, tx) = (self.rx.as_mut(), self.tx.as_mut());
                if event.readable {
                    let steering = self.steering.iter_mut();
                    steering.for_each(|steering| steering.backend_ready = true);
                    rx.into_iter().for_each(|rx| rx.mark_ready(Wait::Backend));
                }
                if event.writable {
                    tx.into_iter().for_each(|tx| tx.mark_ready(Wait::Backend));
                }
            }
        }
    }

    fn after_wakeup(&mut self) {
        let slept = !self.looks;
        if slept {
            self.show_all(WaitsFor::Nothing);
        }
        self.rx.iter_mut().for_each(|rx| rx.after_wakeup(slept));
        self.tx.iter_mut().for_each(|tx| tx.after_wakeup(slept));
    }

    fn backend(&self) -> Option<BorrowedFd<'_>> {
        (!self.backend_dead).then(|| self.resources.backend.poll_fd())
    }

    fn backend_failed(&mut self, error: &io::Error) {
        self.backend_died(error);
    }

    fn end(&mut self) {
        self.show_all(WaitsFor::Stopped);
        self.drain();
    }
}
