//! The worker of one queue pair: turns the engines' reasons to stop into things to wait for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use net_queue::{Admit, Budget, DropCause, FrameBackend, LinkConfig, RxStop, TxStop};
use vmm_sys_util::eventfd::EventFd;

use crate::error::ActivateError;
use crate::fd;
use crate::limits::now_ns;
use crate::live::{Epoch, Live, PolicyReader};
use crate::log_limited;
use crate::patience::Patience;
use crate::poll::{BusyPoll, Poller, Ready, Source};
use crate::thread::Work;
use crate::traits::InterruptSource;

mod parts;
mod queue;

pub(crate) use parts::PairParts;
use queue::Wait;
pub(crate) use queue::{Kicked, PairQueue, RxQueue, TxQueue};

/// What one engine may do before the other one, and the stop event, get their turn.
const BUDGET: Budget = Budget {
    frames: 128,
    bytes: 1 << 20,
};

/// Moves the frames of one pair.
pub(crate) struct PairWorker {
    pair: u16,
    live: Arc<Live>,
    pub(crate) parts: PairParts,
    pub(crate) rx: Option<RxQueue>,
    pub(crate) tx: Option<TxQueue>,
    policy: PolicyReader,
    /// Made by `prepare`, used up by one run.
    poller: Option<Poller>,
    busy_poll: BusyPoll,
    backend_dead: bool,
    /// As of the start of a run: whoever sets the link stops the workers for it.
    link_up: bool,
    patience: Patience,
}

impl PairWorker {
    pub(crate) fn new(pair: u16, live: Arc<Live>, parts: PairParts, busy_poll: BusyPoll) -> Self {
        let policy = live.reader();
        Self {
            pair,
            live,
            parts,
            rx: None,
            tx: None,
            policy,
            poller: None,
            busy_poll,
            backend_dead: false,
            link_up: true,
            patience: Patience::default(),
        }
    }

    /// Makes every queue interrupt once when it starts.
    pub(crate) fn interrupt_first(&mut self) {
        self.rx.iter_mut().for_each(|rx| rx.interrupt_first = true);
        self.tx.iter_mut().for_each(|tx| tx.interrupt_first = true);
    }

    fn note(&mut self, ready: Ready) {
        match ready.source {
            // Who waits for the driver is roused by any event.
            Source::Stop | Source::CtrlKick | Source::RxKick | Source::TxKick => {}
            Source::RxTimer => self.rx.iter_mut().for_each(|rx| rx.wake(Wait::Timer)),
            Source::TxTimer => self.tx.iter_mut().for_each(|tx| tx.wake(Wait::Timer)),
            Source::Backend => {
                // A queue that waits for its driver would not try the backend.
                if ready.troubled
                    && let Err(error) = self.parts.backend.check()
                {
                    self.backend_died(&error);
                    return;
                }
                let (rx, tx) = (self.rx.as_mut(), self.tx.as_mut());
                if ready.readable {
                    rx.into_iter().for_each(|rx| rx.wake(Wait::Backend));
                }
                if ready.writable {
                    tx.into_iter().for_each(|tx| tx.wake(Wait::Backend));
                }
            }
        }
    }

    fn is_ready(&self) -> bool {
        RxQueue::is_ready(&self.rx) || TxQueue::is_ready(&self.tx)
    }

    /// Asks the driver for kicks; false when there is something to do after all.
    fn rest(&mut self) -> bool {
        self.rx.iter_mut().for_each(PairQueue::rest);
        self.tx.iter_mut().for_each(PairQueue::rest);
        !self.is_ready()
    }

    /// Milliseconds that the worker may sleep; negative for any time.
    fn timeout(&self) -> i32 {
        match &self.rx {
            Some(rx) if rx.wait == Wait::Driver => self.patience.timeout(),
            _ => -1,
        }
    }

    fn step_rx(&mut self) {
        let Some(rx) = self.rx.as_mut() else { return };
        let live = self.live.clone();
        let Some(epoch) = live.epoch(self.pair) else {
            return;
        };
        let inside = epoch.enter();
        rx.follow(&live, &mut self.policy);
        let policy = self.policy.get();
        let limit = &mut self.parts.rx_limit;
        if self.pair >= policy.pairs {
            // Not fed any more; the link says when it is again.
            rx.engine.abandon();
            limit.idle();
            rx.wait = Wait::Backend;
            return;
        }
        if self.patience.is_over() {
            rx.engine.give_up();
        }
        let asked = limit.ask();
        let filter = policy.filter.as_ref().map(|filter| filter as &dyn Admit);
        let backend = &mut *self.parts.backend;
        let done = if self.link_up {
            rx.engine
                .run(backend, &mut limit.limiter, filter, asked.now, BUDGET)
        } else {
            rx.discard(backend)
        };
        drop(inside);
        self.patience.note(rx.engine.missing(), done.frames > 0);
        if done.frames > 0 {
            self.busy_poll.restart();
        }
        if done.interrupt {
            live.trigger(InterruptSource::Queue(rx.index));
        }
        rx.wait = match done.stop {
            RxStop::Budget => Wait::Ready,
            RxStop::Drained => {
                limit.limiter.idle(asked.now);
                Wait::Backend
            }
            RxStop::NoBuffers => {
                limit.limiter.idle(asked.now);
                Wait::Driver
            }
            RxStop::Limited(deadline) => {
                limit.wait_until(deadline, asked);
                Wait::Timer
            }
            RxStop::Fault(fault) => {
                limit.idle();
                live.fail(&format_args!("receive queue {}: {fault}", rx.index));
                Wait::Halted
            }
            RxStop::Dead(error) => {
                self.backend_died(&error);
                return;
            }
        };
    }

    fn step_tx(&mut self, poller: &Poller) {
        let Some(tx) = self.tx.as_mut() else { return };
        let limit = &mut self.parts.tx_limit;
        let asked = limit.ask();
        let done = if self.link_up {
            let backend = &mut *self.parts.backend;
            tx.engine
                .run(backend, &mut limit.limiter, asked.now, BUDGET)
        } else {
            tx.engine.discard(DropCause::LinkDown, BUDGET)
        };
        if done.frames > 0 {
            self.busy_poll.restart();
        }
        if done.interrupt {
            self.live.trigger(InterruptSource::Queue(tx.index));
        }
        tx.wait = match done.stop {
            TxStop::Budget => Wait::Ready,
            TxStop::Empty => {
                limit.limiter.idle(asked.now);
                Wait::Driver
            }
            TxStop::Blocked => {
                limit.idle();
                if let Err(error) =
                    poller.rearm_writable(self.parts.backend.poll_fd(), Source::Backend)
                {
                    self.backend_died(&error);
                    return;
                }
                Wait::Backend
            }
            TxStop::Limited(deadline) => {
                limit.wait_until(deadline, asked);
                Wait::Timer
            }
            TxStop::Fault(fault) => {
                limit.idle();
                self.live
                    .fail(&format_args!("transmit queue {}: {fault}", tx.index));
                Wait::Halted
            }
            TxStop::Dead(error) => {
                self.backend_died(&error);
                return;
            }
        };
    }

    /// Programs the backend again as it was. One that does not take what it took before is gone.
    pub(crate) fn reconfigure(&mut self, link: &LinkConfig) {
        if !self.backend_dead
            && let Err(error) = self.parts.backend.configure(link)
        {
            self.backend_died(&error);
        }
    }

    /// The port is gone: this device fails, its worker stays, and nothing else is touched.
    fn backend_died(&mut self, error: &std::io::Error) {
        self.backend_dead = true;
        self.rx.iter_mut().for_each(|rx| rx.wait = Wait::Halted);
        self.tx.iter_mut().for_each(|tx| tx.wait = Wait::Halted);
        self.parts.rx_limit.idle();
        self.parts.tx_limit.idle();
        self.live.port_died(usize::from(self.pair), error);
    }

    /// Leaves rings whose cursors tell all, see [`RxEngine::settle`].
    fn settle(&mut self) {
        if let Some(rx) = self.rx.as_mut() {
            let inside = self.live.epoch(self.pair).map(Epoch::enter);
            rx.follow(&self.live, &mut self.policy);
            if self.pair >= self.policy.get().pairs {
                rx.engine.abandon();
            }
            let filter = self.policy.get().filter.as_ref();
            let filter = filter.map(|filter| filter as &dyn Admit);
            let limiter = &mut self.parts.rx_limit.limiter;
            if rx.engine.settle(limiter, filter, now_ns()) {
                self.live.trigger(InterruptSource::Queue(rx.index));
            }
            drop(inside);
        }
        self.parts.rx_limit.idle();
        self.parts.tx_limit.idle();
    }
}

impl Work for PairWorker {
    fn prepare(&mut self, stop: &EventFd) -> Result<(), ActivateError> {
        let poller = Poller::new().map_err(ActivateError::Poll)?;
        poller
            .add_level(fd::of(stop), Source::Stop)
            .map_err(ActivateError::Poll)?;
        if !self.backend_dead {
            let fd = self.parts.backend.poll_fd();
            poller
                .add_edge(fd, Source::Backend)
                .map_err(ActivateError::Backend)?;
        }
        let add = |fd: Option<(u16, &OwnedFd)>, source| match fd {
            Some((index, fd)) => poller
                .add_edge(fd.as_fd(), source)
                .map_err(|source| ActivateError::Kick { index, source }),
            None => Ok(()),
        };
        add(
            self.rx.as_ref().map(|queue| (queue.index, &queue.kick)),
            Source::RxKick,
        )?;
        add(
            self.tx.as_ref().map(|queue| (queue.index, &queue.kick)),
            Source::TxKick,
        )?;
        for (limit, source) in [
            (&self.parts.rx_limit, Source::RxTimer),
            (&self.parts.tx_limit, Source::TxTimer),
        ] {
            if let Some(timer) = &limit.timer {
                timer
                    .with_fd(|fd| poller.add_edge(fd, source))
                    .map_err(ActivateError::Poll)?;
            }
        }
        // From now on, until another run is prepared, this is the timer that it waits for.
        self.live
            .set_rx_timer(self.pair, self.parts.rx_limit.timer.clone());
        self.poller = Some(poller);
        Ok(())
    }

    fn run(&mut self, _stop: &EventFd) {
        self.rx.iter_mut().for_each(PairQueue::restart);
        self.tx.iter_mut().for_each(PairQueue::restart);
        self.link_up = self.live.space.passes_frames();
        let first = |index: u16, first: &mut bool| std::mem::take(first).then_some(index);
        let (rx, tx) = (self.rx.as_mut(), self.tx.as_mut());
        let rx = rx.and_then(|rx| first(rx.index, &mut rx.interrupt_first));
        let tx = tx.and_then(|tx| first(tx.index, &mut tx.interrupt_first));
        for index in rx.into_iter().chain(tx) {
            self.live.trigger(InterruptSource::Queue(index));
        }
        let Some(poller) = self.poller.take() else {
            return;
        };
        loop {
            if RxQueue::is_ready(&self.rx) {
                self.step_rx();
            }
            if TxQueue::is_ready(&self.tx) {
                self.step_tx(&poller);
            }
            let look = self.is_ready() || self.busy_poll.looks(now_ns);
            let sleep = !look && self.rest();
            let mut stopped = false;
            let timeout = if sleep { self.timeout() } else { 0 };
            let waited = poller.wait_ms(timeout, |ready| {
                stopped |= ready.source == Source::Stop;
                self.note(ready);
            });
            if let Err(error) = waited {
                log_limited!(
                    self.live.health.events().log,
                    Error,
                    "{}: worker of pair {} cannot wait: {error}",
                    self.live.id,
                    self.pair
                );
                self.live.fail(&"a worker cannot wait for events");
                break;
            }
            if stopped {
                break;
            }
            self.rx.iter_mut().for_each(|rx| rx.rouse(!look));
            self.tx.iter_mut().for_each(|tx| tx.rouse(!look));
        }
        self.settle();
    }
}
