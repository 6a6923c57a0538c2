//! An activated device under which guest memory changes.

use net_queue::ring::UsedJournal;
use net_queue::{Engine, GuestRam};

use super::ActiveDevice;
use crate::error::QueueError;
use crate::worker::queue_pair::{RxQueue, TxQueue, WorkerQueue};

impl ActiveDevice {
    /// Has the position of a queue that is started from now on kept in `journal`.
    pub(crate) fn set_journal(&mut self, index: u16, journal: Option<UsedJournal>) {
        match journal {
            Some(journal) => self.factory.journals.insert(index, journal),
            None => self.factory.journals.remove(&index),
        };
    }

    /// Makes every ring again over `ram`, where each of them left off, and leaves every worker
    /// parked. A broken ring is not made again, and stands still.
    ///
    /// # Errors
    /// Queues may lie in the one memory or the other, or nowhere: the device has to be taken down.
    pub(crate) fn rebind(&mut self, ram: GuestRam) -> Result<(), QueueError> {
        self.park()?;
        self.factory.ram = ram;
        for pair in 0..self.pairs.len() {
            self.rebind_pair(pair as u16)?;
        }
        self.rebind_control()
    }

    fn rebind_pair(&mut self, pair: u16) -> Result<(), QueueError> {
        let Some(worker) = self.existing(pair)? else {
            return Ok(());
        };
        let (rx, tx) = (worker.rx.take(), worker.tx.take());
        if let Some(rx) = rx
            && !self.keep_if_broken(&rx, true)
        {
            let (index, config) = (rx.index, rx.position());
            let engine = self.factory.rx(index, &config)?;
            let first = rx.interrupts_first();
            let queue = RxQueue::new(index, engine, rx.kick, config).interrupting(first);
            self.worker(pair, index)?.rx = Some(queue);
        }
        if let Some(tx) = tx
            && !self.keep_if_broken(&tx, true)
        {
            let (index, config) = (tx.index, tx.position());
            let engine = self.factory.tx(index, &config)?;
            let first = tx.interrupts_first();
            let queue = TxQueue::new(index, engine, tx.kick, config).interrupting(first);
            self.worker(pair, index)?.tx = Some(queue);
        }
        Ok(())
    }

    fn rebind_control(&mut self) -> Result<(), QueueError> {
        let Some(mut handle) = self.control.take() else {
            return Ok(());
        };
        let queue = &mut handle.park()?.queue;
        let config = queue.position();
        if queue.engine.fault().is_some() {
            self.halted.put(queue.index, config, true);
            return Ok(());
        }
        queue.engine = self.factory.ctrl(queue.index, &config)?;
        self.control = Some(handle);
        Ok(())
    }

    /// Puts a queue whose ring is broken with those that stand still; returns whether it is one.
    /// `started`: the VMM does not stop it.
    pub(super) fn keep_if_broken<E: Engine>(
        &mut self,
        queue: &WorkerQueue<E>,
        started: bool,
    ) -> bool {
        let broken = queue.engine.fault().is_some();
        if broken {
            self.halted.put(queue.index, queue.position(), started);
        }
        broken
    }
}
