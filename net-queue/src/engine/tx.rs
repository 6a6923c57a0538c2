//! Transmit: from the driver's ring to the backend.

mod config;
mod departure;
mod path;
mod segmentation;
mod step;

pub use config::TxConfig;

use std::sync::Arc;

use departure::{Departure, Direct};
use path::TxPath;
use step::Interruption;

use super::coalesce::{Coalescer, KINDS, Outlet};
use super::limit::Limit;
use super::{Budget, Engine, Outcome, Stop};
use crate::backend::FrameBackend;
use crate::counters::{GroupEnd, OffloadCounts, QueueCounters};
use crate::drop_cause::{DropCause, QueueFault};
use crate::offload::Offloads;
use crate::ring::{Cursor, Ring, RingTask};

/// Moves frames from a driver's ring to a backend.
#[derive(Debug)]
pub struct TxEngine<R> {
    ring: R,
    path: TxPath,
    /// Frames of one flow on their way to becoming one, where that is on.
    coalescer: Option<Box<Coalescer>>,
    counters: Arc<QueueCounters>,
    /// Requests of the frames of a run, until they are counted.
    offloads: OffloadCounts,
}

impl<R: Ring> TxEngine<R> {
    /// An engine on `ring` under the terms of `config`.
    pub fn new(ring: R, config: TxConfig, counters: Arc<QueueCounters>) -> Self {
        let TxConfig {
            size,
            rules,
            coalesce,
            ..
        } = config;
        // A group has a partial checksum, too.
        let coalesces = coalesce.intersects(KINDS) && !rules.completes();
        let path = TxPath::new(&config, coalesces);
        Self {
            ring,
            path,
            coalescer: coalesces.then(|| Box::new(Coalescer::new(coalesce, size.bytes()))),
            counters,
            offloads: OffloadCounts::default(),
        }
    }

    /// Sends what the driver made available, until there is a reason to stop.
    ///
    /// `now` is in nanoseconds of any clock that the limiter's deadlines shall be in.
    #[inline]
    pub fn run<B, L>(&mut self, backend: &mut B, limit: &mut L, now: u64, budget: Budget) -> Outcome
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let out = Outlet::new(backend, limit, &self.counters, &mut self.offloads);
        let path = &mut self.path;
        match &mut self.coalescer {
            None => self.ring.with(TxBatch {
                path,
                departure: &mut Direct,
                out,
                now,
                budget,
            }),
            Some(coalescer) => self.ring.with(TxBatch {
                path,
                departure: &mut **coalescer,
                out,
                now,
                budget,
            }),
        }
    }

    /// Leaves a ring whose position tells all: sends what groups hold and what is left of a frame
    /// that is being cut, if the backend takes it now, and gives back to the ring what it does not
    /// take. Returns whether the driver wants an interrupt.
    ///
    /// To be called before [`Engine::cursor`] is what another engine goes on from. A frame of
    /// another flow that overtook one which is given back will be sent twice.
    pub fn drain<B, L>(&mut self, backend: &mut B, limit: &mut L, now: u64) -> bool
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if self.coalescer.is_none() && !self.path.is_segmenting() {
            return false;
        }
        let mut out = Outlet::new(backend, limit, &self.counters, &mut self.offloads);
        // Groups hold what came first. Whatever the error is, nothing is lost by it.
        if let Some(coalescer) = &mut self.coalescer {
            let _ = coalescer.send_all(GroupEnd::Run, &mut out);
        }
        self.path.drain_segments(&mut self.ring, now, &mut out);
        out.count();
        let frames = out.frames;
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.undo(&mut self.ring, limit);
        }
        self.publish(frames)
    }

    /// Kinds of groups that the backend refused since the last call, although it takes their
    /// frames one by one. They are not tried again.
    pub fn take_refused_groups(&mut self) -> Offloads {
        let coalescer = self.coalescer.as_mut();
        coalescer.map_or(Offloads::empty(), |coalescer| coalescer.take_refused())
    }

    /// Takes what the driver made available and drops it under `cause`, without a look at it.
    #[cold]
    pub fn discard(&mut self, cause: DropCause, mut budget: Budget) -> Outcome {
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.discard(&mut self.ring, cause, &self.counters);
        }
        self.path
            .discard_segments(&mut self.ring, cause, &self.counters);
        let stop = loop {
            match self.path.next(&mut self.ring) {
                Some(popped) => {
                    let cause = popped.content.err().unwrap_or(cause);
                    self.counters.add_drop(cause);
                    self.ring.push_used(popped.chain, 0);
                }
                None => break Stop::no_chain(&self.ring),
            }
            if !budget.spend(0) {
                break Stop::Budget;
            }
        };
        Outcome {
            stop,
            frames: 0,
            interrupt: self.publish(0),
        }
    }

    fn publish(&mut self, frames: u64) -> bool {
        let interrupt = self.ring.publish();
        self.counters.add_published(frames, interrupt);
        interrupt
    }
}

impl<R: Ring> Engine for TxEngine<R> {
    fn enable_notification(&mut self) -> bool {
        self.ring.enable_notification()
    }

    fn disable_notification(&mut self) {
        self.ring.disable_notification();
    }

    fn defer_interrupts(&mut self, on: bool) {
        self.ring.defer_interrupts(on);
    }

    fn is_undecided(&self) -> bool {
        self.ring.is_undecided()
    }

    fn decide_interrupt(&mut self) -> bool {
        let interrupt = self.ring.decide_interrupt();
        if interrupt {
            self.counters.add_interrupt();
        }
        interrupt
    }

    fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    fn fault(&self) -> Option<QueueFault> {
        self.ring.fault()
    }

    fn count_kick(&self) {
        self.counters.add_kick();
    }
}

/// One call of [`TxEngine::run`].
struct TxBatch<'a, D, B: ?Sized, L: ?Sized> {
    path: &'a mut TxPath,
    departure: &'a mut D,
    out: Outlet<'a, B, L>,
    now: u64,
    budget: Budget,
}

impl<D, B, L> RingTask for TxBatch<'_, D, B, L>
where
    D: Departure<B, L>,
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    type Output = Outcome;

    // Compiled beside its caller, wherever the compiler draws the line between units.
    #[inline]
    fn run<R: Ring>(self, ring: &mut R) -> Outcome {
        let Self {
            path,
            departure,
            mut out,
            now,
            mut budget,
        } = self;
        let stop = match departure.flush(ring, GroupEnd::Run, &mut out) {
            Err(error) => error.into(),
            Ok(()) => loop {
                if path.is_segmenting()
                    && let Err(stop) =
                        path.send_segments(departure, ring, now, &mut out, &mut budget)
                {
                    break stop;
                }
                if let Interruption::Stop(stop) =
                    path.steps(departure, ring, now, &mut out, &mut budget)
                {
                    break stop;
                }
            },
        };
        let stop = departure.finish(ring, stop, &mut out);
        out.count();
        let interrupt = ring.publish();
        out.counters.add_published(out.frames, interrupt);
        Outcome {
            stop,
            frames: out.frames,
            interrupt,
        }
    }
}
