//! The device as a VMM holds it: what it is made from, and the states it goes through.

use std::sync::Arc;

use net_queue::ring::Cursor;
use net_queue::{AccessPlatform, FrameBackend, GuestRam, QueueCounters};
use vmm_sys_util::eventfd::EventFd;

use crate::config::NetConfig;
use crate::control::ControlBudget;
use crate::engines::{Engines, Terms};
use crate::error::{ActivateError, WorkerLost};
use crate::features::{FeatureError, Features};
use crate::health::Health;
use crate::live::Live;
use crate::pair::PairParts;
use crate::persist::{RestoreError, Saved};
use crate::runtime::{Remains, Runtime};
use crate::space::{ConfigSpace, LinkStatus};
use crate::stats;
use crate::traits::{
    Activation, Interrupt, InterruptSource, QueueSetup, VIRTIO_ID_NET, VirtioDevice,
};

mod constructors;
mod limits;
mod mtu;

pub use constructors::HostInterface;
use limits::LimitGroups;

/// Which of its lives the device is in.
///
/// | from | to | by |
/// |---|---|---|
/// | `Inactive` | `Active` | [`NetDevice::activate`](VirtioDevice::activate) |
/// | `Active` | `Active`, paused | [`NetDevice::pause`](snapshot::Pausable::pause), and back by `resume` |
/// | `Active` | `Inactive` | [`NetDevice::reset`](VirtioDevice::reset) |
/// | `Active` | `Lost` | the same, when a worker had panicked: its port is gone |
enum State {
    /// No driver, or one that negotiates.
    Inactive(Remains),
    /// DRIVER_OK; workers run unless it is paused.
    Active(Box<Runtime>),
    /// A worker took its port with it. Only a new device helps.
    Lost(WorkerLost),
}

/// A virtio-net device. VirtIO 1.4 §5.1.
pub struct NetDevice {
    pub(crate) config: NetConfig,
    queue_sizes: Vec<u16>,
    pub(crate) offered: Features,
    pub(crate) acked: Features,
    pub(crate) space: Arc<ConfigSpace>,
    health: Arc<Health>,
    control_budget: Arc<ControlBudget>,
    /// No MTU was configured: the driver is told the interface's.
    follows_mtu: bool,
    /// One for each queue; the control queue's is the last.
    counters: Vec<Arc<QueueCounters>>,
    platform: Option<Arc<dyn AccessPlatform>>,
    host: Option<HostInterface>,
    /// Budgets that it shares with others.
    limit_groups: LimitGroups,
    /// What the next activation goes on from.
    restored: Option<Saved>,
    state: State,
}

impl std::fmt::Debug for NetDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.state {
            State::Inactive(_) => "inactive",
            State::Active(runtime) if runtime.is_paused() => "paused",
            State::Active(_) => "active",
            State::Lost(_) => "lost",
        };
        f.debug_struct("NetDevice")
            .field("id", &self.config.id)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl NetDevice {
    /// The same device, signalling `event` when a worker panics.
    #[must_use]
    pub fn with_exit_event(self, event: EventFd) -> Self {
        self.health.set_exit_event(event);
        self
    }

    /// The same device with a decorator around each pair's backend. To be called before any activation.
    #[must_use]
    pub fn map_backends(
        mut self,
        mut decorate: impl FnMut(usize, Box<dyn FrameBackend>) -> Box<dyn FrameBackend>,
    ) -> Self {
        if let State::Inactive(remains) = &mut self.state {
            let parts = std::mem::take(&mut remains.parts).into_iter().enumerate();
            remains.parts = parts
                .map(|(pair, part)| PairParts {
                    backend: decorate(pair, part.backend),
                    ..part
                })
                .collect();
        }
        self
    }

    /// The tap that it is made on, as the kernel named it.
    #[must_use]
    pub fn host_interface(&self) -> Option<&HostInterface> {
        self.host.as_ref()
    }

    /// Its configuration; what was asked of the backend is filled in.
    #[must_use]
    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    pub(crate) fn runtime(&mut self) -> Result<&mut Runtime, ActivateError> {
        match &mut self.state {
            State::Active(runtime) => Ok(runtime),
            State::Inactive(_) => Err(ActivateError::State("not activated")),
            State::Lost(lost) => Err(lost.clone().into()),
        }
    }

    /// Guest memory as the device may use it under the negotiated features (NET-FEAT-11).
    fn view(&self, memory: GuestRam) -> GuestRam {
        match &self.platform {
            Some(platform) if self.acked.contains(Features::VIRTIO_F_ACCESS_PLATFORM) => {
                memory.with_access_platform(platform.clone())
            }
            _ => memory,
        }
    }

    /// Starts one queue of an activated device: for a driver that enables queues one by one or again after a
    /// queue reset, and for vhost-user.
    ///
    /// # Errors
    /// The queue cannot be used; the others go on.
    pub fn start_queue(&mut self, setup: QueueSetup) -> Result<(), ActivateError> {
        self.runtime()?.insert_and_run(setup)
    }

    /// Stops one queue. Afterwards nothing of it is touched; the result is where to start it from again, or `None`
    /// if it did not run.
    ///
    /// # Errors
    /// There is no such queue, or its worker is lost.
    pub fn stop_queue(&mut self, index: u16) -> Result<Option<Cursor>, ActivateError> {
        self.runtime()?.remove(index)
    }

    /// Moves every queue over to changed guest memory, between two frames. The old mapping is not used any more.
    ///
    /// # Errors
    /// A running queue is not in the new memory: the device needs a reset.
    pub fn set_memory(&mut self, memory: GuestRam) -> Result<(), ActivateError> {
        let ram = self.view(memory);
        let runtime = self.runtime()?;
        let live = runtime.live().clone();
        let done = runtime.rebind(ram);
        if let Err(error) = &done {
            live.fail(&format_args!(
                "queues are not in the new guest memory: {error}"
            ));
        }
        done
    }

    /// Shows the driver a link that is up or down (NET-CFG-05, NET-CFG-15).
    pub fn set_link(&mut self, up: bool) {
        if self.space.set_link(up) {
            self.config_changed();
        }
    }

    /// Asks the driver to announce itself to the network, as after a migration (NET-CVQ-18). Without effect on a
    /// driver that did not negotiate it.
    pub fn announce(&mut self) {
        if self.acked.contains(Features::VIRTIO_NET_F_GUEST_ANNOUNCE)
            && self.space.set_announce(true)
        {
            self.config_changed();
        }
    }

    fn config_changed(&mut self) {
        if let State::Active(runtime) = &self.state {
            runtime.live().trigger(InterruptSource::Config);
        }
    }

    fn start(&mut self, remains: Remains, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            interrupt,
            mut queues,
        } = activation;
        // The control queue first: whether there is one decides which pairs are fed.
        queues.sort_by_key(|setup| std::cmp::Reverse(setup.index));
        let ram = self.view(memory);
        let partial_checksums = remains.accept_partial_checksums();
        let link_mtu = remains.link_mtu();
        let live = Arc::new(Live::new(
            &self.config.id,
            self.acked,
            self.space.clone(),
            self.health.clone(),
            self.control_budget.clone(),
            interrupt,
            remains.controls,
        ));
        let terms = Terms {
            features: self.acked,
            mtu: self.config.mtu,
            link_mtu,
            max_queue_size: self.config.queue_size,
            seccomp: self.config.seccomp,
            poll_us: self.config.poll_us,
            partial_checksums,
        };
        let engines = Engines {
            live: live.clone(),
            terms,
            ram,
            counters: self.counters.clone(),
            pairs: self.config.queue_pairs,
        };
        let mut runtime = Runtime::new(live, engines, remains.parts);
        let saved = self.restored.take();
        if let Some(saved) = &saved {
            runtime.restore(saved);
        }
        let started = runtime.configure().and_then(|()| {
            for mut setup in queues {
                if let Some(saved) = &saved {
                    saved.place(&mut setup)?;
                }
                runtime.insert(setup)?;
            }
            runtime.run()
        });
        self.state = State::Active(Box::new(runtime));
        if started.is_err() {
            self.take_down();
            self.restored = saved;
        }
        started
    }

    pub(crate) fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    /// What the guest can tell of the device, which is paused or was never activated.
    pub(crate) fn save(&mut self) -> Result<Saved, ActivateError> {
        let mut saved = Saved {
            acked: self.acked,
            mac: self.space.mac(),
            announce: self.space.status().contains(LinkStatus::ANNOUNCE),
            generation: self.space.generation(),
            needs_reset: self.health.needs_reset(),
            // What waits for its activation stays what it is.
            ..self.restored.clone().unwrap_or_else(|| Saved {
                offloads: self.acked.rx_offloads(),
                ..Saved::default()
            })
        };
        match &mut self.state {
            State::Active(runtime) if !runtime.is_paused() => {
                return Err(ActivateError::State("not paused"));
            }
            State::Active(runtime) => {
                let live = runtime.live().clone();
                let policy = live.policy();
                saved.activated = true;
                saved.offloads = policy.offloads;
                saved.tables = policy
                    .filter
                    .as_ref()
                    .map(|filter| filter.tables().clone())
                    .unwrap_or_default();
                saved.pairs = live.chosen_pairs();
                saved.rings = runtime.cursors()?;
                saved.limits = runtime.limits()?;
            }
            State::Inactive(remains) => {
                let parts = (0..).zip(&mut remains.parts);
                saved.limits = parts.flat_map(|(pair, parts)| parts.levels(pair)).collect();
            }
            State::Lost(lost) => return Err(lost.clone().into()),
        }
        Ok(saved)
    }

    /// Makes the next activation go on from `saved`.
    pub(crate) fn load(&mut self, saved: Saved) -> Result<(), RestoreError> {
        let remains = match &mut self.state {
            State::Inactive(remains) => remains,
            State::Active(_) => return Err(RestoreError::Active),
            State::Lost(lost) => return Err(lost.clone().into()),
        };
        for (queue, levels) in &saved.limits {
            if let Some(parts) = remains.parts.get_mut(usize::from(queue / 2)) {
                parts.restore(*queue, levels);
            }
        }
        self.acked = saved.acked;
        self.space
            .restore(saved.mac, saved.announce, saved.generation);
        self.health.restore(saved.needs_reset);
        self.restored = saved.activated.then_some(saved);
        Ok(())
    }

    /// Ends an activation. Returns the interrupt it had.
    fn take_down(&mut self) -> Option<Arc<dyn Interrupt>> {
        let lost = WorkerLost(self.config.id.clone());
        match std::mem::replace(&mut self.state, State::Lost(lost)) {
            State::Active(runtime) => {
                let interrupt = runtime.live().interrupt();
                self.state = match runtime.into_remains() {
                    Ok(remains) => State::Inactive(remains),
                    Err(lost) => State::Lost(lost),
                };
                Some(interrupt)
            }
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl VirtioDevice for NetDevice {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        self.offered.bits()
    }

    fn ack_features(&mut self, features: u64) -> Result<(), FeatureError> {
        if matches!(self.state, State::Inactive(_)) {
            self.acked = Features::empty();
            self.acked = self.offered.check_accepted(features)?;
            // A driver that wants something else is not the one that was saved.
            let acked = self.acked;
            self.restored = self.restored.take().filter(|saved| saved.acked == acked);
            self.follow_offered_mtu();
        }
        Ok(())
    }

    fn acked_features(&self) -> u64 {
        self.acked.bits()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.space.read(offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn config_generation(&self) -> u32 {
        self.space.generation()
    }

    fn needs_reset(&self) -> bool {
        self.health.needs_reset()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        match &self.state {
            State::Inactive(_) => {}
            State::Active(_) => return Err(ActivateError::State("active already")),
            State::Lost(lost) => return Err(lost.clone().into()),
        }
        if !self.acked.contains(Features::VIRTIO_F_VERSION_1) {
            return Err(ActivateError::State("not negotiated"));
        }
        let there = |index| activation.queues.iter().any(|setup| setup.index == index);
        if !(activation.queues.is_empty() || there(0) && there(1)) {
            return Err(ActivateError::Queues);
        }
        let lost = State::Lost(WorkerLost(self.config.id.clone()));
        match std::mem::replace(&mut self.state, lost) {
            State::Inactive(remains) => self.start(remains, activation),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn reset(&mut self) -> Option<Arc<dyn Interrupt>> {
        let interrupt = self.take_down();
        self.restored = None;
        self.acked = Features::empty();
        self.space.reset();
        self.follow_mtu();
        self.health.clear();
        interrupt
    }

    fn counters(&self) -> Vec<(String, u64)> {
        stats::named(&self.counters, &self.health.log)
    }

    fn set_access_platform(&mut self, platform: Arc<dyn AccessPlatform>) {
        self.platform = Some(platform);
    }
}

impl snapshot::Pausable for NetDevice {
    /// Stops every worker; a device that is not activated, or paused already, stays as it is.
    fn pause(&mut self) -> Result<(), snapshot::MigrateError> {
        match &mut self.state {
            State::Active(runtime) => runtime
                .pause()
                .map_err(|lost| snapshot::MigrateError::Pause(lost.into())),
            State::Inactive(_) | State::Lost(_) => Ok(()),
        }
    }

    fn resume(&mut self) -> Result<(), snapshot::MigrateError> {
        match &mut self.state {
            State::Active(runtime) if runtime.is_paused() => runtime
                .resume()
                .map_err(|error| snapshot::MigrateError::Resume(error.into())),
            State::Active(_) | State::Inactive(_) => Ok(()),
            State::Lost(lost) => Err(snapshot::MigrateError::Resume(lost.clone().into())),
        }
    }
}
