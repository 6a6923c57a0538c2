//! A move of the device to another tap, while its guest has a stream open.

use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use net_device::{NetDevice, Pausable, Snapshottable, Transportable};

use super::counters::Counters;
use super::error::DemoError;
use super::guest::Guest;

/// One move.
#[derive(Debug, Clone)]
pub(super) struct Migration {
    /// Length of the snapshot.
    pub(super) bytes: usize,
    /// Time for which neither device ran.
    pub(super) down: Duration,
    /// Counters of the device that was left.
    pub(super) counters: Counters,
}

/// Puts `next` in the place of `device`: it goes on from its snapshot, which travels as bytes, with
/// the same guest.
pub(super) fn migrate(
    device: &Mutex<NetDevice>,
    mut next: NetDevice,
    guest: &mut Guest,
) -> Result<Migration, DemoError> {
    let lock = || device.lock().unwrap_or_else(PoisonError::into_inner);
    let start = Instant::now();
    let mut bytes = Vec::new();
    let counters = {
        let mut old = lock();
        Pausable::pause(&mut *old)?;
        let snapshot = old.snapshot()?;
        old.send(&snapshot, &mut bytes)?;
        Counters::of(&*old)
    };
    let snapshot = next.receive(&mut bytes.as_slice())?;
    next.restore(snapshot)?;
    let old = mem::replace(&mut *lock(), next);
    guest.move_to_new_device()?;
    Pausable::resume(&mut *lock())?;
    let down = start.elapsed();
    // Its tap goes with it, and with that the kernel's route to the guest over it.
    drop(old);
    Ok(Migration {
        bytes: bytes.len(),
        down,
        counters,
    })
}
