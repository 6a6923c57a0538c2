//! Handle by which other threads read a device, and switch its dirty marks, without having it.

use std::io;
use std::sync::Arc;

use net_queue::{DirtySwitch, QueueCounters};
use rustix::thread::{MembarrierCommand, membarrier};

use crate::shared::config_space::ConfigSpace;
use crate::shared::device_status::DeviceStatus;
use crate::shared::queue_states::QueueState;
use crate::stats::DeviceStats;

/// A handle to what a driver or an operator reads of a device: its status, its configuration space,
/// its counters; and to the switch of its dirty marks, for the thread that migrates it.
/// [`NetDevice::handle`](crate::NetDevice::handle) gives it.
///
/// Clones are cheap, belong to the same device for all its life, and can be used by any thread at
/// any time: no call waits for a worker, for a driver or for whoever uses the device. So
/// [`Interrupt::trigger`](crate::Interrupt::trigger) and
/// [`Observer::event`](crate::Observer::event) may use it, also where their caller has the device
/// locked.
#[derive(Clone, Debug)]
pub struct DeviceHandle {
    pub(crate) space: Arc<ConfigSpace>,
    pub(crate) status: Arc<DeviceStatus>,
    pub(crate) counters: Arc<[Arc<QueueCounters>]>,
    pub(crate) dirty_switch: DirtySwitch,
}

impl DeviceHandle {
    /// Returns whether DEVICE_NEEDS_RESET is to be shown, see
    /// [`VirtioDevice::needs_reset`](crate::VirtioDevice::needs_reset).
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.status.needs_reset()
    }

    /// Cause of the first failure since the last reset, if the device needs one.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<str>> {
        self.status.reason()
    }

    /// Reads the configuration space, see
    /// [`VirtioDevice::read_config`](crate::VirtioDevice::read_config).
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.space.read(offset, data);
    }

    /// The generation of the configuration space as the driver reads it, see
    /// [`VirtioDevice::config_generation`](crate::VirtioDevice::config_generation).
    #[must_use]
    pub fn config_generation(&self) -> u32 {
        self.space.generation()
    }

    /// Returns whether the link is shown to be up.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        self.space.is_link_up()
    }

    /// Switches dirty marks on or off while the device runs, as
    /// [`NetDevice::set_dirty_logging`](crate::NetDevice::set_dirty_logging) does, without stopping
    /// a worker.
    ///
    /// When this returns after `true`, what the device wrote before is there to be copied, and all
    /// that it writes later is marked. Every thread of the process passes a memory barrier for it,
    /// by the system call `membarrier` (Linux 4.14), which a filter of the calling thread has to
    /// admit (`seccomp::CALLER` lists it). The workers' own filters do not, so it is not for
    /// [`Interrupt::trigger`](crate::Interrupt::trigger).
    ///
    /// # Errors
    /// The kernel does not know or admit the call. Marks are on, and a write that was made while
    /// they were off may be missing in a copy that is made now: `NetDevice::set_dirty_logging` is
    /// the way that needs no such call.
    pub fn set_dirty_logging(&self, on: bool) -> io::Result<()> {
        self.dirty_switch.set(on);
        if on {
            membarrier(MembarrierCommand::RegisterPrivateExpedited)?;
            membarrier(MembarrierCommand::PrivateExpedited)?;
        }
        Ok(())
    }

    /// Returns whether what the device writes is marked.
    #[must_use]
    pub fn is_dirty_logging(&self) -> bool {
        self.dirty_switch.is_on()
    }

    /// Returns whether a port of the device was found to be gone, see
    /// [`NetDevice::is_port_lost`](crate::NetDevice::is_port_lost).
    #[must_use]
    pub fn is_port_lost(&self) -> bool {
        self.status.is_port_lost()
    }

    /// State of each queue, by index: what it waits for, as its worker left it when it went to
    /// sleep or woke up.
    #[must_use]
    pub fn queue_states(&self) -> Vec<QueueState> {
        self.status.queues.read()
    }

    /// Counters by queue.
    #[must_use]
    pub fn stats(&self) -> DeviceStats {
        match self.counters.split_last() {
            Some((control, pairs)) => DeviceStats::new(pairs, control, &self.status),
            None => DeviceStats::new(&[], &QueueCounters::default(), &self.status),
        }
    }
}
