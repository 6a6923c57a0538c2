//! The driver of a packed virtqueue. VirtIO 1.4 §2.8.

use std::sync::atomic::{Ordering, fence};

use crate::ring::RingConfig;
use crate::testing::{Interrupts, Random, RawDesc, TestMemory};

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Places of the parts of a packed ring, for tests that write them directly.
#[derive(Clone, Copy, Debug)]
pub struct PackedFields {
    config: RingConfig,
}

impl PackedFields {
    /// The parts of the ring that `config` describes.
    #[must_use]
    pub fn of(config: &RingConfig) -> Self {
        Self { config: *config }
    }

    /// Descriptor `slot`: address, length, id, flags.
    #[must_use]
    pub fn desc(&self, slot: u16) -> u64 {
        self.config.addrs.desc + 16 * u64::from(slot)
    }

    /// The flags of descriptor `slot`.
    #[must_use]
    pub fn desc_flags(&self, slot: u16) -> u64 {
        self.desc(slot) + 14
    }

    /// The driver's event offset and wrap; its flags follow.
    #[must_use]
    pub fn driver_event(&self) -> u64 {
        self.config.addrs.driver
    }

    /// The driver's event flags.
    #[must_use]
    pub fn driver_flags(&self) -> u64 {
        self.config.addrs.driver + 2
    }

    /// The device's event offset and wrap; its flags follow.
    #[must_use]
    pub fn device_event(&self) -> u64 {
        self.config.addrs.device
    }

    /// The device's event flags.
    #[must_use]
    pub fn device_flags(&self) -> u64 {
        self.config.addrs.device + 2
    }
}

/// A place in the ring and the wrap counter there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    slot: u16,
    wrap: bool,
}

impl Position {
    fn ahead(self, count: usize, size: u16) -> Self {
        let sum = usize::from(self.slot) + count;
        let laps = sum / usize::from(size);
        Self {
            slot: (sum % usize::from(size)) as u16,
            wrap: self.wrap ^ (laps % 2 == 1),
        }
    }

    fn event(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    fn avail_flags(self) -> u16 {
        if self.wrap { AVAIL } else { USED }
    }
}

#[derive(Debug)]
pub(super) struct PackedSide {
    fields: PackedFields,
    size: u16,
    next: Position,
    used: Position,
    free: usize,
    /// Free buffer ids, in no order.
    ids: Vec<u16>,
    /// First descriptors of chains not yet shown to the device: address and value of their flags.
    unpublished: Vec<(u64, u16)>,
    /// Slots added since the last publish.
    added: u16,
}

impl PackedSide {
    pub(super) fn new(memory: &TestMemory, config: &mut RingConfig) -> Self {
        let size = config.size;
        config.addrs.desc = memory.alloc_ring(16 * usize::from(size), 16);
        config.addrs.driver = memory.alloc_ring(4, 4);
        config.addrs.device = memory.alloc_ring(4, 4);
        let fields = PackedFields::of(config);
        let cursor = config.cursor;
        let at = |slot, wrap| Position { slot, wrap };
        // Slots behind the cursor were used in this lap, the others in the lap before.
        for slot in 0..size {
            let used_this_lap = slot < cursor.avail;
            let flags = if used_this_lap == cursor.avail_wrap {
                AVAIL | USED
            } else {
                0
            };
            memory.store(fields.desc_flags(slot), flags);
        }
        Self {
            fields,
            size,
            next: at(cursor.avail, cursor.avail_wrap),
            used: at(cursor.used.unwrap_or(0), cursor.used_wrap),
            free: usize::from(size),
            ids: (0..size).collect(),
            unpublished: Vec::new(),
            added: 0,
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free
    }

    pub(super) fn write(memory: &TestMemory, at: u64, desc: &RawDesc) {
        let mut bytes = [0; 14];
        bytes[..8].copy_from_slice(&desc.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&desc.len.to_le_bytes());
        bytes[12..].copy_from_slice(&desc.next.to_le_bytes());
        memory.write(at, &bytes);
        memory.write(at + 14, &desc.flags.to_le_bytes());
    }

    pub(super) fn put(
        &mut self,
        memory: &TestMemory,
        mut descs: Vec<RawDesc>,
        random: &mut Random,
        spoil: &mut dyn FnMut(usize, &mut RawDesc),
    ) -> (u16, Vec<u16>) {
        assert!(descs.len() <= self.free, "no free descriptors");
        self.free -= descs.len();
        let place = random.below(self.ids.len() as u64);
        let id = self.ids.swap_remove(place as usize);
        let last = descs.len() - 1;
        let mut slots = Vec::with_capacity(descs.len());
        for (place, desc) in descs.iter_mut().enumerate() {
            // Only the last id counts (VQ-PKD-07).
            desc.next = if place == last {
                id
            } else {
                random.next_u64() as u16
            };
            spoil(place, desc);
            let at = self.fields.desc(self.next.slot);
            let flags = desc.flags ^ self.next.avail_flags();
            if place == 0 {
                desc.flags = memory.load(at + 14);
                self.unpublished.push((at + 14, flags));
            } else {
                desc.flags = flags;
            }
            Self::write(memory, at, desc);
            slots.push(self.next.slot);
            self.next = self.next.ahead(1, self.size);
        }
        self.added += slots.len() as u16;
        (id, slots)
    }

    pub(super) fn publish(&mut self, memory: &TestMemory) -> bool {
        // From the rear, so that the device sees all of them at once.
        for (at, flags) in self.unpublished.drain(..).rev() {
            memory.store(at, flags);
        }
        let added = std::mem::take(&mut self.added);
        fence(Ordering::SeqCst);
        match memory.load::<u16>(self.fields.device_flags()) {
            0 => added > 0,
            2 => self.passed(memory.load(self.fields.device_event()), added),
            flags => {
                assert_eq!(flags, 1, "the device's event flags are reserved ones");
                false
            }
        }
    }

    /// Returns whether the last `added` slots include the one that `event` names.
    fn passed(&self, event: u16, added: u16) -> bool {
        let mut slot = i32::from(event & 0x7fff);
        let size = i32::from(self.size);
        assert!(slot < size, "the device names a slot beyond the ring");
        if (event >> 15 == 1) != self.next.wrap {
            slot -= size;
        }
        let new = i32::from(self.next.slot);
        new - i32::from(added) <= slot && slot < new
    }

    pub(super) fn peek(&self, memory: &TestMemory) -> Option<(u16, u32)> {
        self.peek_ahead(memory, 0, 0)
    }

    /// Returns what was used, if it was, so many slots ahead.
    pub(super) fn peek_ahead(
        &self,
        memory: &TestMemory,
        _chains: usize,
        slots: usize,
    ) -> Option<(u16, u32)> {
        let used = self.used.ahead(slots, self.size);
        let at = self.fields.desc(used.slot);
        let flags = memory.load::<u16>(at + 14);
        let bits = if used.wrap { AVAIL | USED } else { 0 };
        if flags & (AVAIL | USED) != bits || self.free == usize::from(self.size) {
            return None;
        }
        let len = u32::from_le_bytes(memory.read(at + 8, 4).try_into().expect("four bytes"));
        let id = u16::from_le_bytes(memory.read(at + 12, 2).try_into().expect("two bytes"));
        // The length means something only with WRITE (VQ-PKD-08).
        Some((id, if flags & RawDesc::WRITE == 0 { 0 } else { len }))
    }

    pub(super) fn advance(&mut self, _chains: usize, slots: usize) {
        self.used = self.used.ahead(slots, self.size);
    }

    pub(super) fn release(&mut self, id: u16, slots: Vec<u16>) {
        self.ids.push(id);
        self.free += slots.len();
    }

    pub(super) fn ask(&self, memory: &TestMemory, when: Interrupts) {
        let flags = match when {
            Interrupts::Never => 1,
            Interrupts::Always => 0,
            Interrupts::After(count) => {
                let at = self.used.ahead(usize::from(count) - 1, self.size);
                memory.store(self.fields.driver_event(), at.event());
                2_u16
            }
        };
        memory.store(self.fields.driver_flags(), flags);
        fence(Ordering::SeqCst);
    }
}
