//! A minimal device goes the way of a migration through the traits alone.

mod common;

use std::error::Error;

use snapshot::{
    Migratable, MigrateError, NetState, Pausable, Snapshot, Snapshottable, Transportable,
};

#[derive(Default)]
struct Device {
    paused: bool,
    state: NetState,
}

#[derive(Debug, thiserror::Error)]
#[error("device is not paused")]
struct NotPaused;

impl Pausable for Device {
    fn pause(&mut self) -> Result<(), MigrateError> {
        self.paused = true;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), MigrateError> {
        self.paused = false;
        Ok(())
    }
}

impl Snapshottable for Device {
    fn id(&self) -> String {
        self.state.id.to_string()
    }

    fn snapshot(&mut self) -> Result<Snapshot, MigrateError> {
        if !self.paused {
            return Err(MigrateError::Snapshot(NotPaused.into()));
        }
        Snapshot::seal(&self.state).map_err(|error| MigrateError::Snapshot(error.into()))
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<(), MigrateError> {
        self.state = snapshot
            .open()
            .map_err(|error| MigrateError::Restore(error.into()))?;
        self.paused = true;
        Ok(())
    }
}

impl Transportable for Device {}
impl Migratable for Device {}

#[test]
fn a_device_moves_by_the_default_methods() {
    let mut source: Box<dyn Migratable> = Box::new(Device {
        state: common::sample(),
        ..Device::default()
    });
    let mut target = Device::default();
    let mut wire = Vec::new();

    source.start_migration().unwrap();
    source.start_dirty_log().unwrap();
    assert_eq!(source.dirty_log().unwrap(), []);
    source.pause().unwrap();
    let snapshot = source.snapshot().unwrap();
    assert_eq!(snapshot.id(), source.id());
    source.send(&snapshot, &mut wire).unwrap();
    let arrived = target.receive(&mut wire.as_slice()).unwrap();
    target.restore(arrived).unwrap();
    source.stop_dirty_log().unwrap();
    source.complete_migration().unwrap();

    assert_eq!(target.state, common::sample());
    assert!(target.paused);
    target.resume().unwrap();
    assert!(!target.paused);
}

#[test]
fn the_cause_of_a_failure_is_kept() {
    let running = Device::default().snapshot().unwrap_err();
    assert!(running.source().unwrap().is::<NotPaused>());

    let nothing = Device::default().receive(&mut [].as_slice()).unwrap_err();
    let cause = nothing.source().unwrap().to_string();
    assert!(!nothing.to_string().contains(&cause));
}
