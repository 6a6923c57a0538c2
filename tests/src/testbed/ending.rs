//! End of a test with a hostile driver.

use net_device::{Snapshottable, VirtioDevice};

use crate::testbed::{Rig, bounded, chain, resume};

impl Rig {
    /// Pauses the device, takes its state, and returns a device made alike that was restored from
    /// it: whatever the driver did to its rings, and whether or not the device shows NEEDS_RESET,
    /// which goes with the state. The device stays paused.
    ///
    /// # Panics
    /// There is no such state, or it does not restore.
    #[must_use]
    pub fn restored(&mut self) -> Self {
        let mut next = Self::new(self.device.config().clone());
        let mut device = std::mem::replace(&mut self.device, next.device).into_inner();
        let (device, state) = bounded("pause and snapshot", move || {
            device.pause().expect("the device pauses");
            let state = device.snapshot().expect("a paused device has a state");
            (device, state)
        });
        next.device = std::mem::replace(&mut self.device, device.into());
        if let Err(error) = next.device.restore(state) {
            panic!("a snapshot that does not restore: {}", chain(&error));
        }
        assert_eq!(next.device.needs_reset(), self.device.needs_reset());
        next
    }

    /// The end of every test with a hostile driver: its device can be saved, and unless it shows
    /// NEEDS_RESET another one goes on where it stood, on the rings as they are. Either can be
    /// reset.
    ///
    /// # Panics
    /// A snapshot does not restore, or a device hangs.
    pub fn end(mut self) {
        let next = self.restored();
        let rig = if self.device.needs_reset() {
            self
        } else {
            let mut next = self.move_to(next);
            next.activate();
            resume(&mut next);
            next
        };
        let mut device = rig.device.into_inner();
        bounded("reset", move || {
            device.reset();
        });
    }
}
