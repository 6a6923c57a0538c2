//! The ways into and out of an activation.

use std::collections::BTreeMap;
use std::sync::Arc;

use net_queue::GuestRam;

use super::NetDevice;
use super::states::{Failure, State, StoppedBy};
use crate::active::queue_factory::{NegotiatedConfig, QueueFactory};
use crate::active::{ActiveDevice, DetachedResources};
use crate::error::{ActivateError, DeviceFailed, MemoryChangeError, chain};
use crate::lifecycle::{Lifecycle, Transition};
use crate::shared::{DeviceParts, LinkPorts, Shared};
use crate::state::DeviceState;
use crate::transport::{Activation, Interrupt};

impl NetDevice {
    /// Ends an activation for which there is no guest memory any more.
    pub(super) fn end_without_memory(&mut self, error: &MemoryChangeError) {
        let interrupt = self.state.interrupt();
        let cause = DeviceFailed::Memory(chain(error));
        self.end_activation(|detached, interrupt| {
            let failure = Failure {
                cause,
                detached: Some(detached),
                interrupt,
            };
            (Transition::LoseMemory, State::Failed(failure))
        });
        let what = format!("queues are not in the new guest memory: {}", chain(error));
        if let Some(interrupt) = interrupt
            && self.status.fail(&what)
        {
            self.tell_of_config(&*interrupt);
        }
    }

    /// The driver has set DRIVER_OK and would wait for ever: shows DEVICE_NEEDS_RESET (DEV-LIFE-04,
    /// DEV-LIFE-05).
    pub(super) fn fail(&self, error: &ActivateError, interrupt: &dyn Interrupt) {
        if self
            .status
            .fail(&format_args!("cannot be activated: {}", chain(error)))
        {
            self.tell_of_config(interrupt);
        }
    }

    /// Activates an inactive device, or leaves it as it is.
    pub(super) fn try_activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        if !self.is_negotiated() {
            return Err(ActivateError::NotNegotiated);
        }
        let saved = self.state.restored();
        let there = |index| {
            let comes = activation.queues.iter().any(|setup| setup.index == index);
            // What stood still when the device was saved may start later.
            comes || saved.is_some_and(|saved| !saved.ran(index))
        };
        if !(activation.queues.is_empty() || there(0) && there(1)) {
            return Err(ActivateError::Queues);
        }
        let ram = self.view(&activation.memory);
        let ram = ram.ok_or(ActivateError::NoPlatform)?;
        let from = self.lifecycle();
        match self.state.take(&self.config.id) {
            State::Inactive(detached) => self.start(from, detached, None, ram, activation),
            State::Restored(detached, saved) => {
                self.start(from, detached, Some(saved), ram, activation)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn start(
        &mut self,
        from: Lifecycle,
        detached: DetachedResources,
        saved: Option<Box<DeviceState>>,
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
        let mut active = self.make_active(detached, ram, interrupt.clone());
        if let Some(saved) = &saved {
            active.restore(saved);
        }
        let started = active
            .configure()
            .map_err(ActivateError::from)
            .and_then(|()| {
                for mut setup in queues {
                    if let Some(saved) = &saved {
                        saved.resume_from(&mut setup)?;
                    }
                    active.insert(setup)?;
                }
                if saved.is_none() {
                    active.run()?;
                }
                Ok(())
            });
        let next = match (&started, saved) {
            (Ok(()), None) => State::Running(Box::new(active)),
            (Ok(()), Some(saved)) => State::Paused(
                Box::new(active),
                StoppedBy::restored(saved.suspended.is_some()),
            ),
            (Err(_), saved) => match (active.into_resources(), saved) {
                (Ok(detached), None) => {
                    self.state = State::Inactive(detached);
                    return started;
                }
                (Ok(detached), Some(saved)) => {
                    self.state = State::Restored(detached, saved);
                    return started;
                }
                (Err(lost), _) => {
                    let failure = Failure::worker_lost(lost, None);
                    self.state
                        .put(from, Transition::LoseWorker, State::Failed(failure));
                    return started;
                }
            },
        };
        self.state.put(from, Transition::Activate, next);
        started
    }

    /// An activated device without queues.
    fn make_active(
        &self,
        detached: DetachedResources,
        ram: GuestRam,
        interrupt: Arc<dyn Interrupt>,
    ) -> ActiveDevice {
        let (link_mtu, tx_caps) = (detached.link_mtu(), detached.tx_caps());
        let merged = self.config.coalesce.offloads() & detached.coalesce_caps();
        let negotiated = NegotiatedConfig {
            features: self.acked,
            mtu: self.driver_mtu.or(self.config.mtu),
            link_mtu: link_mtu.map(|mtu| mtu.max(self.driver_mtu.unwrap_or_default())),
            max_queue_size: self.config.queue_size,
            poll_us: self.config.poll_us,
            tx_caps,
            coalesce: merged & tx_caps,
        };
        let shared = Arc::new(Shared::new(
            &self.config.id,
            self.acked,
            DeviceParts {
                space: self.space.clone(),
                status: self.status.clone(),
                control_budget: self.control_budget.clone(),
                clock: self.clock.clone(),
            },
            interrupt,
            LinkPorts {
                rx: detached.rx_caps(),
                controls: detached.controls,
                kernel: detached.kernel,
            },
        ));
        let factory = QueueFactory {
            shared: shared.clone(),
            negotiated,
            ram,
            counters: self.counters.clone(),
            pairs: self.config.queue_pairs,
            journals: BTreeMap::new(),
        };
        ActiveDevice::new(shared, factory, detached.pairs, detached.threads)
    }

    /// Ends whatever the device is in, for a reset. No interrupt is kept.
    pub(super) fn return_to_inactive(&mut self) {
        let from = self.lifecycle();
        let inactive = |detached| (Transition::Reset, State::Inactive(detached));
        if from.is_active() {
            self.end_activation(|detached, _| inactive(detached));
        } else {
            let (by, next) = match self.state.take(&self.config.id) {
                State::Inactive(detached)
                | State::Restored(detached, _)
                | State::Failed(Failure {
                    detached: Some(detached),
                    ..
                }) => inactive(detached),
                // A reset does not bring a worker back.
                other => (Transition::LoseWorker, other),
            };
            self.state.put(from, by, next);
        }
        if let State::Failed(failure) = &mut self.state {
            failure.interrupt = None;
        }
    }

    /// Ends an activation, if there is one, for the state that `next` makes of what is left.
    fn end_activation(
        &mut self,
        next: impl FnOnce(DetachedResources, Option<Arc<dyn Interrupt>>) -> (Transition, State),
    ) {
        let from = self.lifecycle();
        match self.state.take(&self.config.id) {
            State::Running(active) | State::Paused(active, _) => {
                let interrupt = Some(active.shared().interrupt());
                let (by, next) = match active.into_resources() {
                    Ok(detached) => next(detached, interrupt),
                    Err(lost) => {
                        let failure = Failure::worker_lost(lost, interrupt);
                        (Transition::LoseWorker, State::Failed(failure))
                    }
                };
                self.state.put(from, by, next);
            }
            other => self.state = other,
        }
    }

    /// Makes a restored device a new one if its driver wants something else than the one that was
    /// saved.
    pub(super) fn forget_other_driver(&mut self) {
        let from = self.lifecycle();
        match self.state.take(&self.config.id) {
            State::Restored(detached, saved) if saved.acked != self.acked => {
                let next = State::Inactive(detached);
                self.state.put(from, Transition::Renegotiate, next);
                // Nobody is there to tell.
                self.space.thaw();
            }
            other => self.state = other,
        }
    }
}
