//! An activated device under which guest memory changes, or the mappings of an IOMMU.

use net_queue::ring::UsedJournal;
use net_queue::{Engine, GuestRam};

use super::{ActiveDevice, Pair};
use crate::error::{QueueError, chain};
use crate::queue_role::QueueRole;
use crate::worker::handle::WorkerHandle;
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
        rx.map_or(Ok(()), |rx| self.rebind_rx(pair, rx))?;
        tx.map_or(Ok(()), |tx| self.rebind_tx(pair, tx))
    }

    fn rebind_rx(&mut self, pair: u16, rx: RxQueue) -> Result<(), QueueError> {
        if !self.keep_if_broken(&rx, true) {
            let (index, config) = (rx.index, rx.position());
            let engine = self.factory.rx(index, &config)?;
            let first = rx.interrupts_first();
            let queue = RxQueue::new(index, engine, rx.kick, config).interrupting(first);
            self.worker(pair, index)?.rx = Some(queue);
        }
        Ok(())
    }

    fn rebind_tx(&mut self, pair: u16, tx: TxQueue) -> Result<(), QueueError> {
        if !self.keep_if_broken(&tx, true) {
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
        let engine = if queue.engine.fault().is_some() {
            self.halted.put(queue.index, config, true);
            None
        } else {
            Some(self.factory.ctrl(queue.index, &config))
        };
        match engine {
            Some(Ok(engine)) => {
                queue.engine = engine;
                self.control = Some(handle);
                Ok(())
            }
            other => {
                let (_, home) = handle.into_work()?;
                self.threads.keep_control(home);
                other.map_or(Ok(()), |engine| engine.map(drop))
            }
        }
    }

    /// Stops every worker for the sake of mappings that are gone, among `len` bytes at the driver's
    /// address `addr`, and makes the rings there again. Nothing that was translated before is used
    /// afterwards. A queue whose ring cannot be found any more stands still, and fails the device.
    pub(crate) fn forget_mappings(&mut self, addr: u64, len: u64) {
        // A worker that is lost uses nothing any more.
        let _ = self.park();
        for (index, config) in self.cursors() {
            if config.overlaps(addr, len)
                && !self.halted.has(index)
                && let Err(error) = self.remake(index)
            {
                self.halted.put(index, config, true);
                self.shared.fail(&format_args!(
                    "queue {index}: its ring is not mapped any more: {}",
                    chain(&error)
                ));
            }
        }
    }

    /// Makes one queue again where it stands, or takes it away.
    fn remake(&mut self, index: u16) -> Result<(), QueueError> {
        match self.factory.role(index) {
            Some(QueueRole::Rx(pair)) => match self.existing(pair)?.and_then(|it| it.rx.take()) {
                Some(rx) => self.rebind_rx(pair, rx),
                None => Ok(()),
            },
            Some(QueueRole::Tx(pair)) => match self.existing(pair)?.and_then(|it| it.tx.take()) {
                Some(tx) => self.rebind_tx(pair, tx),
                None => Ok(()),
            },
            Some(QueueRole::Ctrl) => self.rebind_control(),
            None => Ok(()),
        }
    }

    /// Has every worker that runs look at its rings once more.
    pub(crate) fn wake(&self) {
        for pair in &self.pairs {
            if let Pair::Worker(handle) = pair {
                handle.wake();
            }
        }
        self.control.iter().for_each(WorkerHandle::wake);
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
