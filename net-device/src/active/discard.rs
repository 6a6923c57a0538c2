//! Transmit queues that stand still and lose what their driver posts.

use net_queue::ring::Cursor;
use net_queue::{Budget, DropCause, Engine, Stop};

use super::ActiveDevice;
use crate::error::QueueError;
use crate::queue_role::QueueRole;
use crate::transport::QueueSetup;

/// Times that a driver which posts meanwhile is followed in one call.
const ROUNDS: u32 = 4;

/// Result of [`NetDevice::discard_posted`](crate::NetDevice::discard_posted).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Position from which the queue goes on.
    pub cursor: Cursor,
    /// The driver asks for an interrupt.
    pub interrupt: bool,
    /// The driver posts faster than it is followed: there is more, for which no kick may come.
    pub more: bool,
}

impl ActiveDevice {
    /// Implements [`NetDevice::discard_posted`](crate::NetDevice::discard_posted).
    pub(crate) fn discard_posted(&mut self, setup: &QueueSetup) -> Result<Discarded, QueueError> {
        let index = setup.index;
        if !matches!(self.factory.role(index), Some(QueueRole::Tx(_))) {
            return Err(QueueError::Index(index));
        }
        if !self.stopped.contains(&index) {
            return Err(QueueError::NotStopped(index));
        }
        let config = self.factory.ring_config(setup)?;
        if self.halted.stands_still(index) {
            return Err(QueueError::Broken(index));
        }
        let mut engine = self.factory.discarding_tx(index, &config)?;
        let budget = Budget {
            frames: 1 + u32::from(config.size),
            bytes: u64::MAX,
        };
        let (mut interrupt, mut more) = (false, true);
        for _ in 0..ROUNDS {
            let done = engine.discard(DropCause::Stopped, budget);
            interrupt |= done.interrupt;
            if let Stop::Fault(_) = done.stop {
                return Err(QueueError::Broken(index));
            }
            more = engine.enable_notification();
            if !more {
                break;
            }
        }
        Ok(Discarded {
            cursor: engine.cursor(),
            interrupt,
            more,
        })
    }
}
