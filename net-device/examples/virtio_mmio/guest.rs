//! The guest's side: the `virtio-drivers` crate over the registers of the transport.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_device::Features;
use net_device::net_queue::header::HDR_LEN;
use virtio_drivers::device::net::VirtIONet;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr, Result};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::transport::{VirtioMmio, register};

/// The network driver; its queues have 16 descriptors.
pub(crate) type Driver = VirtIONet<GuestHal, Bus, 16>;

/// The registers as the guest reaches them. Another device may be put behind them.
#[derive(Clone)]
pub(crate) struct Bus(Arc<Mutex<VirtioMmio>>);

impl Bus {
    /// A bus with this device.
    pub(crate) fn new(device: VirtioMmio) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    /// The device, for the VMM.
    pub(crate) fn device(&self) -> MutexGuard<'_, VirtioMmio> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, offset: u64) -> u32 {
        let mut value = [0; 4];
        self.device().read(offset, &mut value);
        u32::from_le_bytes(value)
    }

    fn put(&self, offset: u64, value: u32) {
        self.device().write(offset, &value.to_le_bytes());
    }

    fn put_address(&self, offset: u64, address: PhysAddr) {
        self.put(offset, address as u32);
        self.put(offset + 4, (address >> 32) as u32);
    }
}

impl Transport for Bus {
    fn device_type(&self) -> DeviceType {
        assert_eq!(self.get(register::MAGIC_VALUE).to_le_bytes(), *b"virt");
        assert_eq!(self.get(register::VERSION), 2);
        let id = self.get(register::DEVICE_ID);
        DeviceType::try_from(id).expect("the id is one of a device")
    }

    fn read_device_features(&mut self) -> u64 {
        let word = |select| {
            self.put(register::DEVICE_FEATURES_SEL, select);
            u64::from(self.get(register::DEVICE_FEATURES))
        };
        word(0) | word(1) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        for (select, word) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.put(register::DRIVER_FEATURES_SEL, select);
            self.put(register::DRIVER_FEATURES, word);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.put(register::QUEUE_SEL, queue.into());
        self.get(register::QUEUE_SIZE_MAX)
    }

    fn notify(&mut self, queue: u16) {
        self.put(register::QUEUE_NOTIFY, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.get(register::STATUS))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.put(register::STATUS, status.bits());
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
        self.put(register::QUEUE_SEL, queue.into());
        self.put(register::QUEUE_SIZE, size);
        self.put_address(register::QUEUE_DESC, descriptors);
        self.put_address(register::QUEUE_DRIVER, driver_area);
        self.put_address(register::QUEUE_DEVICE, device_area);
        self.put(register::QUEUE_READY, 1);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.put(register::QUEUE_SEL, queue.into());
        self.put(register::QUEUE_READY, 0);
        assert_eq!(self.get(register::QUEUE_READY), 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.put(register::QUEUE_SEL, queue.into());
        self.get(register::QUEUE_READY) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let pending = self.get(register::INTERRUPT_STATUS);
        self.put(register::INTERRUPT_ACK, pending);
        InterruptStatus::from_bits_truncate(pending)
    }

    fn read_config_generation(&self) -> u32 {
        self.get(register::CONFIG_GENERATION)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        let offset = register::CONFIG + offset as u64;
        self.device().read(offset, value.as_mut_bytes());
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        let offset = register::CONFIG + offset as u64;
        self.device().write(offset, value.as_bytes());
        Ok(())
    }
}

/// Resets the transmit queue of a driver that negotiates it, enables it in another place, suspends
/// the device, sends a frame of so many bytes, and lets the device go on. The driver crate does
/// nothing of that, nor notifications with data, so this is all that there is of one.
pub(crate) fn reset_and_suspend(bus: &Bus, frame_len: u32) {
    const TX: u16 = 1;
    let mut bus = bus.clone();
    let features = Features::VIRTIO_F_VERSION_1
        | Features::VIRTIO_F_RING_RESET
        | Features::VIRTIO_F_SUSPEND
        | Features::VIRTIO_F_NOTIFICATION_DATA;
    bus.set_status(DeviceStatus::empty());
    bus.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
    bus.write_driver_features(features.bits() as u64);
    bus.set_status(DeviceStatus::FEATURES_OK);
    assert!(bus.get_status().contains(DeviceStatus::FEATURES_OK));
    enable(&mut bus, 0);
    enable(&mut bus, TX);
    bus.set_status(DeviceStatus::DRIVER_OK);
    bus.put(register::QUEUE_SEL, TX.into());
    bus.put(register::QUEUE_RESET, 1);
    assert_eq!(bus.get(register::QUEUE_RESET), 0, "it is over");
    assert!(!bus.queue_used(TX) && bus.queue_used(0));
    let page = enable(&mut bus, TX);
    // The first descriptor and the first entry of the available ring stand for header and frame.
    let len = HDR_LEN as u32 + frame_len;
    let (memory, at) = (memory(), |offset| GuestAddress(page + offset));
    let filled = memory
        .write_obj(page + 0xc00, at(0))
        .and_then(|()| memory.write_obj(len, at(8)))
        .and_then(|()| memory.write_obj(1_u16, at(0x402)));
    filled.expect("the page is the guest's");
    // A bit of which the driver crate does not know.
    const SUSPEND: u32 = 16;
    let running = bus.get(register::STATUS);
    bus.put(register::STATUS, running | SUSPEND);
    let suspended = bus.get(register::STATUS);
    assert_eq!(
        suspended ^ running,
        SUSPEND | DeviceStatus::DRIVER_OK.bits()
    );
    // The queue, and an available index behind it that is not the ring's: it is a hint, no more.
    bus.put(register::QUEUE_NOTIFY, u32::from(TX) | 0xbeef << 16);
    bus.put(register::STATUS, running);
    assert_eq!(bus.get(register::STATUS), running);
}

/// Enables a queue of 16 descriptors on a page of its own, which is returned.
fn enable(bus: &mut Bus, queue: u16) -> PhysAddr {
    let (page, _) = take(1).expect("the guest has memory for its queues");
    bus.queue_set(queue, 16, page, page + 0x400, page + 0x800);
    page
}

/// Pages of guest memory that the driver may use, for all of its queues and buffers.
static PAGES: Mutex<Option<Pages>> = Mutex::new(None);

struct Pages {
    memory: Arc<GuestMemoryMmap>,
    next: u64,
    end: u64,
}

/// From now on the driver takes its pages from `len` bytes at `start` of `memory`.
pub(crate) fn use_pages(memory: Arc<GuestMemoryMmap>, start: u64, len: u64) {
    *PAGES.lock().unwrap_or_else(PoisonError::into_inner) = Some(Pages {
        memory,
        next: start,
        end: start + len,
    });
}

/// Takes pages, zeroed since nobody had them before; they are not given back.
fn take(pages: usize) -> Option<(PhysAddr, NonNull<u8>)> {
    let mut all = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    let all = all.as_mut()?;
    let at = all.next;
    let next = at + (pages * PAGE_SIZE) as u64;
    if next > all.end {
        return None;
    }
    let host = all.memory.get_host_address(GuestAddress(at)).ok()?;
    all.next = next;
    Some((at, NonNull::new(host)?))
}

/// The memory at hand for copies to and from the device's buffers.
fn memory() -> Arc<GuestMemoryMmap> {
    let pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
    pages.as_ref().expect("there are pages").memory.clone()
}

/// Platform of the driver crate.
pub(crate) struct GuestHal;

// SAFETY: pages are mapped, aligned and zeroed, no page is handed out twice, and the memory lives
// as long as the process, since `PAGES` and the device hold it.
unsafe impl Hal for GuestHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        take(pages).expect("the guest has memory for its queues")
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, _vaddr: NonNull<u8>, _pages: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        unreachable!("only a PCI transport maps registers")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let pages = buffer.len().div_ceil(PAGE_SIZE);
        let (address, _) = take(pages).expect("the guest has memory for its buffers");
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the caller says that the range is valid and not accessed elsewhere meanwhile.
            let bytes = unsafe { buffer.as_ref() };
            let copied = memory().write_slice(bytes, GuestAddress(address));
            copied.expect("the pages are there");
        }
        address
    }

    unsafe fn unshare(address: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller says that the range is valid and not accessed elsewhere meanwhile.
            let bytes = unsafe { buffer.as_mut() };
            let copied = memory().read_slice(bytes, GuestAddress(address));
            copied.expect("the pages are there");
        }
    }
}
