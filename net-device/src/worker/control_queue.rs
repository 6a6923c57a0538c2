//! The worker of the control queue. VirtIO 1.4 §5.1.9.5.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use net_queue::ctrl::CtrlEngine;
use net_queue::ring::{AnyRing, RingConfig};
use net_queue::{Engine, QueueCounters, Stop};

use self::execute::Commands;
use crate::error::WorkerError;
use crate::shared::Shared;
use crate::shared::queue_states::WaitsFor;
use crate::transport::InterruptSource;
use crate::worker::turn::{AddSource, Event, Source, Turn, Worker};

mod device_stats;
mod execute;

/// Commands that are executed before the stop event gets its turn.
const BUDGET: u32 = 64;

/// The control queue while it runs.
pub(crate) struct CtrlQueue {
    pub(crate) index: u16,
    pub(crate) engine: CtrlEngine<AnyRing>,
    pub(crate) kick: OwnedFd,
    /// Configuration of the ring, to make it again over other memory.
    pub(crate) config: RingConfig,
}

impl CtrlQueue {
    /// Configuration of the ring to go on where it stands.
    pub(crate) fn position(&self) -> RingConfig {
        RingConfig {
            cursor: self.engine.cursor(),
            ..self.config
        }
    }
}

/// Executes the commands of the control queue.
pub(crate) struct CtrlWorker {
    shared: Arc<Shared>,
    /// Of every queue, its own last.
    counters: Arc<[Arc<QueueCounters>]>,
    pub(crate) queue: CtrlQueue,
    next: Next,
    kicked: bool,
    pub(crate) interrupt_first: bool,
}

impl CtrlWorker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        counters: Arc<[Arc<QueueCounters>]>,
        queue: CtrlQueue,
    ) -> Self {
        Self {
            shared,
            counters,
            queue,
            next: Next::Step,
            kicked: false,
            interrupt_first: false,
        }
    }

    /// Executes what is there.
    fn step(&mut self) -> Next {
        let mut commands = Commands {
            shared: &self.shared,
            counters: &self.counters,
        };
        let done = self.queue.engine.run(&mut commands, BUDGET);
        if done.interrupt {
            self.shared
                .trigger(InterruptSource::Queue(self.queue.index));
        }
        match done.stop {
            Stop::Budget => Next::Step,
            Stop::Driver if self.queue.engine.enable_notification() => Next::Step,
            Stop::Driver => Next::Kick,
            Stop::Limited(deadline) => Next::Deadline(deadline),
            Stop::Fault(fault) => {
                self.shared.fail(&format_args!("control queue: {fault}"));
                Next::Halt
            }
            // No backend takes part in commands.
            Stop::Backend | Stop::Dead(_) => Next::Halt,
        }
    }
}

/// Next step of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Goes on at once.
    Step,
    /// Waits for a kick.
    Kick,
    /// Waits for this time, whatever the driver does.
    Deadline(u64),
    /// Waits for its owner: the ring is broken.
    Halt,
}

impl Worker for CtrlWorker {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn sources(&self, add: &mut AddSource<'_>) -> Result<(), WorkerError> {
        let index = self.queue.index;
        add(self.queue.kick.as_fd(), Source::CtrlKick)
            .map_err(|source| WorkerError::Kick { index, source })
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.interrupt_first) {
            self.shared
                .trigger(InterruptSource::Queue(self.queue.index));
        }
        (self.next, self.kicked) = (Next::Step, false);
    }

    fn turn(&mut self) -> Turn {
        if self.next == Next::Step {
            self.next = self.step();
        }
        let mut turn = Turn::default();
        match self.next {
            Next::Step => turn.again = true,
            Next::Deadline(deadline) => turn.deadline_ns = Some(deadline),
            Next::Kick | Next::Halt => {}
        }
        let waits_for = match self.next {
            Next::Step => WaitsFor::Nothing,
            Next::Kick => WaitsFor::Driver,
            Next::Deadline(_) => WaitsFor::Limit,
            Next::Halt => WaitsFor::Reset,
        };
        let (queue, states) = (&self.queue, &self.shared.status.queues);
        states.set(queue.index, waits_for, &queue.engine.cursor());
        turn
    }

    fn end(&mut self) {
        let states = &self.shared.status.queues;
        states.clear(self.queue.index, WaitsFor::Stopped);
    }

    fn on_event(&mut self, event: Event) {
        if event.source == Source::CtrlKick {
            self.queue.engine.count_kick();
        }
        self.kicked = true;
    }

    fn after_wakeup(&mut self) {
        let kicked = std::mem::take(&mut self.kicked);
        match self.next {
            Next::Kick if kicked => self.next = Next::Step,
            Next::Deadline(deadline) if self.shared.now_ns() >= deadline => self.next = Next::Step,
            _ => {}
        }
    }
}
