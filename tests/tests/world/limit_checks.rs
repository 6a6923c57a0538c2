//! Checks of a device's limits against the buckets that are counted here.

use net_device::{Clock, Lifecycle, Source, WaitsFor};
use snapshot::state::LimiterState;

use crate::plant::{Plant, lock};
use crate::vmm::Vmm;

impl Plant {
    /// Queues of the device stop, and may go on.
    pub(crate) fn limits_stop(&mut self) {
        self.count_received(true);
        let buckets = [&mut self.limits.rx, &mut self.limits.tx].into_iter();
        buckets.flatten().for_each(|bucket| bucket.stop(self.now));
    }

    /// Counts what the device has shown to its drivers since. What it held when it was stopped is
    /// shown then, `early` or not, and is paid for by those that come later.
    pub(crate) fn count_received(&mut self, early: bool) {
        let Some(bucket) = &mut self.limits.rx else {
            return;
        };
        let queues = self.queues.iter().filter(|queue| queue.is_rx());
        let received = queues.map(|queue| queue.frames_shown()).sum();
        let more = received - std::mem::replace(&mut self.limits.received, received);
        let passed = (0..more).try_for_each(|_| bucket.pass(self.now, early));
        self.check(passed);
    }

    /// Looks whether a device that stands still is saved with as many tokens as it has.
    ///
    /// # Errors
    /// With others, by one or more.
    pub(crate) fn check_saved(&mut self, limiters: &[LimiterState]) -> Result<(), String> {
        let now = self.now;
        for limiter in limiters {
            let saved = limiter.ops.ok_or("a limit of frames is not saved")?;
            let bucket = self.limits.of(limiter.queue);
            bucket.map_or(Ok(()), |bucket| bucket.holds(now, saved.tokens))?;
        }
        Ok(())
    }
}

impl Vmm {
    /// Looks whether frames wait for their limits as long as they have to, and no longer.
    pub(crate) fn check_limits(&self) {
        if self.device.lifecycle() != Lifecycle::Running {
            return;
        }
        let waits = self.waits(Source::RxTimer).and_then(|rx| {
            let tx = self.waits(Source::TxTimer)?;
            Ok([rx, tx])
        });
        let mut plant = lock(&self.plant);
        let now = self.clock.now_ns();
        let done = waits.and_then(|waits| {
            let limits = &mut plant.limits;
            let buckets = [&mut limits.rx, &mut limits.tx].into_iter();
            let mut buckets = buckets.zip(&waits);
            buckets.try_for_each(|(bucket, waits)| {
                let bucket = bucket.as_mut();
                bucket.map_or(Ok(()), |bucket| bucket.wait(now, waits))
            })
        });
        plant.check(done);
    }

    /// Times at which queues try again that wait for their limit, by the timers of one direction.
    ///
    /// # Errors
    /// One waits for ever.
    fn waits(&self, timer: Source) -> Result<Vec<u64>, String> {
        let states = self.device.handle().queue_states();
        let mut waits = Vec::new();
        for worker in &self.workers {
            let Some(pair) = worker.pair else { continue };
            let index = 2 * pair + usize::from(timer == Source::TxTimer);
            let limited = states.get(index).map(|state| state.waits_for) == Some(WaitsFor::Limit);
            let Some(fd) = worker.fd_of(timer).filter(|_| limited) else {
                continue;
            };
            waits.push(match self.clock.deadline_of(fd) {
                Some(deadline) => deadline,
                None if self.clock.is_expired(fd) => 0,
                None => return Err("a frame waits for its limit, and no timer is set".to_owned()),
            });
        }
        Ok(waits)
    }
}
