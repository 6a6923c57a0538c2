//! One running queue of a pair: its engine, and what it waits for.

use std::io;
use std::os::fd::OwnedFd;

use net_queue::ctrl::NotificationCoalescing;
use net_queue::ring::{AnyRing, RingConfig};
use net_queue::{
    Budget, DropCause, Engine, FrameBackend, Outcome, QueueFault, RxEngine, Stop, TxEngine,
};

use crate::rate_limit::QueueLimit;
use crate::shared::Shared;
use crate::shared::queue_states::{QueueStates, WaitsFor};
use crate::shared::rx_policy::PolicyReader;
use crate::wake_timer::Asked;
use crate::worker::queue_pair::moderation::Moderation;

/// Budget of one engine before the other one, and the stop event, get their turn.
pub(super) const BUDGET: Budget = Budget {
    frames: 128,
    bytes: 1 << 20,
};

/// Most frames that are dropped when a queue that was reset starts: as many as a long queue of a
/// link holds. New ones may come as fast as they are dropped.
const STALE: Budget = Budget {
    frames: 4096,
    bytes: u64::MAX,
};

/// Event that a queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: it has work.
    Ready,
    /// The driver: for chains to send, or for buffers to receive into. It is asked for a kick only
    /// while the worker sleeps; as long as it is awake it looks by itself.
    Driver,
    /// The backend: to become writable, or readable.
    Backend,
    /// The limiter's timer.
    Timer,
    /// A reset: the ring or the backend is broken.
    Halted,
}

/// End of a queue.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its driver broke the ring.
    Queue(QueueFault),
    /// Its backend is gone.
    Backend(io::Error),
}

/// A running queue.
#[derive(Debug)]
pub(crate) struct WorkerQueue<E> {
    pub(crate) index: u16,
    pub(crate) engine: E,
    pub(crate) kick: OwnedFd,
    /// Configuration of the ring, to make it again over other memory.
    pub(crate) config: RingConfig,
    pub(super) wait: Wait,
    moderation: Moderation,
    /// The driver asked for an interrupt that was held back, see [`WorkerQueue::confirms`].
    owed: bool,
    /// Interrupt once at the start: an interrupt from before a stop, a pause or a migration may be
    /// lost.
    pub(super) interrupt_first: bool,
}

impl<E: Engine> WorkerQueue<E> {
    /// Configuration of the ring to go on where it stands.
    pub(crate) fn position(&self) -> RingConfig {
        RingConfig {
            cursor: self.engine.cursor(),
            ..self.config
        }
    }

    /// Before the worker sleeps.
    pub(super) fn prepare_sleep(&mut self) {
        if self.wait == Wait::Driver && self.engine.enable_notification() {
            self.wait = Wait::Ready;
        }
    }

    /// Before the worker goes on, from sleep or not.
    pub(super) fn after_wakeup(&mut self, slept: bool) {
        if self.wait == Wait::Driver {
            if slept {
                self.engine.disable_notification();
            }
            self.wait = Wait::Ready;
        }
    }

    /// Shows what the queue waits for, as the worker goes to sleep.
    pub(super) fn show_wait(&self, states: &QueueStates) {
        let waits_for = match self.wait {
            Wait::Ready => WaitsFor::Nothing,
            Wait::Driver => WaitsFor::Driver,
            Wait::Backend => WaitsFor::Network,
            Wait::Timer => WaitsFor::Limit,
            Wait::Halted => WaitsFor::Reset,
        };
        states.set(self.index, waits_for, &self.engine.cursor());
    }

    /// Takes over notification coalescing that has changed.
    #[inline]
    pub(super) fn apply_notf_coal(&mut self, params: NotificationCoalescing) {
        if params != self.moderation.params() {
            self.change_notf_coal(params);
        }
    }

    /// Puts others in force, also for what waits already: it is looked at in the same turn.
    #[cold]
    fn change_notf_coal(&mut self, params: NotificationCoalescing) {
        self.moderation.set(params);
        let waits = self.moderation.deadline().is_some();
        self.engine.defer_interrupts(params.is_on() || waits);
    }

    /// Budget of the next run: no more than may pass before the driver is to be notified.
    #[inline]
    pub(super) fn budget(&self) -> Budget {
        if !self.moderation.is_on() {
            return BUDGET;
        }
        Budget {
            frames: BUDGET.frames.min(self.moderation.remaining()),
            ..BUDGET
        }
    }

    /// Counts what a run has shown the driver; returns whether to interrupt it now.
    #[inline]
    pub(super) fn interrupts(&mut self, done: &Outcome, shared: &Shared) -> bool {
        if self.moderation.is_on() {
            self.moderate(done.frames, shared)
        } else {
            done.interrupt && self.confirms(self.moderation, done.frames, shared)
        }
    }

    #[cold]
    fn moderate(&mut self, frames: u64, shared: &Shared) -> bool {
        if self.engine.is_undecided() {
            self.moderation.count(frames, shared.now_ns());
        }
        self.notify_if_due(shared)
    }

    /// Returns whether to interrupt the driver for what has waited until now.
    #[inline]
    pub(super) fn notify_if_due(&mut self, shared: &Shared) -> bool {
        let waited = self.moderation;
        waited.deadline().is_some()
            && waited.is_due(shared.now_ns())
            && self.notify()
            && self.confirms(waited, 0, shared)
    }

    /// Returns whether the parameters by which the driver is about to be interrupted are still in
    /// force (NET-CVQ-25). If not, what has `waited`, and `frames` that have not, wait under those
    /// that are; the turn judges them at its end, and once more when the command wakes the worker.
    ///
    /// An interrupt is decided when the driver was shown what it is for, with a fence behind it. So
    /// where this finds the old parameters, the driver could see all of that before its command was
    /// answered, and an interrupt that comes later was on its way. The command need not wait.
    #[inline]
    fn confirms(&mut self, waited: Moderation, frames: u64, shared: &Shared) -> bool {
        let params = shared.notf_coal.get(self.index);
        if params == waited.params() {
            return true;
        }
        self.hold_back(waited, frames, params, shared.now_ns());
        false
    }

    #[cold]
    fn hold_back(
        &mut self,
        waited: Moderation,
        frames: u64,
        params: NotificationCoalescing,
        now: u64,
    ) {
        (self.moderation, self.owed) = (waited, true);
        self.moderation.count(frames, now);
        self.change_notf_coal(params);
    }

    /// Returns whether to interrupt the driver for what waits, whether it is due or not.
    pub(super) fn notify(&mut self) -> bool {
        self.moderation.reset();
        let interrupt = self.engine.decide_interrupt() | std::mem::take(&mut self.owed);
        self.engine.defer_interrupts(self.moderation.is_on());
        interrupt
    }

    /// Time at which [`Self::notify_if_due`] has to be asked, if anything waits.
    #[inline]
    pub(super) fn notification_deadline(&self) -> Option<u64> {
        self.moderation.deadline()
    }

    /// After a stop the driver may have done anything, except with a queue that is broken for good.
    pub(super) fn reset_wait(&mut self) {
        self.engine.disable_notification();
        if self.wait != Wait::Halted {
            self.wait = Wait::Ready;
        }
    }
}

impl<E> WorkerQueue<E> {
    /// Waits for whatever ends the reason to `stop`; the limit was `asked` before the engine ran.
    ///
    /// # Errors
    /// Only a reset does.
    pub(super) fn stopped(
        &mut self,
        stop: Stop,
        limit: &mut QueueLimit,
        asked: Asked,
    ) -> Result<(), Ended> {
        self.wait = match stop {
            Stop::Budget => Wait::Ready,
            Stop::Driver => {
                limit.limiter.idle(asked.now);
                Wait::Driver
            }
            Stop::Backend => {
                limit.limiter.idle(asked.now);
                Wait::Backend
            }
            Stop::Limited(deadline) => {
                limit.wait_until(deadline, asked);
                Wait::Timer
            }
            Stop::Fault(fault) => {
                limit.idle();
                self.wait = Wait::Halted;
                return Err(Ended::Queue(fault));
            }
            Stop::Dead(error) => return Err(Ended::Backend(error)),
        };
        Ok(())
    }

    pub(crate) fn new(index: u16, engine: E, kick: OwnedFd, config: RingConfig) -> Self {
        Self {
            index,
            engine,
            kick,
            config,
            wait: Wait::Ready,
            moderation: Moderation::default(),
            owed: false,
            interrupt_first: false,
        }
    }

    /// The same queue, which interrupts once when it starts if `first`.
    pub(crate) fn interrupting(mut self, first: bool) -> Self {
        self.interrupt_first = first;
        self
    }

    pub(crate) fn interrupts_first(&self) -> bool {
        self.interrupt_first
    }

    pub(super) fn mark_ready(&mut self, on: Wait) {
        if self.wait == on {
            self.wait = Wait::Ready;
        }
    }

    pub(super) fn is_ready(queue: &Option<Self>) -> bool {
        queue
            .as_ref()
            .is_some_and(|queue| queue.wait == Wait::Ready)
    }
}

pub(crate) type RxQueue = WorkerQueue<RxEngine<AnyRing>>;
pub(crate) type TxQueue = WorkerQueue<TxEngine<AnyRing>>;

impl RxQueue {
    /// Takes frames from the backend that nobody gets, since the link is set down.
    pub(super) fn discard(&mut self, backend: &mut dyn FrameBackend) -> Outcome {
        self.engine.discard(backend, DropCause::LinkDown, BUDGET)
    }

    /// Drops what is there when a queue starts that was reset: frames that came while no queue
    /// could take them (NET-MQ-06).
    pub(super) fn discard_stale(&mut self, backend: &mut dyn FrameBackend) {
        // A port that is gone is found out when the queue runs.
        self.engine.discard(backend, DropCause::Stopped, STALE);
    }

    /// Takes over a policy that has changed. To be called inside the worker's epoch.
    #[inline]
    pub(super) fn apply_policy(&mut self, shared: &Shared, policy: &mut PolicyReader) {
        if shared.refresh(policy) {
            self.engine.set_offloads(policy.get().offloads);
            self.engine.set_hasher(policy.get().hasher.clone());
        }
    }
}
