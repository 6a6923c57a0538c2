//! Receive: from the backend into the driver's buffers.

mod config;
mod path;
mod pool;

pub use config::RxConfig;

use std::sync::Arc;

use super::frame_filter::FrameFilter;
use super::limit::Limit;
use super::steering::{FrameSteering, Steer, Steered, Unsteered};
use super::{Budget, Engine, Outcome, Stop};
use crate::backend::FrameBackend;
use crate::counters::QueueCounters;
use crate::drop_cause::{DropCause, QueueFault};
use crate::hash::FrameHasher;
use crate::offload::Offloads;
use crate::ring::{Cursor, Ring, RingTask};
use path::RxPath;

/// Moves frames from a backend to a driver's ring.
#[derive(Debug)]
pub struct RxEngine<R> {
    ring: R,
    path: RxPath,
}

impl<R: Ring> RxEngine<R> {
    /// An engine on `ring`, a queue of `ring_size`.
    pub fn new(ring: R, ring_size: u16, config: RxConfig, counters: Arc<QueueCounters>) -> Self {
        let ram = ring.memory().clone();
        let path = RxPath::new(ring_size, ram, config, counters);
        Self { ring, path }
    }

    /// Changes the work that frames may carry undone (`GUEST_OFFLOADS_SET`, NET-CVQ-19).
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.path.set_offloads(offloads);
    }

    /// Changes the hash that headers report, where the driver's have room for one (NET-MQ-16).
    pub fn set_hasher(&mut self, hasher: Option<Arc<FrameHasher>>) {
        self.path.set_hasher(hasher);
    }

    /// Delivers what the backend has, until there is a reason to stop.
    ///
    /// `now` is in nanoseconds of any clock that the limiter's deadlines shall be in. Without a
    /// `filter` every frame is delivered.
    #[inline]
    pub fn run<B, L>(
        &mut self,
        backend: &mut B,
        limit: &mut L,
        filter: Option<&dyn FrameFilter>,
        now: u64,
        budget: Budget,
    ) -> Outcome
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        self.ring.with(RxBatch {
            path: &mut self.path,
            backend,
            limit,
            filter,
            steering: Unsteered,
            now,
            budget,
        })
    }

    /// The same for a device whose driver says by a table which queue each frame is for: delivers
    /// what is for this queue, and passes on what is not (NET-MQ-08).
    ///
    /// When it stops for another reason than the backend, frames for other queues may lie in the
    /// backend: see [`RxEngine::distribute`].
    pub fn run_steered<B, L, S>(
        &mut self,
        backend: &mut B,
        limit: &mut L,
        filter: Option<&dyn FrameFilter>,
        steering: &mut S,
        now: u64,
        budget: Budget,
    ) -> Outcome
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
        S: FrameSteering + ?Sized,
    {
        self.ring.with(RxBatch {
            path: &mut self.path,
            backend,
            limit,
            filter,
            steering: Steered::new(steering),
            now,
            budget,
        })
    }

    /// Passes on what the backend has while this queue cannot deliver: frames for others go there,
    /// those for this queue are kept for it. Returns [`Stop::Backend`] once there is none left, or
    /// [`Stop::Budget`].
    pub fn distribute<B>(
        &mut self,
        backend: &mut B,
        filter: Option<&dyn FrameFilter>,
        steering: &mut dyn FrameSteering,
        budget: Budget,
    ) -> Stop
    where
        B: FrameBackend + ?Sized,
    {
        let steering = &mut Steered::new(steering);
        self.path.distribute(backend, steering, filter, budget)
    }

    /// Drops under `cause` what other queues have passed to this one, or what was kept for it.
    #[cold]
    pub fn discard_steered(&mut self, steering: &mut dyn FrameSteering, cause: DropCause) {
        self.path.discard_steered(steering, cause);
    }

    /// Bytes that the driver has to post before a frame that waits for buffers can be delivered;
    /// `None` when none waits. A driver may never do it: whoever waits for it counts the time from
    /// when this changed last, and ends the wait by [`RxEngine::give_up`].
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        self.path.missing()
    }

    /// Drops a frame that waits for buffers. Others as long are then dropped at once, until more
    /// than now is posted.
    pub fn give_up(&mut self) {
        self.path.give_up();
    }

    /// Brings the ring into a state that its cursor tells all of: a held frame is delivered, or
    /// dropped if it lacks buffers or is not for the driver any more; pooled chains are given back.
    /// Returns whether the driver asks for an interrupt. The engine can go on afterwards.
    pub fn drain<L: Limit + ?Sized>(
        &mut self,
        limit: &mut L,
        filter: Option<&dyn FrameFilter>,
        now: u64,
    ) -> bool {
        self.path.drain(&mut self.ring, limit, filter, now)
    }

    /// The same for a queue that must get no frame any more: a held frame is dropped (NET-MQ-02).
    pub fn discard_held(&mut self) {
        self.path.discard_held(&mut self.ring);
    }

    /// Takes what the backend has and drops it under `cause`; nothing of it reaches the driver.
    #[cold]
    pub fn discard<B>(&mut self, backend: &mut B, cause: DropCause, mut budget: Budget) -> Outcome
    where
        B: FrameBackend + ?Sized,
    {
        self.path.discard_held(&mut self.ring);
        let stop = loop {
            if let Some(fault) = self.ring.fault() {
                break Stop::Fault(fault);
            }
            if let Err(stop) = self.path.discard(backend, cause) {
                break stop;
            }
            if !budget.spend(0) {
                break Stop::Budget;
            }
        };
        Outcome {
            stop,
            frames: 0,
            interrupt: false,
        }
    }
}

impl<R: Ring> Engine for RxEngine<R> {
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
            self.path.count_interrupt();
        }
        interrupt
    }

    /// Complete after [`RxEngine::drain`].
    fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    fn fault(&self) -> Option<QueueFault> {
        self.ring.fault()
    }

    fn count_kick(&self) {
        self.path.count_kick();
    }
}

/// One call of [`RxEngine::run`].
struct RxBatch<'a, B: ?Sized, L: ?Sized, S> {
    path: &'a mut RxPath,
    backend: &'a mut B,
    limit: &'a mut L,
    filter: Option<&'a dyn FrameFilter>,
    steering: S,
    now: u64,
    budget: Budget,
}

impl<B, L, S> RingTask for RxBatch<'_, B, L, S>
where
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
    S: Steer,
{
    type Output = Outcome;

    // Compiled beside its caller, wherever the compiler draws the line between units.
    #[inline]
    fn run<R: Ring>(mut self, ring: &mut R) -> Outcome {
        let (mut frames, mut bytes) = (0, 0);
        let stop = loop {
            // What was taken before it broke is not used any more either.
            if let Some(fault) = ring.fault() {
                break Stop::Fault(fault);
            }
            let next = self.path.next_frame(
                ring,
                self.backend,
                &mut self.steering,
                self.filter,
                &mut self.budget,
            );
            let len = match next {
                Ok(Some(len)) => len,
                Ok(None) if self.budget.spend(0) => continue,
                Ok(None) => break Stop::Budget,
                Err(stop) => break stop,
            };
            let frame = self.path.frame_len(len);
            if let Err(deadline) = self.limit.take(self.now, frame) {
                self.path.hold(len);
                break Stop::Limited(deadline);
            }
            self.path.deliver(ring, len);
            frames += 1;
            bytes += frame;
            if !self.budget.spend(frame) {
                break Stop::Budget;
            }
        };
        let interrupt = self.path.publish(ring, frames, bytes);
        Outcome {
            stop,
            frames,
            interrupt,
        }
    }
}
