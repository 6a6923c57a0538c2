//! Life of the device below a session: activated without any queue before its first ring runs.

use std::sync::Arc;

use net_device::{Activation, VirtioDevice};

use super::negotiation::device_features;
use super::{Session, SessionError};

impl Session<'_> {
    pub(super) fn deactivate(&mut self) {
        if std::mem::take(&mut self.activated) {
            self.restored = false;
            self.device.reset();
        }
    }

    /// Leaves nothing of a state that was loaded, either.
    pub(super) fn begin_anew(&mut self) {
        self.deactivate();
        if std::mem::take(&mut self.restored) {
            self.device.reset();
        }
    }

    pub(super) fn activate(&mut self) -> Result<(), SessionError> {
        if !self.activated {
            let memory = self.ram(&self.memory)?.ok_or(SessionError::NotReady)?;
            let features = self.features.ok_or(SessionError::NotReady)?;
            self.device.ack_features(device_features(features).bits())?;
            let interrupt = Arc::clone(&self.interrupts) as _;
            let activated = self.device.activate(Activation {
                memory,
                interrupt,
                queues: Vec::new(),
            });
            // One that goes on from a loaded state is paused; no ring of it runs yet.
            let activated = activated
                .map_err(SessionError::from)
                .and_then(|()| self.device.resume().map_err(SessionError::from));
            if let Err(error) = activated {
                // The front-end learns of it now; the next session's driver knows nothing of this
                // one.
                self.device.reset();
                return Err(error);
            }
            self.activated = true;
        }
        Ok(())
    }
}
