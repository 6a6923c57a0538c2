//! The VMM's side: a virtio-mmio transport around [`NetDevice`]. VirtIO 1.4 §4.2.
//!
//! A VMM maps [`VirtioMmio::read`] and [`VirtioMmio::write`] to the guest's accesses, an ioeventfd
//! of KVM to `QueueNotify`, and an irqfd to the interrupt line.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use net_device::{
    Activation, FeatureWords, Features, GuestRam, Interrupt, InterruptSource, NetDevice,
    NotificationData, QueueSetup, Snapshot, Snapshottable, VirtioDevice,
};
use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Offsets of the registers. VirtIO 1.4 §4.2.2.
pub(crate) mod register {
    pub(crate) const MAGIC_VALUE: u64 = 0x000;
    pub(crate) const VERSION: u64 = 0x004;
    pub(crate) const DEVICE_ID: u64 = 0x008;
    pub(crate) const DEVICE_FEATURES: u64 = 0x010;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub(crate) const DRIVER_FEATURES: u64 = 0x020;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub(crate) const QUEUE_SEL: u64 = 0x030;
    pub(crate) const QUEUE_SIZE_MAX: u64 = 0x034;
    pub(crate) const QUEUE_SIZE: u64 = 0x038;
    pub(crate) const QUEUE_READY: u64 = 0x044;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
    pub(crate) const INTERRUPT_ACK: u64 = 0x064;
    pub(crate) const STATUS: u64 = 0x070;
    pub(crate) const QUEUE_DESC: u64 = 0x080;
    pub(crate) const QUEUE_DRIVER: u64 = 0x090;
    pub(crate) const QUEUE_DEVICE: u64 = 0x0a0;
    pub(crate) const SHM_LEN: u64 = 0x0b0;
    pub(crate) const QUEUE_RESET: u64 = 0x0c0;
    pub(crate) const CONFIG_GENERATION: u64 = 0x0fc;
    pub(crate) const CONFIG: u64 = 0x100;
}
use register::*;

/// Bits of the device status. VirtIO 1.4 §2.1.
mod status {
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
    pub(super) const SUSPEND: u32 = 16;
    pub(super) const NEEDS_RESET: u32 = 64;
}

/// The interrupt line: the `InterruptStatus` register, and what KVM's irqfd would listen to.
pub(crate) struct InterruptLine {
    pending: AtomicU32,
    event: EventFd,
}

impl Interrupt for InterruptLine {
    /// Called by the device's threads, without any lock.
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let cause = match source {
            InterruptSource::Queue(_) => 1,
            InterruptSource::Config => 2,
        };
        self.pending.fetch_or(cause, Ordering::SeqCst);
        self.event.write(1)
    }
}

/// Registers besides the queues; part of the saved state.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Registers {
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: [u32; 2],
    queue_sel: u16,
}

/// A queue's registers in the saved state.
#[derive(Serialize, Deserialize)]
struct SavedQueue {
    size: u16,
    ready: bool,
    areas: [u64; 3],
}

/// The saved state of transport and device.
#[derive(Serialize, Deserialize)]
struct SavedState {
    registers: Registers,
    interrupts: u32,
    queues: Vec<SavedQueue>,
    device: Snapshot,
}

/// A virtio-net device behind virtio-mmio registers.
pub(crate) struct VirtioMmio {
    device: NetDevice,
    memory: Arc<GuestMemoryMmap>,
    line: Arc<InterruptLine>,
    registers: Registers,
    queues: Vec<Queue>,
    /// Eventfds that `QueueNotify` signals, one for each queue.
    kicks: Vec<EventFd>,
}

impl VirtioMmio {
    /// Puts `device` behind registers, for a guest with this memory.
    pub(crate) fn new(
        device: NetDevice,
        memory: Arc<GuestMemoryMmap>,
    ) -> Result<Self, Box<dyn Error>> {
        let sizes = device.queue_max_sizes();
        let queues = sizes.iter().map(|&size| Queue::new(size));
        let kicks = sizes.iter().map(|_| EventFd::new(EFD_NONBLOCK));
        Ok(Self {
            queues: queues.collect::<Result<_, _>>()?,
            kicks: kicks.collect::<Result<_, _>>()?,
            line: Arc::new(InterruptLine {
                pending: AtomicU32::new(0),
                event: EventFd::new(EFD_NONBLOCK)?,
            }),
            registers: Registers::default(),
            device,
            memory,
        })
    }

    /// Descriptor that is readable after an interrupt.
    pub(crate) fn interrupt_event(&self) -> io::Result<EventFd> {
        self.line.event.try_clone()
    }

    /// The guest reads at `offset`. Registers take aligned accesses of four bytes, the
    /// configuration space takes any.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return self.device.read_config(offset, data);
        }
        let value = self.read_register(offset);
        match <&mut [u8; 4]>::try_from(data) {
            Ok(data) => *data = value.to_le_bytes(),
            Err(_) => eprintln!("virtio-mmio: read of another width than 4 at {offset:#x}"),
        }
    }

    /// The guest writes at `offset`.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return self.device.write_config(offset, data);
        }
        match data.try_into() {
            Ok(data) => self.write_register(offset, u32::from_le_bytes(data)),
            Err(_) => eprintln!("virtio-mmio: write of another width than 4 at {offset:#x}"),
        }
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            MAGIC_VALUE => u32::from_le_bytes(*b"virt"),
            VERSION => 2,
            DEVICE_ID => self.device.device_type(),
            DEVICE_FEATURES => {
                FeatureWords::word(self.device.features(), self.registers.device_features_sel)
            }
            QUEUE_SIZE_MAX => self.queue().map_or(0, |queue| queue.max_size().into()),
            QUEUE_READY => self.queue().map_or(0, |queue| queue.ready().into()),
            INTERRUPT_STATUS => self.line.pending.load(Ordering::SeqCst),
            STATUS if self.device.needs_reset() => self.registers.status | status::NEEDS_RESET,
            STATUS => self.registers.status,
            // There is no shared memory: all ones, in either half.
            _ if offset & !4 == SHM_LEN => u32::MAX,
            CONFIG_GENERATION => self.device.config_generation(),
            // The vendor, `QueueReset` (a reset is over as soon as it was written), and everything
            // that is write-only or reserved.
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        let registers = &mut self.registers;
        match offset {
            DEVICE_FEATURES_SEL => registers.device_features_sel = value,
            DRIVER_FEATURES_SEL => registers.driver_features_sel = value,
            DRIVER_FEATURES => {
                let select = registers.driver_features_sel as usize;
                if let Some(word) = registers.driver_features.get_mut(select) {
                    *word = value;
                }
            }
            QUEUE_SEL => registers.queue_sel = value.try_into().unwrap_or(u16::MAX),
            QUEUE_NOTIFY => self.notify(value),
            INTERRUPT_ACK => {
                self.line.pending.fetch_and(!value, Ordering::SeqCst);
            }
            STATUS => self.set_status(value),
            QUEUE_READY => self.set_ready(value == 1),
            QUEUE_RESET if value == 1 => self.reset_queue(),
            _ => self.set_up_queue(offset, value),
        }
    }

    fn queue(&self) -> Option<&Queue> {
        self.queues.get(usize::from(self.registers.queue_sel))
    }

    /// Registers that the driver writes before it makes the queue ready.
    fn set_up_queue(&mut self, offset: u64, value: u32) {
        let selected = usize::from(self.registers.queue_sel);
        let Some(queue) = self.queues.get_mut(selected).filter(|queue| !queue.ready()) else {
            return;
        };
        let (low, high) = match offset & 4 {
            0 => (Some(value), None),
            _ => (None, Some(value)),
        };
        match offset & !4 {
            _ if offset == QUEUE_SIZE => queue.set_size(value.try_into().unwrap_or(0)),
            QUEUE_DESC => queue.set_desc_table_address(low, high),
            QUEUE_DRIVER => queue.set_avail_ring_address(low, high),
            QUEUE_DEVICE => queue.set_used_ring_address(low, high),
            _ => {}
        }
    }

    /// A driver that accepted it says more than the queue's number, which the device need not know.
    /// KVM's ioeventfd compares all of a word, so then each notification comes here.
    fn notify(&self, word: u32) {
        let with_data = Features::VIRTIO_F_NOTIFICATION_DATA.bits();
        let queue = if self.device.acked_features() & with_data != 0 {
            NotificationData::from(word).queue.into()
        } else {
            word as usize
        };
        if let Some(kick) = self.kicks.get(queue) {
            // Fails only when the counter is full, and then the device is awake anyway.
            let _ = kick.write(1);
        }
    }

    /// A queue that becomes ready or stops while the device runs starts or stops alone.
    fn set_ready(&mut self, ready: bool) {
        let index = self.registers.queue_sel;
        let Some(queue) = self.queues.get_mut(usize::from(index)) else {
            return;
        };
        queue.set_ready(ready);
        if !self.is_active() {
            return;
        }
        let changed = if ready {
            let setup = self.queue_setup(index);
            setup.and_then(|setup| Ok(self.device.start_queue(setup)?))
        } else {
            self.device.stop_queue(index).map(drop).map_err(Into::into)
        };
        report("queue", changed);
    }

    /// The driver resets a queue while the others run, which a device that failed to do leaves
    /// ready. Before DRIVER_OK the device has none of its queues, and there is nothing but the
    /// registers to reset. A driver that did not accept the feature has no such register.
    fn reset_queue(&mut self) {
        if self.device.acked_features() & Features::VIRTIO_F_RING_RESET.bits() == 0 {
            return;
        }
        let index = self.registers.queue_sel;
        if self.is_active() && !report("queue reset", self.device.reset_queue(index)) {
            return;
        }
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            queue.reset();
        }
    }

    /// The driver has set DRIVER_OK, and suspended the device since or not.
    fn is_active(&self) -> bool {
        self.registers.status & (status::DRIVER_OK | status::SUSPEND) != 0
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        let raised = value & !self.registers.status;
        if raised & status::SUSPEND != 0 {
            return self.suspend();
        }
        self.registers.status |= value;
        if raised & status::FEATURES_OK != 0 && !report("features", self.accept_features()) {
            self.registers.status &= !status::FEATURES_OK;
        }
        if raised & status::DRIVER_OK == 0 {
        } else if self.device.is_suspended() {
            self.registers.status &= !status::SUSPEND;
            report("resumption", self.device.unsuspend());
        } else {
            // A driver learns of a failure by DEVICE_NEEDS_RESET.
            report("activation", self.activate());
        }
    }

    /// A device that cannot be suspended ignores the bit.
    fn suspend(&mut self) {
        if report("suspension", self.device.suspend()) {
            self.registers.status |= status::SUSPEND;
            self.registers.status &= !status::DRIVER_OK;
        }
    }

    fn accept_features(&mut self) -> Result<(), Box<dyn Error>> {
        let mut words = FeatureWords::default();
        for (select, word) in (0..).zip(self.registers.driver_features) {
            words.write(select, word);
        }
        Ok(self.device.ack_features(words.bits()?)?)
    }

    fn activate(&mut self) -> Result<(), Box<dyn Error>> {
        let ready = (0..).zip(&self.queues).filter(|(_, queue)| queue.ready());
        let queues = ready.map(|(index, _)| self.queue_setup(index));
        let queues = queues.collect::<Result<_, _>>()?;
        let memory = GuestRam::new(self.memory.clone())?;
        let interrupt = self.line.clone();
        Ok(self.device.activate(Activation {
            memory,
            interrupt,
            queues,
        })?)
    }

    fn queue_setup(&self, index: u16) -> Result<QueueSetup, Box<dyn Error>> {
        let (queue, kick) = (
            &self.queues[usize::from(index)],
            &self.kicks[usize::from(index)],
        );
        Ok(QueueSetup::from_queue(index, queue, kick.try_clone()?))
    }

    fn reset(&mut self) {
        self.device.reset();
        self.registers = Registers::default();
        self.queues.iter_mut().for_each(Queue::reset);
        self.line.pending.store(0, Ordering::SeqCst);
    }

    /// Guest memory was plugged or unplugged: the device goes on in what is there now.
    pub(crate) fn set_memory(
        &mut self,
        memory: Arc<GuestMemoryMmap>,
    ) -> Result<(), Box<dyn Error>> {
        self.memory = memory.clone();
        if self.registers.status & status::DRIVER_OK != 0 {
            self.device.set_memory(GuestRam::new(memory)?)?;
        }
        Ok(())
    }

    /// Pauses the device and returns the state of transport and device.
    pub(crate) fn save(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        self.device.pause()?;
        let queues = self.queues.iter().map(|queue| SavedQueue {
            size: queue.size(),
            ready: queue.ready(),
            areas: [queue.desc_table(), queue.avail_ring(), queue.used_ring()],
        });
        let saved = SavedState {
            registers: self.registers.clone(),
            interrupts: self.line.pending.load(Ordering::SeqCst),
            queues: queues.collect(),
            device: self.device.snapshot()?,
        };
        Ok(serde_json::to_vec(&saved)?)
    }

    /// Puts the state `saved` into a fresh transport, whose device goes on where that one stood.
    pub(crate) fn restore(&mut self, saved: &[u8]) -> Result<(), Box<dyn Error>> {
        let saved: SavedState = serde_json::from_slice(saved)?;
        self.device.restore(saved.device)?;
        self.registers = saved.registers;
        for (queue, saved) in self.queues.iter_mut().zip(saved.queues) {
            let [desc, driver, device] = saved.areas.map(halves);
            queue.set_size(saved.size);
            queue.set_desc_table_address(desc.0, desc.1);
            queue.set_avail_ring_address(driver.0, driver.1);
            queue.set_used_ring_address(device.0, device.1);
            queue.set_ready(saved.ready);
        }
        if self.is_active() {
            self.activate()?;
            self.device.resume()?;
        }
        self.line
            .pending
            .fetch_or(saved.interrupts, Ordering::SeqCst);
        Ok(self.line.event.write(1)?)
    }
}

/// An address as the two words in which the registers take it.
fn halves(address: u64) -> (Option<u32>, Option<u32>) {
    (Some(address as u32), Some((address >> 32) as u32))
}

/// Logs what failed and returns whether all is well.
fn report(what: &str, outcome: Result<(), impl Into<Box<dyn Error>>>) -> bool {
    outcome
        .map_err(|error| eprintln!("virtio-mmio: {what}: {}", error.into()))
        .is_ok()
}
