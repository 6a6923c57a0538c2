//! The device as a VMM holds it: what it is made from, and the states it goes through.

use std::sync::Arc;

use net_queue::ring::{Cursor, UsedJournal};
use net_queue::{AccessPlatform, DirtySwitch, QueueCounters};

use crate::active::ActiveDevice;
use crate::active::discard::Discarded;
use crate::clock::Clock;
use crate::config::NetConfig;
use crate::error::{ActivateError, StartQueueError, StopQueueError};
use crate::events::DeviceEvent;
use crate::features::{FeatureError, Features};
use crate::handle::DeviceHandle;
use crate::lifecycle::{Lifecycle, StateError};
use crate::log_limit::LogLimit;
use crate::port::HostInterface;
use crate::port::link::OpenLink;
use crate::shared::config_space::ConfigSpace;
use crate::shared::control_budget::ControlBudget;
use crate::shared::device_status::DeviceStatus;
use crate::transport::{
    Activation, Interrupt, InterruptSource, QueueSetup, VIRTIO_ID_NET, VirtioDevice,
};

mod activation;
mod announce;
mod announce_rounds;
mod builder;
mod carrier;
mod host_link;
mod legacy;
mod limit_groups;
mod limits;
mod memory;
mod memory_map;
#[cfg(feature = "snapshot")]
mod migration;
mod mtu;
mod pause;
mod reopen;
mod states;
mod suspend;
mod threads;

pub use announce_rounds::Announcer;
use announce_rounds::Rounds;
pub use builder::NetDeviceBuilder;
use host_link::HostLink;
use limit_groups::LimitGroups;
use memory_map::MemoryMap;
use states::State;

/// A virtio-net device. VirtIO 1.4 §5.1.
pub struct NetDevice {
    pub(crate) config: NetConfig,
    queue_sizes: Vec<u16>,
    pub(crate) offered: Features,
    pub(crate) acked: Features,
    /// The set that the driver accepted last was refused.
    refused: bool,
    /// Address that a legacy driver has begun to write.
    written_mac: Option<[u8; 6]>,
    pub(crate) space: Arc<ConfigSpace>,
    status: Arc<DeviceStatus>,
    control_budget: Arc<ControlBudget>,
    /// No MTU was configured: the driver is told the interface's.
    follows_mtu: bool,
    /// One for each queue; the control queue's is the last.
    counters: Arc<[Arc<QueueCounters>]>,
    platform: Option<Arc<dyn AccessPlatform>>,
    /// True if anybody wants to know of writes to guest memory: the VMM's, over all activations.
    dirty_switch: DirtySwitch,
    /// The VMM's memory map, where it gave one to be read again.
    memory: Option<MemoryMap>,
    host: Option<HostInterface>,
    host_link: HostLink,
    /// Of an announcement.
    rounds: Rounds,
    /// The MTU that the driver is told, if that is not the device's to tell.
    driver_mtu: Option<u16>,
    /// Budgets that it shares with others.
    limit_groups: LimitGroups,
    /// Way to replace ports that are gone.
    open_link: Option<OpenLink>,
    clock: Arc<dyn Clock>,
    state: State,
}

impl std::fmt::Debug for NetDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetDevice")
            .field("id", &self.config.id)
            .field("state", &self.lifecycle())
            .finish_non_exhaustive()
    }
}

impl NetDevice {
    /// A handle by which other threads read status, configuration space and counters, and switch
    /// dirty marks, without the device, in all its states.
    #[must_use]
    pub fn handle(&self) -> DeviceHandle {
        DeviceHandle {
            space: self.space.clone(),
            status: self.status.clone(),
            counters: self.counters.clone(),
            dirty_switch: self.dirty_switch.clone(),
        }
    }

    /// The tap that it is made on, as the kernel named it.
    #[must_use]
    pub fn host_interface(&self) -> Option<&HostInterface> {
        self.host.as_ref()
    }

    /// The limit for log lines that its guest, or who carries the guest's requests, can cause. To
    /// be used for every such line about this device; see [`log_limited!`](crate::log_limited).
    #[must_use]
    pub fn log_limit(&self) -> Arc<LogLimit> {
        self.status.events().log.clone()
    }

    /// Its configuration; what was asked of the backend is filled in.
    #[must_use]
    pub fn config(&self) -> &NetConfig {
        &self.config
    }

    /// The MTU that the driver is told, where [`NetDevice::set_driver_mtu`] has set one.
    #[must_use]
    pub fn driver_mtu(&self) -> Option<u16> {
        self.driver_mtu
    }

    /// Sets the MTU that the driver is told by a VMM that shows it a configuration space of its
    /// own, from the next activation on; `None`: that of the device's own space. With
    /// VIRTIO_NET_F_MTU it is the one to keep to.
    pub fn set_driver_mtu(&mut self, mtu: Option<u16>) {
        self.driver_mtu = mtu;
    }

    /// State of the device.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        self.state.lifecycle()
    }

    /// Starts one queue of an activated device: for a driver that enables queues one by one or
    /// again after a queue reset, and for vhost-user.
    ///
    /// A queue whose ring the driver broke stands still until the device is reset, also when it is
    /// stopped and started where it stood: then this succeeds, and nothing of it runs. Started from
    /// the very beginning it is a new ring, and runs.
    ///
    /// # Errors
    /// The queue cannot be used; the others go on.
    pub fn start_queue(&mut self, setup: QueueSetup) -> Result<(), StartQueueError> {
        let running = self.lifecycle() == Lifecycle::Running;
        let active = self.state.active::<StartQueueError>()?;
        if running {
            active.insert_and_run(setup)?;
        } else {
            active.insert(setup)?;
        }
        Ok(())
    }

    /// As [`NetDevice::start_queue`], of a queue whose position is kept in `journal` besides: the
    /// device that comes after a process that was killed goes on exactly there
    /// ([`UsedJournal::recover`]).
    ///
    /// # Errors
    /// As for [`NetDevice::start_queue`].
    pub fn start_queue_with_journal(
        &mut self,
        setup: QueueSetup,
        journal: Option<UsedJournal>,
    ) -> Result<(), StartQueueError> {
        let active = self.state.active::<StartQueueError>()?;
        active.set_journal(setup.index, journal);
        self.start_queue(setup)
    }

    /// Stops one queue. Afterwards nothing of it is touched; the result is where to start it from
    /// again, or `None` if it did not run.
    ///
    /// # Errors
    /// There is no such queue, or its worker is lost.
    pub fn stop_queue(&mut self, index: u16) -> Result<Option<Cursor>, StopQueueError> {
        self.take_queue_out(|active| active.remove(index))
    }

    /// Gives back unsent what the driver has posted in a transmit queue that was stopped, counts it
    /// (`tx_drop_stopped`), and asks the driver for a kick at the next chain: for vhost-user, where
    /// a front-end disables rings without stopping them.
    ///
    /// The caller interrupts the driver if that is due. `setup` is where the queue stood; where it
    /// goes on from now is part of the result. No other call reaches into its ring.
    ///
    /// # Errors
    /// It is not a transmit queue that was stopped and not started since, or its ring cannot be
    /// used; a ring that turns out to be broken does not fail the device.
    pub fn discard_posted(&mut self, setup: &QueueSetup) -> Result<Discarded, StartQueueError> {
        let active = self.state.active::<StartQueueError>()?;
        Ok(active.discard_posted(setup)?)
    }

    /// Resets one queue, as its driver asks the transport to. VirtIO 1.4 §2.6.1 (DEV-LIFE-11).
    ///
    /// When this returns nothing of the queue is touched, no interrupt of it comes any more, and
    /// the transport shows it as reset and disabled. The others run on, and frames are steered to
    /// those that receive (NET-MQ-06); frames that come while none does are dropped, of which
    /// `start_queue` discards up to 4096 that still wait in the link. The driver enables the queue
    /// again by [`start_queue`](Self::start_queue), from its beginning, in a ring of any place and
    /// size (DEV-LIFE-13).
    ///
    /// # Errors
    /// VIRTIO_F_RING_RESET was not negotiated, and nothing has changed (DEV-LIFE-15); there is no
    /// such queue, or its worker is lost.
    pub fn reset_queue(&mut self, index: u16) -> Result<(), StopQueueError> {
        if !self.acked.contains(Features::VIRTIO_F_RING_RESET) {
            return Err(StopQueueError::NotNegotiated);
        }
        self.take_queue_out(|active| active.reset(index))
    }

    fn take_queue_out<T>(
        &mut self,
        take: impl FnOnce(&mut ActiveDevice) -> Result<T, StopQueueError>,
    ) -> Result<T, StopQueueError> {
        let running = self.lifecycle() == Lifecycle::Running;
        let active = self.state.active::<StopQueueError>()?;
        let taken = take(active);
        if running {
            active.run_or_fail()?;
        }
        taken
    }

    /// Shows the driver a link that is up or down (NET-CFG-05, NET-CFG-15).
    ///
    /// While it is down no frame passes either way, from the return of this call on: what the
    /// driver sends and what arrives for it is dropped and counted (`tx_drop_link_down`,
    /// `rx_drop_link_down`), as on a pulled cable, so that nothing stale is delivered when it is up
    /// again. Commands are answered.
    pub fn set_link(&mut self, up: bool) {
        if self.space.passes_frames() == up {
            return;
        }
        let shown = self.space.is_link_up();
        let visible = self.space.set_link(up);
        if let State::Running(active) = &mut self.state {
            active.park_pairs();
            // Each looks at the link as it goes on. A host that cannot let them has failed the
            // device.
            let _ = active.run_or_fail();
        }
        // Without a carrier, or a port, it stays down.
        if shown != self.space.is_link_up() {
            self.status.events().emit(&DeviceEvent::Link { up });
        }
        if visible {
            self.config_changed();
        }
    }

    fn config_changed(&self) {
        if let Some(interrupt) = self.state.interrupt() {
            self.tell_of_config(&*interrupt);
        }
    }

    /// Interrupts the driver of a device that nothing may run in any more.
    fn tell_of_config(&self, interrupt: &dyn Interrupt) {
        if self.space.withholds_interrupt() {
            return;
        }
        if let Err(error) = interrupt.trigger(InterruptSource::Config) {
            self.status.events().interrupt_lost(&error);
        }
    }

    pub(crate) fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }
}

impl VirtioDevice for NetDevice {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u128 {
        self.offered.bits()
    }

    fn ack_features(&mut self, features: u128) -> Result<(), FeatureError> {
        if self.state.before_activation().is_some() {
            let accepted = self.offered.check_accepted(features);
            self.refused = accepted.is_err();
            // A set that is refused is another one, too.
            self.acked = *accepted.as_ref().unwrap_or(&Features::empty());
            self.forget_other_driver();
            if !self.acked.contains(Features::VIRTIO_NET_F_GUEST_ANNOUNCE) {
                self.space.set_announce(false);
            }
            self.follow_offered_mtu();
            accepted?;
        }
        Ok(())
    }

    fn acked_features(&self) -> u128 {
        self.acked.bits()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.space.read(offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.write_legacy_mac(offset, data);
    }

    fn config_generation(&self) -> u32 {
        self.space.generation()
    }

    fn needs_reset(&self) -> bool {
        self.status.needs_reset()
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let restored = match &self.state {
            State::Inactive(_) => false,
            State::Restored(..) => true,
            State::Failed(failure) => return Err(failure.cause.clone().into()),
            State::Running(_) | State::Paused(..) => {
                const NEEDED: &[Lifecycle] = &[Lifecycle::Inactive, Lifecycle::Restored];
                return Err(StateError::new(self.lifecycle(), NEEDED).into());
            }
        };
        if self.needs_reset() && !restored {
            return Err(ActivateError::NeedsReset);
        }
        let interrupt = activation.interrupt.clone();
        let activated = self
            .reopen_for_driver()
            .and_then(|()| self.try_activate(activation));
        match &activated {
            Ok(()) => self.status.events().emit(&DeviceEvent::Activated),
            // The VMM puts the guest together, and may try again; no driver waits for an answer.
            Err(_) if restored => {}
            Err(error) => self.fail(error, &*interrupt),
        }
        activated
    }

    fn reset(&mut self) -> Option<Arc<dyn Interrupt>> {
        let interrupt = self.state.interrupt();
        self.return_to_inactive();
        self.rounds.end();
        self.acked = Features::empty();
        (self.refused, self.written_mac) = (false, None);
        self.space.reset();
        // A reset does not bring a lost worker back.
        if self.lifecycle() != Lifecycle::Failed {
            self.status.clear();
        }
        if self.open_link.is_some() {
            self.reopen_or_log();
        }
        self.follow_mtu();
        self.status.events().emit(&DeviceEvent::Reset);
        interrupt
    }

    fn counters(&self) -> Vec<(String, u64)> {
        self.handle().stats().named()
    }

    fn set_access_platform(&mut self, platform: Arc<dyn AccessPlatform>) {
        self.platform = Some(platform);
    }
}
