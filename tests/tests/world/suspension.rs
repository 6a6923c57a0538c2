//! A device that stands still: what it may not do, and what its driver sees meanwhile.

use std::fmt;

use net_device::{InterruptSource, NetDevice, VirtioDevice};

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

impl Frozen {
    /// Configuration that `device` shows now.
    pub(crate) fn shown_by(device: &NetDevice) -> Self {
        let mut config = [0; CONFIG_LEN];
        device.read_config(0, &mut config);
        Self {
            config,
            generation: device.config_generation(),
        }
    }

    /// The same in another generation.
    pub(crate) fn in_generation(self, generation: u32) -> Self {
        Self { generation, ..self }
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = u16::from_le_bytes([self.config[6], self.config[7]]);
        let generation = self.generation;
        write!(f, "status {status:#x} in generation {generation}")
    }
}
