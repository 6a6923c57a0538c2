//! Threads of a device, or none.

use std::sync::Arc;

use super::NetDevice;
use super::states::State;
use crate::error::ActivateError;
use crate::features::Features;
use crate::lifecycle::{Lifecycle, StateError};
use crate::worker::event_loop::EventWorker;
use crate::worker::thread::ThreadHook;

impl NetDevice {
    /// The same device, calling `hook` in each of its threads before the thread's filter is on.
    /// To be called before any activation.
    #[must_use]
    pub fn with_thread_hook(mut self, hook: Arc<dyn ThreadHook>) -> Self {
        if let Some(detached) = self.state.before_activation_mut() {
            detached.threads.setup.hook = Some(hook);
        }
        self
    }

    /// The same device without threads: once it is activated, an event loop of the VMM drives its
    /// [workers](Self::event_workers). To be called before any activation.
    #[must_use]
    pub fn with_event_loop(mut self) -> Self {
        if let Some(detached) = self.state.before_activation_mut() {
            detached.threads.event_loop = true;
        }
        self
    }

    /// Makes the threads of all queues now, for a VMM whose own filter will forbid it later. They
    /// are kept over resets. A device that a VMM's event loop drives has none.
    ///
    /// # Errors
    /// A thread cannot be made, and none is; or the device is activated.
    pub fn spawn_threads(&mut self) -> Result<(), ActivateError> {
        const NEEDED: &[Lifecycle] = &[Lifecycle::Inactive, Lifecycle::Restored];
        let control = self.offered.contains(Features::VIRTIO_NET_F_CTRL_VQ);
        let state = self.state.lifecycle();
        let Some(detached) = self.state.before_activation_mut() else {
            return Err(StateError::new(state, NEEDED).into());
        };
        if detached.threads.event_loop {
            return Ok(());
        }
        detached
            .threads
            .spawn_all(&self.config.id, self.config.queue_pairs, control)
            .map_err(|source| ActivateError::Spawn { index: 0, source })
    }

    /// The workers of a device [without threads](Self::with_event_loop), for the VMM's event loop: one for
    /// each pair of which a queue was started, and one for the control queue. To be asked for again
    /// after an activation, and after a queue was started.
    #[must_use]
    pub fn event_workers(&self) -> Vec<EventWorker> {
        match &self.state {
            State::Running(active) | State::Paused(active) => active.event_workers(),
            _ => Vec::new(),
        }
    }
}
