//! Workers of a device without threads.

use super::NetDevice;
use super::states::State;
use crate::worker::event_loop::EventWorker;

impl NetDevice {
    /// The workers of a device [without threads](crate::NetDeviceBuilder::event_loop), for the
    /// VMM's event loop: one for each pair of which a queue was started, and one for the control
    /// queue. To be asked for again after an activation, and after a queue was started.
    #[must_use]
    pub fn event_workers(&self) -> Vec<EventWorker> {
        match &self.state {
            State::Running(active) | State::Paused(active, _) => active.event_workers(),
            _ => Vec::new(),
        }
    }
}
