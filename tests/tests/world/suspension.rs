//! A device that stands still: what it may not do, and what its driver sees meanwhile.

use std::fmt;

use net_device::{Features, InterruptSource, VirtioDevice};

use crate::vmm::Vmm;
use crate::world::World;

/// Bytes of the configuration space.
const CONFIG_LEN: usize = 28;

/// Sides that have stopped the device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoppedBy {
    /// The VMM has paused it.
    pub(crate) vmm: bool,
    /// The driver has suspended it.
    pub(crate) driver: bool,
    /// A receive queue starts that was reset: what came for it until then is taken and dropped.
    pub(crate) discards: bool,
}

impl StoppedBy {
    /// The device does something with a queue.
    ///
    /// # Errors
    /// It stands still.
    pub(crate) fn may(self, what: &str) -> Result<(), String> {
        match self {
            Self { driver: true, .. } => Err(format!("a suspended device begins to {what}")),
            Self { vmm: true, .. } => Err(format!("a paused device begins to {what}")),
            _ => Ok(()),
        }
    }

    /// The device takes a frame from the network.
    ///
    /// # Errors
    /// It stands still.
    pub(crate) fn may_receive(self) -> Result<(), String> {
        match self {
            Self { discards: true, .. } => Ok(()),
            _ => self.may("receive"),
        }
    }

    /// The device interrupts its driver. One that is paused still tells of its configuration.
    ///
    /// # Errors
    /// It stands still.
    pub(crate) fn may_interrupt(self, source: InterruptSource) -> Result<(), String> {
        match source {
            InterruptSource::Config if !self.driver => Ok(()),
            _ => self.may("interrupt"),
        }
    }
}

/// The configuration that a suspended device shows, and its generation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frozen {
    config: [u8; CONFIG_LEN],
    generation: u32,
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = u16::from_le_bytes([self.config[6], self.config[7]]);
        let generation = self.generation;
        write!(f, "status {status:#x} in generation {generation}")
    }
}

impl World {
    /// The driver suspends the device, or lets it go on.
    pub(crate) fn suspend_or_go_on(&mut self) -> Result<(), String> {
        let features = Features::from_bits_retain(self.vmm.device.acked_features());
        if self.frozen.is_some() {
            self.unsuspend()
        } else if features.contains(Features::VIRTIO_F_SUSPEND) {
            self.say_and("the driver suspends the device", Vmm::suspend)?;
            self.frozen = Some(self.shown_now());
            Ok(())
        } else {
            Ok(())
        }
    }

    /// The driver lets the device go on, if it has suspended it.
    pub(crate) fn unsuspend(&mut self) -> Result<(), String> {
        self.check_frozen()?;
        if self.frozen.take().is_some() {
            self.say_and("the driver lets the device go on", Vmm::unsuspend)?;
        }
        Ok(())
    }

    /// A suspended device goes on elsewhere, and shows the same there in another generation.
    pub(crate) fn moves_frozen(&mut self) -> Result<(), String> {
        let generation = self.vmm.device.config_generation();
        if let Some(frozen) = &mut self.frozen {
            frozen.generation = generation;
        }
        self.check_frozen()
    }

    /// A suspended device shows its driver what it has shown before.
    pub(crate) fn check_frozen(&self) -> Result<(), String> {
        let suspended = self.vmm.device.is_suspended();
        if suspended != self.frozen.is_some() {
            return Err(format!("the device is suspended: {suspended}"));
        }
        let Some(frozen) = self.frozen else {
            return Ok(());
        };
        let shown = self.shown_now();
        if shown == frozen {
            return Ok(());
        }
        Err(format!(
            "a suspended device shows {shown}, and has shown {frozen}"
        ))
    }

    fn shown_now(&self) -> Frozen {
        let mut config = [0; CONFIG_LEN];
        self.vmm.device.read_config(0, &mut config);
        Frozen {
            config,
            generation: self.vmm.device.config_generation(),
        }
    }
}
