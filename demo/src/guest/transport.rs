//! The guest's view of the device: status, features, queues and config space.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::VirtioDevice;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error as DriverError, PhysAddr, Result as DriverResult};
use virtio_queue::{Error as QueueError, Queue, QueueT};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::lines::Lines;
use super::transport_error::TransportError;

/// A device that the guest drives while its owner keeps a handle, for counters and control.
pub type SharedDevice = Arc<Mutex<dyn VirtioDevice>>;

/// A transport as plain as the trait allows: every register access is a call of [`VirtioDevice`].
pub(super) struct DeviceTransport {
    device: SharedDevice,
    lines: Arc<Lines>,
    status: DeviceStatus,
    features: u64,
}

impl DeviceTransport {
    pub(super) fn new(device: SharedDevice, lines: Arc<Lines>) -> Self {
        Self {
            device,
            lines,
            status: DeviceStatus::empty(),
            features: 0,
        }
    }

    fn device(&self) -> MutexGuard<'_, dyn VirtioDevice + 'static> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&mut self) {
        self.device().reset();
        self.lines.queues().clear();
        self.status = DeviceStatus::empty();
    }

    fn accept_features(&self) -> Result<(), TransportError> {
        let features = self.features;
        self.device()
            .ack_features(features.into())
            .map_err(|source| TransportError::Features { features, source })
    }

    fn activate(&self) -> Result<(), TransportError> {
        let activation = self.lines.activation()?;
        self.device()
            .activate(activation)
            .map_err(TransportError::Activate)
    }

    /// Notes what went wrong and returns whether all is well.
    fn report(&self, outcome: Result<(), TransportError>) -> bool {
        outcome.map_err(|error| self.lines.fail(error)).is_ok()
    }
}

/// The two halves of a 64-bit address, as the queue's registers take it.
fn halves(address: PhysAddr) -> (Option<u32>, Option<u32>) {
    (Some(address as u32), Some((address >> 32) as u32))
}

fn ring(size: u16, areas: [PhysAddr; 3]) -> Result<Queue, QueueError> {
    let [
        (desc_low, desc_high),
        (avail_low, avail_high),
        (used_low, used_high),
    ] = areas.map(halves);
    let mut queue = Queue::new(size)?;
    queue.set_size(size);
    queue.set_desc_table_address(desc_low, desc_high);
    queue.set_avail_ring_address(avail_low, avail_high);
    queue.set_used_ring_address(used_low, used_high);
    queue.set_ready(true);
    Ok(queue)
}

impl Transport for DeviceTransport {
    fn device_type(&self) -> DeviceType {
        DeviceType::try_from(self.device().device_type()).unwrap_or(DeviceType::Network)
    }

    fn read_device_features(&mut self) -> u64 {
        // The driver knows 64 features.
        self.device().features() as u64
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        self.features = driver_features;
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.device()
            .queue_max_sizes()
            .get(usize::from(queue))
            .copied()
            .unwrap_or(0)
            .into()
    }

    fn notify(&mut self, queue: u16) {
        if let Some(bell) = self.lines.bell(queue) {
            bell.notify();
        }
    }

    fn get_status(&self) -> DeviceStatus {
        if self.device().needs_reset() {
            self.status | DeviceStatus::DEVICE_NEEDS_RESET
        } else {
            self.status
        }
    }

    /// Follows VirtIO 1.4 §3.1.1: features are settled by FEATURES_OK and the device runs from
    /// DRIVER_OK on. A refusal leaves the bit clear.
    fn set_status(&mut self, status: DeviceStatus) {
        if status.is_empty() {
            return self.reset();
        }
        let raised = status.difference(self.status);
        self.status = status;
        if raised.contains(DeviceStatus::FEATURES_OK) && !self.report(self.accept_features()) {
            self.status.remove(DeviceStatus::FEATURES_OK);
        }
        if raised.contains(DeviceStatus::DRIVER_OK)
            && (!self.status.contains(DeviceStatus::FEATURES_OK) || !self.report(self.activate()))
        {
            self.status.remove(DeviceStatus::DRIVER_OK);
        }
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        let size = u16::try_from(size).unwrap_or(0);
        match ring(size, [descriptors, driver_area, device_area]) {
            Ok(ring) => self.lines.queues().push((queue, ring)),
            Err(error) => self.lines.fail(TransportError::Queue(error)),
        }
    }

    /// The driver does this when it goes away and then frees its rings, so the whole device stops
    /// here: once `reset` returns it has no pointer into guest memory.
    fn queue_unset(&mut self, _queue: u16) {
        if !self.status.is_empty() {
            self.reset();
        }
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.lines.queues().iter().any(|&(index, _)| index == queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(self.lines.interrupt.acknowledge().bits())
    }

    fn read_config_generation(&self) -> u32 {
        self.device().config_generation()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> DriverResult<T> {
        let mut value = T::new_zeroed();
        let offset = u64::try_from(offset).map_err(|_| DriverError::ConfigSpaceTooSmall)?;
        self.device().read_config(offset, value.as_mut_bytes());
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> DriverResult<()> {
        let offset = u64::try_from(offset).map_err(|_| DriverError::ConfigSpaceTooSmall)?;
        self.device().write_config(offset, value.as_bytes());
        Ok(())
    }
}
