//! The ways into and out of an activation, memory that changes meanwhile included.

use std::sync::Arc;

use net_queue::GuestRam;

use super::{NetDevice, State, tell_of_config};
use crate::active::queue_factory::{NegotiatedConfig, QueueFactory};
use crate::active::{ActiveDevice, DetachedResources};
use crate::error::{ActivateError, WorkerLost, chain};
use crate::features::Features;
use crate::shared::Shared;
use crate::transport::{Activation, Interrupt};

impl NetDevice {
    /// Guest memory as the device may use it under the negotiated features (NET-FEAT-11).
    ///
    /// # Errors
    /// The driver's addresses are to be translated, and there is nobody to do it.
    fn view(&self, memory: GuestRam) -> Result<GuestRam, ActivateError> {
        if !self.acked.contains(Features::VIRTIO_F_ACCESS_PLATFORM) {
            return Ok(memory);
        }
        let platform = self.platform.clone().ok_or(ActivateError::NoPlatform)?;
        Ok(memory.with_access_platform(platform))
    }

    /// Moves every queue over to changed guest memory, between two frames. The old mapping is not
    /// used any more, by any queue, whatever the result is. A queue whose ring the driver broke
    /// stays broken.
    ///
    /// # Errors
    /// A running queue is not in the new memory, or the host cannot let it go on. All queues have
    /// stopped, no memory is held, and the device needs a reset: until then every call that would
    /// use a queue fails with the same reason.
    pub fn set_memory(&mut self, memory: GuestRam) -> Result<(), ActivateError> {
        self.active()?;
        let moved = self.view(memory).and_then(|ram| self.active()?.rebind(ram));
        if let Err(error) = &moved {
            self.strand(error);
        }
        moved
    }

    /// Ends an activation for which there is no guest memory any more.
    fn strand(&mut self, error: &ActivateError) {
        let Some(interrupt) = self.take_down() else {
            return;
        };
        let lost = State::Lost(WorkerLost(self.config.id.clone()));
        self.state = match std::mem::replace(&mut self.state, lost) {
            State::Inactive(detached) => State::Failed {
                detached,
                reason: chain(error),
            },
            other => other,
        };
        let what = format_args!("queues are not in the new guest memory: {}", chain(error));
        if self.status.fail(&what) {
            tell_of_config(self.status.events(), &*interrupt);
        }
        self.stranded = Some(interrupt);
    }

    /// The driver has set DRIVER_OK and would wait for ever: shows DEVICE_NEEDS_RESET (DEV-LIFE-04,
    /// DEV-LIFE-05).
    pub(super) fn fail(&self, error: &ActivateError, interrupt: &dyn Interrupt) {
        if self
            .status
            .fail(&format_args!("cannot be activated: {}", chain(error)))
        {
            tell_of_config(self.status.events(), interrupt);
        }
    }

    /// Activates an inactive device, or leaves it as it is.
    pub(super) fn try_activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if !self.acked.contains(Features::VIRTIO_F_VERSION_1) {
            return Err(ActivateError::State("not negotiated"));
        }
        let there = |index| activation.queues.iter().any(|setup| setup.index == index);
        if !(activation.queues.is_empty() || there(0) && there(1)) {
            return Err(ActivateError::Queues);
        }
        let ram = self.view(activation.memory.clone())?;
        let lost = State::Lost(WorkerLost(self.config.id.clone()));
        match std::mem::replace(&mut self.state, lost) {
            State::Inactive(detached) => self.start(detached, ram, activation),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn start(
        &mut self,
        detached: DetachedResources,
        ram: GuestRam,
        activation: Activation,
    ) -> Result<(), ActivateError> {
        let Activation {
            interrupt,
            mut queues,
            ..
        } = activation;
        // The control queue first: whether there is one decides which pairs are fed.
        queues.sort_by_key(|setup| std::cmp::Reverse(setup.index));
        let partial_checksums = detached.accept_partial_checksums();
        let link_mtu = detached.link_mtu();
        let shared = Arc::new(Shared::new(
            &self.config.id,
            self.acked,
            self.space.clone(),
            self.status.clone(),
            self.control_budget.clone(),
            interrupt,
            detached.controls,
        ));
        let negotiated = NegotiatedConfig {
            features: self.acked,
            mtu: self.driver_mtu.or(self.config.mtu),
            link_mtu: link_mtu.map(|mtu| mtu.max(self.driver_mtu.unwrap_or_default())),
            max_queue_size: self.config.queue_size,
            seccomp: self.config.seccomp,
            poll_us: self.config.poll_us,
            partial_checksums,
        };
        let factory = QueueFactory {
            shared: shared.clone(),
            negotiated,
            ram,
            counters: self.counters.clone(),
            pairs: self.config.queue_pairs,
        };
        let mut active = ActiveDevice::new(shared, factory, detached.pairs);
        let saved = self.restored.take();
        if let Some(saved) = &saved {
            active.restore(saved);
        }
        let started = active.configure().and_then(|()| {
            for mut setup in queues {
                if let Some(saved) = &saved {
                    saved.resume_from(&mut setup)?;
                }
                active.insert(setup)?;
            }
            active.run()
        });
        self.state = State::Active(Box::new(active));
        if started.is_err() {
            self.take_down();
            self.restored = saved;
        }
        started
    }

    /// Ends an activation. Returns the interrupt of one that did not fail.
    pub(super) fn take_down(&mut self) -> Option<Arc<dyn Interrupt>> {
        let lost = WorkerLost(self.config.id.clone());
        match std::mem::replace(&mut self.state, State::Lost(lost)) {
            State::Active(active) => {
                let interrupt = active.shared().interrupt();
                self.state = match active.into_resources() {
                    Ok(detached) => State::Inactive(detached),
                    Err(lost) => State::Lost(lost),
                };
                Some(interrupt)
            }
            State::Failed { detached, .. } => {
                self.state = State::Inactive(detached);
                None
            }
            other => {
                self.state = other;
                None
            }
        }
    }
}
