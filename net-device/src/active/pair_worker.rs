//! Workers of pairs, each made with its first queue.

use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{ActiveDevice, Pair};
use crate::error::{QueueError, SpawnError, WorkerLost};
use crate::features::Features;
use crate::wake_timer::WakeTimer;
use crate::worker::handle::{Home, WorkerHandle};
use crate::worker::idle::Idle;
use crate::worker::queue_pair::{PairSteering, PairWorker};

impl ActiveDevice {
    /// The parked worker of `pair`, which gets its thread with its first queue.
    pub(super) fn worker(&mut self, pair: u16, index: u16) -> Result<&mut PairWorker, QueueError> {
        let at = usize::from(pair);
        if matches!(self.pairs[at], Pair::Idle(_)) {
            let home = self
                .threads
                .queue_pair(&self.shared.id, pair)
                .map_err(|source| QueueError::Spawn { index, source })?;
            let timer = self.notf_coal_timer();
            let timer = timer.map_err(|source| QueueError::Spawn { index, source })?;
            let steering = self.steering(pair);
            let steering = steering.map_err(|source| QueueError::Spawn { index, source })?;
            let name = Pair::Lost(WorkerLost(format!("{}_qp{pair}", self.shared.id)));
            if let Pair::Idle(resources) = std::mem::replace(&mut self.pairs[at], name) {
                let has_thread = matches!(home, Home::Thread(_));
                let idle = Idle::new(self.factory.negotiated.poll_us, has_thread);
                let shared = self.shared.clone();
                let worker = PairWorker::new(pair, shared, *resources, idle, timer, steering);
                self.pairs[at] = Pair::Worker(WorkerHandle::new(home, worker));
            }
        }
        match &mut self.pairs[at] {
            Pair::Worker(handle) => Ok(handle.park()?),
            Pair::Lost(lost) => Err(lost.clone().into()),
            Pair::Idle(_) => Err(QueueError::Index(index)),
        }
    }

    /// A timer for notifications that wait, if the driver can let them.
    fn notf_coal_timer(&self) -> Result<Option<Arc<WakeTimer>>, SpawnError> {
        let coalesces = self
            .shared
            .features
            .intersects(Features::VIRTIO_NET_F_NOTF_COAL | Features::VIRTIO_NET_F_VQ_NOTF_COAL);
        let timer = coalesces.then(|| WakeTimer::new(&self.shared.clock).map(Arc::new));
        timer.transpose().map_err(SpawnError::Thread)
    }

    /// The ways of `pair` to the others, if the driver can steer by a table.
    fn steering(&self, pair: u16) -> Result<Option<PairSteering>, SpawnError> {
        let Some(exchange) = &self.shared.exchange else {
            return Ok(None);
        };
        let doorbell = EventFd::new(EFD_NONBLOCK).map_err(SpawnError::Thread)?;
        exchange.set_doorbell(pair, doorbell);
        Ok(Some(PairSteering::new(exchange.clone(), pair)))
    }
}
