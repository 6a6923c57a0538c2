//! The driver of a ring: what it makes available, by the rules or not.

use net_queue::MAX_SEGMENTS;
use net_queue::ring::Layout;
use net_queue::testing::{PackedFields, SplitFields};

use super::{LONG, MOST_WRITES, World};
use crate::ring::Desc;

impl World {
    /// Writes a list of `len` buffers where the driver stands, and shows it.
    pub(super) fn post(&mut self, len: u16, flags: u8) {
        let write = Desc::WRITE * u16::from(flags & 1);
        let bytes = if flags & 2 == 0 { 1 } else { LONG };
        let (addr, _) = self.memory.regions()[2];
        for place in 0..len {
            let more = Desc::NEXT * u16::from(place + 1 < len);
            let desc = Desc {
                addr,
                len: bytes,
                flags: write | more,
                next: 0,
            };
            self.put(place, desc);
        }
        self.posted(len, Some(len.into()));
    }

    /// Shows `count` chains of one buffer each, or in a split ring the chain that starts where the
    /// driver stands.
    pub(super) fn post_again(&mut self, count: u16, flags: u8) {
        for _ in 0..count {
            match self.config.layout {
                Layout::Split if flags & 4 != 0 => {
                    // The same head once more: what it leads to is left as it is.
                    self.clean = false;
                    let fields = SplitFields::of(&self.config);
                    let head = self.next % self.config.size;
                    let head = if flags & 8 != 0 { 0 } else { head };
                    self.memory.store(fields.avail_element(self.next), head);
                    self.go_on(1, None);
                }
                _ => self.post(1, flags),
            }
        }
    }

    pub(super) fn post_table(&mut self, entries: u16) {
        let entries = usize::from(entries) % (2 * MAX_SEGMENTS);
        let mut bytes = Vec::with_capacity(16 * entries);
        let (addr, _) = self.memory.regions()[2];
        for place in 1..=entries {
            let more = Desc::NEXT * u16::from(place < entries);
            let entry = Desc {
                addr,
                len: 1,
                flags: more,
                next: place as u16,
            };
            let mut entry = entry.to_bytes();
            if self.config.layout == Layout::Packed {
                entry[12..].rotate_left(2);
            }
            bytes.extend(entry);
        }
        let table = self.memory.filled(&bytes);
        self.writes += entries;
        let desc = Desc {
            addr: table.addr,
            len: table.len,
            flags: Desc::INDIRECT,
            next: 0,
        };
        self.put(0, desc);
        let most = MAX_SEGMENTS.max(self.config.size.into());
        let fits = self.config.indirect && (1..=most).contains(&entries);
        self.posted(1, fits.then_some(entries));
    }

    /// Writes the descriptor `place` behind where the driver stands.
    fn put(&mut self, place: u16, desc: Desc) {
        self.writes += 1;
        if self.writes > MOST_WRITES {
            self.clean = false;
            return;
        }
        let size = self.config.size;
        let at = u32::from(self.next) + u32::from(place);
        let slot = (at % u32::from(size)) as u16;
        match self.config.layout {
            Layout::Split => {
                let next = (slot + 1) % size;
                let desc = Desc { next, ..desc };
                let at = SplitFields::of(&self.config).desc(slot);
                self.memory.write(at, &desc.to_bytes());
            }
            Layout::Packed => {
                let wrap = self.wrap ^ (at >= size.into());
                let lap = if wrap { 0x80 } else { 0x8000 };
                let flags = desc.flags | lap;
                let mut bytes = Desc { flags, ..desc }.to_bytes();
                bytes[12..].rotate_left(2);
                let at = PackedFields::of(&self.config).desc(slot);
                self.memory.write(at, &bytes);
            }
        }
    }

    /// Makes the chain of `slots` descriptors available that was written where the driver stands.
    fn posted(&mut self, slots: u16, pieces: Option<usize>) {
        if self.config.layout == Layout::Split {
            let fields = SplitFields::of(&self.config);
            let head = self.next % self.config.size;
            self.memory.store(fields.avail_element(self.next), head);
            // Only single descriptors are kept apart, each at the place of its index.
            self.clean &= self.outstanding == 0 || (self.singles && slots == 1);
            self.singles = slots == 1;
        }
        self.go_on(slots, pieces);
    }

    /// Goes on behind a chain, and shows it.
    fn go_on(&mut self, slots: u16, pieces: Option<usize>) {
        let size = self.config.size;
        match self.config.layout {
            Layout::Split => {
                self.next = self.next.wrapping_add(1);
                self.outstanding += 1;
            }
            Layout::Packed => {
                let at = u32::from(self.next) + u32::from(slots);
                self.wrap ^= at >= size.into();
                self.next = (at % u32::from(size)) as u16;
                self.outstanding += u32::from(slots);
            }
        }
        self.clean &= self.outstanding <= size.into();
        self.expected.push_back(pieces);
        self.show();
    }

    pub(super) fn show(&self) {
        if self.config.layout == Layout::Split {
            let fields = SplitFields::of(&self.config);
            self.memory.store(fields.avail_idx(), self.next);
        }
    }
}
