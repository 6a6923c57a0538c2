//! Calls of a VMM to pause, save, move and restore a device.
//!
//! Each trait builds on the one before. A device supplies [`Pausable`] and [`Snapshottable`];
//! the rest has defaults that are right for a device whose state is all in its [`Snapshot`].

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::container::Snapshot;
use crate::error::MigrateError;

/// A device that can stand still.
pub trait Pausable {
    /// Stops the device. When this returns it touches neither guest memory nor its back-end; a
    /// device that is paused stays so.
    ///
    /// # Errors
    /// [`MigrateError::Pause`].
    fn pause(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }

    /// Lets the device go on as if every queue had been kicked; a device that runs stays so.
    ///
    /// # Errors
    /// [`MigrateError::Resume`].
    fn resume(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }
}

/// A device whose state can be taken and put back.
pub trait Snapshottable: Pausable {
    /// Name under which the VMM files the device.
    fn id(&self) -> String;

    /// Takes the state of the paused device.
    ///
    /// # Errors
    /// [`MigrateError::Snapshot`], also when the device is not paused.
    fn snapshot(&mut self) -> Result<Snapshot, MigrateError>;

    /// Puts a state into a device that was built and not activated yet. The device is paused
    /// afterwards. A refused state changes nothing.
    ///
    /// # Errors
    /// [`MigrateError::Restore`], with the field that was refused.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), MigrateError>;
}

/// A device whose state can travel.
pub trait Transportable: Snapshottable {
    /// Writes a snapshot to a file or a peer.
    ///
    /// # Errors
    /// [`MigrateError::Send`].
    fn send(&self, snapshot: &Snapshot, to: &mut dyn Write) -> Result<(), MigrateError> {
        snapshot.write_to(to).map_err(MigrateError::Send)
    }

    /// Reads one snapshot from a file or a peer, checks it, and leaves what follows it unread.
    ///
    /// # Errors
    /// [`MigrateError::Receive`].
    fn receive(&self, from: &mut dyn Read) -> Result<Snapshot, MigrateError> {
        Snapshot::read_from(from).map_err(MigrateError::Receive)
    }
}

/// Guest memory that was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemoryRange {
    /// First guest address.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A device that can move while its guest runs.
///
/// The defaults suit a device that marks what it writes in the bitmap of the guest memory itself,
/// which the VMM reads together with its own.
pub trait Migratable: Send + Transportable {
    /// Begins to log what the device writes.
    ///
    /// # Errors
    /// [`MigrateError::DirtyLog`].
    fn start_dirty_log(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }

    /// Ends the log and forgets it.
    ///
    /// # Errors
    /// [`MigrateError::DirtyLog`].
    fn stop_dirty_log(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }

    /// Ranges that the device wrote since the log began or was last read, beyond what it marked in
    /// the bitmap of the guest memory.
    ///
    /// # Errors
    /// [`MigrateError::DirtyLog`].
    fn dirty_log(&mut self) -> Result<Vec<MemoryRange>, MigrateError> {
        Ok(Vec::new())
    }

    /// The VMM begins to move the guest.
    ///
    /// # Errors
    /// [`MigrateError::Phase`].
    fn start_migration(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }

    /// The guest runs elsewhere; this device will not run again.
    ///
    /// # Errors
    /// [`MigrateError::Phase`].
    fn complete_migration(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }
}
