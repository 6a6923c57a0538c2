//! A driver whose every ring word is one of the model: the steps of a Linux guest, taken literally.

use std::collections::VecDeque;

use crate::memory::guest_ram::{Access, GuestRam};
use crate::ring::ring_memory::{Area, DESC_SIZE, Desc};
use crate::ring::sync::{Ordering, fence};
use crate::ring::{Layout, RingConfig};

use super::STAMPS_FROM;

/// `VIRTQ_DESC_F_AVAIL` and `VIRTQ_DESC_F_USED`.
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// The three areas of either layout, as the driver finds them.
pub(super) struct Areas {
    pub(super) desc: Area,
    driver: Area,
    device: Area,
}

impl Areas {
    pub(super) fn find(ram: &GuestRam, config: &RingConfig) -> Self {
        let count = usize::from(config.size);
        let area = |addr, len| Area::find(ram, addr, 2, len, Access::Write).expect("ring memory");
        let addrs = config.addrs;
        Self {
            desc: area(addrs.desc, count * DESC_SIZE),
            driver: area(addrs.driver, 6 + 2 * count),
            device: area(addrs.device, 6 + 8 * count),
        }
    }

    /// Writes a descriptor but for its last two words, which differ between the layouts.
    fn describe(&self, slot: u16, stamp: u32) -> usize {
        let at = usize::from(slot) * DESC_SIZE;
        self.desc.store32x2(at, STAMPS_FROM + stamp, 0);
        self.desc.store32(at + 8, stamp);
        at + 12
    }
}

/// A word of the model, which is always there.
fn load(area: &Area, offset: usize, order: Ordering) -> u16 {
    area.load16(offset, order).expect("a word of the model")
}

/// Difference between the layouts.
pub(super) trait Side: Send {
    /// Makes a chain of `slots` available; `stamp` is the length and the place of each buffer.
    fn put(&mut self, slots: &[u16], stamp: u32);
    /// Returns whether the device wants to know of the slots or chains added since the last call.
    fn wants_kick(&mut self) -> bool;
    /// The next used element: id and bytes written.
    fn used(&self) -> Option<(u16, u32)>;
    fn advance(&mut self, chains: usize, slots: usize);
    /// Asks for an interrupt at the `count`th chain (slot of a packed ring) from here, from 1.
    fn ask(&self, count: u16);
    fn mute(&self);
}

pub(super) struct Split {
    areas: Areas,
    size: u16,
    event_idx: bool,
    avail: u16,
    added: u16,
    used: u16,
}

impl Split {
    pub(super) fn new(areas: Areas, config: &RingConfig) -> Self {
        let start = config.cursor.avail;
        areas.driver.store16(2, start, Ordering::Relaxed);
        areas.device.store16(2, start, Ordering::Relaxed);
        Self {
            areas,
            size: config.size,
            event_idx: config.event_idx,
            avail: start,
            added: 0,
            used: start,
        }
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index % self.size)
    }
}

impl Side for Split {
    fn put(&mut self, slots: &[u16], stamp: u32) {
        for (place, slot) in slots.iter().enumerate() {
            let at = self.areas.describe(*slot, stamp);
            let next = slots.get(place + 1).copied();
            let flags = Desc::WRITE | next.map_or(0, |_| Desc::NEXT);
            self.areas.desc.store16(at, flags, Ordering::Relaxed);
            let next = next.unwrap_or(0);
            self.areas.desc.store16(at + 2, next, Ordering::Relaxed);
        }
        let at = 4 + 2 * self.slot(self.avail);
        self.areas.driver.store16(at, slots[0], Ordering::Relaxed);
        self.avail = self.avail.wrapping_add(1);
        self.added += 1;
        self.areas.driver.store16(2, self.avail, Ordering::Release);
    }

    fn wants_kick(&mut self) -> bool {
        let added = std::mem::take(&mut self.added);
        fence(Ordering::SeqCst);
        let device = &self.areas.device;
        if self.event_idx {
            let at = 4 + 8 * usize::from(self.size);
            let event = load(device, at, Ordering::Relaxed);
            self.avail.wrapping_sub(event).wrapping_sub(1) < added
        } else {
            load(device, 0, Ordering::Relaxed) & 1 == 0
        }
    }

    fn used(&self) -> Option<(u16, u32)> {
        let device = &self.areas.device;
        if load(device, 2, Ordering::Acquire) == self.used {
            return None;
        }
        let at = 4 + 8 * self.slot(self.used);
        let id = load(device, at, Ordering::Relaxed);
        Some((id, load(device, at + 4, Ordering::Relaxed).into()))
    }

    fn advance(&mut self, chains: usize, _slots: usize) {
        self.used = self.used.wrapping_add(chains as u16);
    }

    fn ask(&self, count: u16) {
        let driver = &self.areas.driver;
        if self.event_idx {
            let event = self.used.wrapping_add(count - 1);
            let at = 4 + 2 * usize::from(self.size);
            driver.store16(at, event, Ordering::Relaxed);
        } else {
            driver.store16(0, 0, Ordering::Relaxed);
        }
    }

    fn mute(&self) {
        if !self.event_idx {
            self.areas.driver.store16(0, 1, Ordering::Relaxed);
        }
    }
}

/// A slot and the wrap counter there, as one number that never wraps.
#[derive(Clone, Copy)]
struct Position {
    sum: usize,
    size: u16,
}

impl Position {
    fn ahead(self, count: usize) -> Self {
        let sum = self.sum + count;
        Self { sum, ..self }
    }

    fn slot(self) -> u16 {
        (self.sum % usize::from(self.size)) as u16
    }

    fn wrap(self) -> bool {
        (self.sum / usize::from(self.size)).is_multiple_of(2)
    }

    fn event(self) -> u16 {
        self.slot() | u16::from(self.wrap()) << 15
    }

    /// Returns whether the last `added` slots before this one include the one that `event` names.
    fn passed(self, event: u16, added: u16) -> bool {
        let new = i32::from(self.slot());
        let mut slot = i32::from(event & 0x7fff);
        if (event >> 15 == 1) != self.wrap() {
            slot -= i32::from(self.size);
        }
        (new - i32::from(added)..new).contains(&slot)
    }
}

pub(super) struct Packed {
    areas: Areas,
    event_idx: bool,
    next: Position,
    used: Position,
    added: u16,
}

impl Packed {
    pub(super) fn new(areas: Areas, config: &RingConfig) -> Self {
        let start = Position {
            sum: 0,
            size: config.size,
        };
        Self {
            areas,
            event_idx: config.event_idx,
            next: start,
            used: start,
            added: 0,
        }
    }
}

impl Side for Packed {
    fn put(&mut self, slots: &[u16], stamp: u32) {
        let mut first = None;
        for place in 0..slots.len() {
            let at = self.areas.describe(self.next.slot(), stamp);
            // The last one's id counts (VQ-PKD-07).
            let id = slots[slots.len() - 1 - place];
            self.areas.desc.store16(at, id, Ordering::Relaxed);
            let lap = if self.next.wrap() { AVAIL } else { USED };
            let goes_on = place + 1 < slots.len();
            let flags = lap | Desc::WRITE | if goes_on { Desc::NEXT } else { 0 };
            if place == 0 {
                first = Some((at + 2, flags));
            } else {
                self.areas.desc.store16(at + 2, flags, Ordering::Relaxed);
            }
            self.next = self.next.ahead(1);
            self.added += 1;
        }
        let (at, flags) = first.expect("a chain has a descriptor");
        self.areas.desc.store16(at, flags, Ordering::Release);
    }

    fn wants_kick(&mut self) -> bool {
        let added = std::mem::take(&mut self.added);
        fence(Ordering::SeqCst);
        match load(&self.areas.device, 2, Ordering::Acquire) {
            0 => true,
            2 => {
                let event = load(&self.areas.device, 0, Ordering::Relaxed);
                self.next.passed(event, added)
            }
            flags => {
                assert_eq!(flags, 1, "the device's event flags are reserved ones");
                false
            }
        }
    }

    fn used(&self) -> Option<(u16, u32)> {
        let desc = &self.areas.desc;
        let at = usize::from(self.used.slot()) * DESC_SIZE;
        let lap = if self.used.wrap() { AVAIL | USED } else { 0 };
        if load(desc, at + 14, Ordering::Acquire) & (AVAIL | USED) != lap {
            return None;
        }
        let id = load(desc, at + 12, Ordering::Relaxed);
        Some((id, load(desc, at + 8, Ordering::Relaxed).into()))
    }

    fn advance(&mut self, _chains: usize, slots: usize) {
        self.used = self.used.ahead(slots);
    }

    fn ask(&self, count: u16) {
        let driver = &self.areas.driver;
        if self.event_idx {
            let event = self.used.ahead(usize::from(count) - 1).event();
            driver.store16(0, event, Ordering::Relaxed);
            driver.store16(2, 2, Ordering::Release);
        } else {
            driver.store16(2, 0, Ordering::Relaxed);
        }
    }

    fn mute(&self) {
        self.areas.driver.store16(2, 1, Ordering::Relaxed);
    }
}

struct Flight {
    slots: Vec<u16>,
    stamp: u32,
}

/// The driver of either layout, and what it has in flight.
pub(super) struct Driver {
    side: Box<dyn Side>,
    in_order: bool,
    free: Vec<u16>,
    flights: VecDeque<Flight>,
}

impl Driver {
    pub(super) fn new(ram: &GuestRam, config: &RingConfig) -> Self {
        let areas = Areas::find(ram, config);
        let side: Box<dyn Side> = match config.layout {
            Layout::Split => Box::new(Split::new(areas, config)),
            Layout::Packed => Box::new(Packed::new(areas, config)),
        };
        Self {
            side,
            in_order: config.in_order,
            free: (0..config.size).collect(),
            flights: VecDeque::new(),
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Makes a chain of `count` free descriptors available.
    pub(super) fn add(&mut self, count: usize, stamp: u32) {
        let mut slots = self.free.split_off(self.free.len() - count);
        slots.reverse();
        // Whatever the layout, the first one is what the device knows the chain by.
        self.side.put(&slots, stamp);
        self.flights.push_back(Flight { slots, stamp });
    }

    pub(super) fn wants_kick(&mut self) -> bool {
        self.side.wants_kick()
    }

    pub(super) fn mute(&self) {
        self.side.mute();
    }

    /// Asks for an interrupt at the `count`th chain to come; returns whether one has come already.
    pub(super) fn enable_interrupts(&self, count: u16) -> bool {
        self.side.ask(count);
        fence(Ordering::SeqCst);
        self.side.used().is_some()
    }

    /// Takes back a used chain, and with `IN_ORDER` all before it; returns whether there was one.
    pub(super) fn reap(&mut self) -> bool {
        if self.flights.is_empty() {
            return false;
        }
        let Some((id, written)) = self.side.used() else {
            return false;
        };
        let mut place = self.flights.iter().position(|flight| flight.slots[0] == id);
        let last = place.take().expect("a chain that is in flight");
        let first = if self.in_order { 0 } else { last };
        let landed: Vec<Flight> = self.flights.drain(first..=last).collect();
        let slots: usize = landed.iter().map(|flight| flight.slots.len()).sum();
        if let Some(flight) = landed.last() {
            let room = flight.slots.len() as u32 * flight.stamp;
            assert!([room, room - 1].contains(&written), "written {written}");
        }
        self.side.advance(landed.len(), slots);
        for flight in landed {
            self.free.extend(flight.slots);
        }
        true
    }
}
