//! The driver of a split virtqueue. VirtIO 1.4 §2.7.

use std::sync::atomic::{Ordering, fence};

use crate::ring::RingConfig;
use crate::testing::{Interrupts, Random, RawDesc, TestMemory};

/// Places of the parts of a split ring, for tests that write them directly.
#[derive(Clone, Copy, Debug)]
pub struct SplitFields {
    config: RingConfig,
}

impl SplitFields {
    /// The parts of the ring that `config` describes.
    #[must_use]
    pub fn of(config: &RingConfig) -> Self {
        Self { config: *config }
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index % self.config.size)
    }

    /// Descriptor `index`.
    #[must_use]
    pub fn desc(&self, index: u16) -> u64 {
        self.config.addrs.desc + 16 * u64::from(index)
    }

    /// `flags` of the available ring.
    #[must_use]
    pub fn avail_flags(&self) -> u64 {
        self.config.addrs.driver
    }

    /// `idx` of the available ring.
    #[must_use]
    pub fn avail_idx(&self) -> u64 {
        self.config.addrs.driver + 2
    }

    /// The available element for the free-running `index`.
    #[must_use]
    pub fn avail_element(&self, index: u16) -> u64 {
        self.config.addrs.driver + 4 + 2 * self.slot(index)
    }

    /// `used_event`.
    #[must_use]
    pub fn used_event(&self) -> u64 {
        self.config.addrs.driver + 4 + 2 * u64::from(self.config.size)
    }

    /// `flags` of the used ring.
    #[must_use]
    pub fn used_flags(&self) -> u64 {
        self.config.addrs.device
    }

    /// `idx` of the used ring.
    #[must_use]
    pub fn used_idx(&self) -> u64 {
        self.config.addrs.device + 2
    }

    /// The used element for the free-running `index`: id, then length.
    #[must_use]
    pub fn used_element(&self, index: u16) -> u64 {
        self.config.addrs.device + 4 + 8 * self.slot(index)
    }

    /// `avail_event`.
    #[must_use]
    pub fn avail_event(&self) -> u64 {
        self.config.addrs.device + 4 + 8 * u64::from(self.config.size)
    }
}

#[derive(Debug)]
pub(super) struct SplitSide {
    fields: SplitFields,
    /// Free descriptors, in no order: chains get gaps.
    free: Vec<u16>,
    avail: u16,
    published: u16,
    seen_used: u16,
}

impl SplitSide {
    pub(super) fn new(memory: &TestMemory, config: &mut RingConfig) -> Self {
        let size = usize::from(config.size);
        config.addrs.desc = memory.alloc_ring(16 * size, 16);
        config.addrs.driver = memory.alloc_ring(6 + 2 * size, 2);
        config.addrs.device = memory.alloc_ring(6 + 8 * size, 4);
        let fields = SplitFields::of(config);
        let (avail, used) = (config.cursor.avail, config.cursor.used.unwrap_or(0));
        memory.store(fields.avail_idx(), avail);
        memory.store(fields.used_idx(), used);
        Self {
            fields,
            free: (0..config.size).collect(),
            avail,
            published: avail,
            seen_used: used,
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn write(memory: &TestMemory, at: u64, desc: &RawDesc) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&desc.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&desc.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&desc.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&desc.next.to_le_bytes());
        memory.write(at, &bytes);
    }

    pub(super) fn put(
        &mut self,
        memory: &TestMemory,
        mut descs: Vec<RawDesc>,
        random: &mut Random,
        spoil: &mut dyn FnMut(usize, &mut RawDesc),
    ) -> (u16, Vec<u16>) {
        assert!(descs.len() <= self.free.len(), "no free descriptors");
        let mut take = |_| {
            let place = random.below(self.free.len() as u64);
            self.free.swap_remove(place as usize)
        };
        let slots: Vec<u16> = (0..descs.len()).map(&mut take).collect();
        for (place, desc) in descs.iter_mut().enumerate() {
            if let Some(next) = slots.get(place + 1) {
                desc.next = *next;
            }
            spoil(place, desc);
            Self::write(memory, self.fields.desc(slots[place]), desc);
        }
        memory.store(self.fields.avail_element(self.avail), slots[0]);
        self.avail = self.avail.wrapping_add(1);
        (slots[0], slots)
    }

    pub(super) fn publish(&mut self, memory: &TestMemory) -> bool {
        let (old, new) = (self.published, self.avail);
        memory.store(self.fields.avail_idx(), new);
        self.published = new;
        fence(Ordering::SeqCst);
        if self.fields.config.event_idx {
            let event = memory.load::<u16>(self.fields.avail_event());
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            old != new && memory.load::<u16>(self.fields.used_flags()) & 1 == 0
        }
    }

    pub(super) fn peek(&self, memory: &TestMemory) -> Option<(u16, u32)> {
        self.peek_ahead(memory, 0, 0)
    }

    /// Returns what was used, if it was, so many chains ahead.
    pub(super) fn peek_ahead(
        &self,
        memory: &TestMemory,
        chains: usize,
        _slots: usize,
    ) -> Option<(u16, u32)> {
        let ahead = self.seen_used.wrapping_add(chains as u16);
        if memory.load::<u16>(self.fields.used_idx()) == ahead {
            return None;
        }
        let at = self.fields.used_element(ahead);
        let id = memory.load::<u32>(at);
        let id = u16::try_from(id).expect("the device names a descriptor");
        Some((id, memory.load::<u32>(at + 4)))
    }

    pub(super) fn advance(&mut self, chains: usize, _slots: usize) {
        self.seen_used = self.seen_used.wrapping_add(chains as u16);
    }

    pub(super) fn release(&mut self, _id: u16, slots: Vec<u16>) {
        self.free.extend(slots);
    }

    pub(super) fn ask(&self, memory: &TestMemory, when: Interrupts) {
        let ahead = match when {
            Interrupts::Always => 1,
            Interrupts::Never => 0,
            Interrupts::After(count) => count,
        };
        let event = self.seen_used.wrapping_add(ahead).wrapping_sub(1);
        memory.store(self.fields.used_event(), event);
        memory.store(self.fields.avail_flags(), u16::from(ahead == 0));
        fence(Ordering::SeqCst);
    }
}
