//! Reception of a pair: what its queue delivers, and what it passes on to other pairs.

use net_queue::{DropCause, FrameBackend, FrameFilter, Outcome, Stop};

use super::PairWorker;
use super::queue::{BUDGET, Ended, RxQueue, Wait};
use super::steered::PairSteering;
use crate::rate_limit::QueueLimit;
use crate::shared::reader_epoch::ReaderEpoch;
use crate::shared::rx_policy::RxPolicy;
use crate::transport::InterruptSource;
use crate::wake_timer::Asked;

/// The driver's filter, if it has one.
fn filter_of(policy: &RxPolicy) -> Option<&dyn FrameFilter> {
    let filter = policy.filter.as_ref();
    filter.map(|filter| filter as &dyn FrameFilter)
}

/// One run of a receive queue.
struct Run<'a> {
    rx: &'a mut RxQueue,
    backend: &'a mut dyn FrameBackend,
    limit: &'a mut QueueLimit,
    policy: &'a RxPolicy,
    now: u64,
}

impl Run<'_> {
    /// Delivers what the backend has.
    fn unsteered(self) -> Outcome {
        let (filter, budget) = (filter_of(self.policy), self.rx.budget());
        let limiter = &mut self.limit.limiter;
        let engine = &mut self.rx.engine;
        engine.run(self.backend, limiter, filter, self.now, budget)
    }

    /// Delivers what is for this queue, and passes on what is not. The second result is why it
    /// stopped to pass on, if the queue stopped before.
    fn steered(self, steering: &mut PairSteering) -> (Outcome, Option<Stop>) {
        let (filter, budget) = (filter_of(self.policy), self.rx.budget());
        let limiter = &mut self.limit.limiter;
        let (engine, backend) = (&mut self.rx.engine, self.backend);
        let steering = &mut steering.by(self.policy.table.as_deref());
        let done = engine.run_steered(backend, limiter, filter, steering, self.now, budget);
        // What waits for this queue's driver or limit keeps no frame of others waiting.
        let waits = matches!(done.stop, Stop::Driver | Stop::Limited(_));
        let left = waits.then(|| engine.distribute(backend, filter, steering, BUDGET));
        (done, left)
    }

    /// Drops what there is, since the link is set down.
    fn link_down(self, steering: Option<&mut PairSteering>) -> Outcome {
        if let Some(steering) = steering {
            let steering = &mut steering.by(None);
            self.rx
                .engine
                .discard_steered(steering, DropCause::LinkDown);
        }
        self.rx.discard(self.backend)
    }
}

impl PairWorker {
    pub(super) fn step_rx(&mut self) {
        let Some(rx) = self.rx.as_mut() else { return };
        let shared = self.shared.clone();
        let Some(epoch) = shared.epoch(self.pair) else {
            return;
        };
        let inside = epoch.enter();
        rx.apply_policy(&shared, &mut self.policy);
        let policy = self.policy.get();
        let limit = &mut self.resources.rx_limit;
        if self.pair >= policy.pairs {
            // Not fed any more; the link says when it is again.
            rx.engine.discard_held();
            if let Some(steering) = &mut self.steering {
                let steering = &mut steering.by(None);
                rx.engine.discard_steered(steering, DropCause::Stopped);
            }
            limit.idle();
            rx.wait = Wait::Backend;
            return;
        }
        if self.patience.is_over(|| shared.now_ns()) {
            rx.engine.give_up();
        }
        let asked = limit.ask();
        let steering = match &mut self.steering {
            Some(steering) if policy.table.is_some() || steering.has_frames() => Some(steering),
            Some(steering) => {
                // Without a table there is nothing to distribute while the queue waits.
                steering.finish(false);
                None
            }
            None => None,
        };
        let run = Run {
            rx,
            backend: &mut *self.resources.backend,
            limit,
            policy,
            now: asked.now,
        };
        let mut left = None;
        let done = match steering {
            steering if !self.link_up => run.link_down(steering),
            None => run.unsteered(),
            Some(steering) => {
                let (done, more) = run.steered(steering);
                steering.finish(matches!(more, Some(Stop::Budget)));
                left = more;
                done
            }
        };
        drop(inside);
        self.after_run(done, asked);
        if let Some(Stop::Dead(error)) = left {
            self.backend_died(&error);
        }
    }

    /// Interrupts the driver for what a run has shown it, and waits for what ends the reason to
    /// stop.
    fn after_run(&mut self, done: Outcome, asked: Asked) {
        let Some(rx) = self.rx.as_mut() else { return };
        let shared = &self.shared;
        self.patience
            .update(rx.engine.missing(), done.frames > 0, || shared.now_ns());
        self.idle.received(done.frames);
        if rx.interrupts(&done, shared) {
            shared.trigger(InterruptSource::Queue(rx.index));
        }
        match rx.stopped(done.stop, &mut self.resources.rx_limit, asked) {
            Ok(()) => {}
            Err(Ended::Queue(fault)) => {
                shared.fail(&format_args!("receive queue {}: {fault}", rx.index));
            }
            Err(Ended::Backend(error)) => self.backend_died(&error),
        }
    }

    /// Returns whether there may be frames for other pairs, although the own queue waits.
    pub(super) fn distributes(&self) -> bool {
        let waits = |rx: &RxQueue| matches!(rx.wait, Wait::Timer | Wait::Driver);
        self.steering.as_ref().is_some_and(|it| it.backend_ready)
            && self.rx.as_ref().is_some_and(waits)
    }

    /// Passes on what the backend has for other pairs, while the own queue waits.
    #[cold]
    pub(super) fn distribute(&mut self) {
        let (Some(rx), Some(steering)) = (self.rx.as_mut(), self.steering.as_mut()) else {
            return;
        };
        let inside = self.shared.epoch(self.pair).map(ReaderEpoch::enter);
        rx.apply_policy(&self.shared, &mut self.policy);
        let policy = self.policy.get();
        let mut left = None;
        if self.link_up
            && let Some(table) = &policy.table
        {
            let (filter, backend) = (filter_of(policy), &mut *self.resources.backend);
            let steering = &mut steering.by(Some(table));
            left = Some(rx.engine.distribute(backend, filter, steering, BUDGET));
        }
        drop(inside);
        steering.finish(matches!(left, Some(Stop::Budget)));
        if let Some(Stop::Dead(error)) = left {
            self.backend_died(&error);
        }
    }
}
