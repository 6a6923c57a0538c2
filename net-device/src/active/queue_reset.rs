//! Queues of an activated device that are stopped or reset one by one, and what is remembered of
//! them. VirtIO 1.4 §2.6.1.

use net_queue::Engine;
use net_queue::ring::Cursor;

use super::ActiveDevice;
use crate::error::StopQueueError;
use crate::features::Features;
use crate::queue_role::QueueRole;
use crate::state::DeviceState;

impl ActiveDevice {
    /// A queue that was stopped or reset comes back; returns whether its driver had reset it.
    ///
    /// One that was reset has lost what the driver set for it alone (NET-CVQ-23); one that goes on
    /// where it stopped has not. A transport that has no reset of a queue tells them apart by the
    /// queue's position alone.
    pub(super) fn started_again(&mut self, index: u16, goes_on: bool) -> bool {
        let told = self.resets_queues();
        if self.stopped.remove(&index) && !goes_on && !told {
            self.shared.notf_coal.return_to_direction(index);
        }
        self.reset.remove(&index) && !goes_on
    }

    /// Returns whether its driver can reset one queue.
    fn resets_queues(&self) -> bool {
        let features = self.shared.features;
        features.contains(Features::VIRTIO_F_RING_RESET)
    }

    /// Takes a queue out and leaves its worker parked. Its memory is not touched any more; the
    /// result is where it stood.
    pub(crate) fn remove(&mut self, index: u16) -> Result<Option<Cursor>, StopQueueError> {
        let role = self.factory.role(index);
        let cursor = match role.ok_or(StopQueueError::Index(index))? {
            QueueRole::Rx(pair) => {
                let rx = self.existing(pair)?.and_then(|worker| worker.rx.take());
                self.shared
                    .queue_changed(|running| running.rx[usize::from(pair)] = false);
                rx.map(|rx| {
                    self.keep_if_broken(&rx, false);
                    rx.engine.cursor()
                })
            }
            QueueRole::Tx(pair) => {
                let tx = self.existing(pair)?.and_then(|worker| worker.tx.take());
                self.shared
                    .queue_changed(|running| running.tx[usize::from(pair)] = false);
                tx.map(|tx| {
                    self.keep_if_broken(&tx, false);
                    tx.engine.cursor()
                })
            }
            QueueRole::Ctrl => match self.control.take() {
                Some(handle) => {
                    let (worker, home) = handle.into_work()?;
                    self.threads.keep_control(home);
                    let queue = worker.queue;
                    if queue.engine.fault().is_some() {
                        self.halted.put(index, queue.position(), false);
                    }
                    Some(queue.engine.cursor())
                }
                None => None,
            },
        };
        self.stopped.insert(index);
        Ok(cursor.or_else(|| self.halted.stop(index)))
    }

    /// Takes a queue out for good, as its driver wants it: it stood nowhere, and begins anew.
    ///
    /// Frames go to queues that can take them meanwhile (NET-MQ-06).
    pub(crate) fn reset(&mut self, index: u16) -> Result<(), StopQueueError> {
        self.remove(index)?;
        self.stopped.remove(&index);
        self.shared.notf_coal.return_to_direction(index);
        self.reset.insert(index);
        if index == 0 {
            self.shared
                .queue_changed(|running| running.first_reset = true);
        }
        Ok(())
    }

    /// Of a device that was saved, the queues that did not run are those that its driver had reset,
    /// if it could.
    pub(super) fn restore_resets(&mut self, saved: &DeviceState) {
        if !self.resets_queues() {
            return;
        }
        let queues = 0..2 * self.factory.pairs;
        self.reset.extend(queues.filter(|index| !saved.ran(*index)));
        let first_reset = self.reset.contains(&0);
        self.shared
            .queue_changed(|running| running.first_reset = first_reset);
    }
}
