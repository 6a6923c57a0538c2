//! Guest memory that tells the world of every write by the device: the seam by which a driver acts
//! between any two of them.

use std::sync::{Arc, PoisonError, TryLockError};

use net_device::net_queue::DirtyLog;
use net_queue::testing::DirtyRanges;

use crate::fault::Fault;
use crate::plant::SharedPlant;

/// A dirty log after whose marks the driver may act.
pub(crate) struct Watch {
    pub(crate) plant: SharedPlant,
    pub(crate) marked: Arc<DirtyRanges>,
}

impl DirtyLog for Watch {
    fn mark(&self, gpa: u64, len: u64) {
        let mut plant = match self.plant.try_lock() {
            Ok(plant) => plant,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            // Somebody acts already, and has the device write.
            Err(TryLockError::WouldBlock) => return self.marked.mark(gpa, len),
        };
        let writes = plant.stopped_by.may("write");
        plant.check(writes);
        if !plant.happens(Fault::LostMark) {
            self.marked.mark(gpa, len);
        }
        plant.meanwhile(16);
    }
}
