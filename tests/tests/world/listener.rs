//! A driver's end of the interrupts of one ring: what it asked for, and whether each of them is for
//! that.

use net_device::Layout;
use net_queue::testing::{GuestRing, Interrupts};

/// Interrupts of one ring. Units are what its driver counts: chains of a split ring, slots of a
/// packed one.
#[derive(Debug)]
pub(crate) struct Listener {
    index: u16,
    /// The driver looks at the ring only when it was interrupted, and wants to be after this many
    /// units.
    pub(crate) asleep: Option<u16>,
    pub(crate) interrupted: bool,
    /// The driver's last word, and the turns that workers had begun until then.
    asked: (Interrupts, u64),
    /// The unit that it named, counted from the first one of the ring, and those before which the
    /// device has not been heard of.
    event: u64,
    heard: u64,
    /// Turns that workers have begun, and units that were used when the last one did.
    turn: u64,
    used_before: u64,
    /// Units that were used when the device interrupted last.
    used_then: u64,
    /// Units that the driver has taken.
    seen: u64,
    /// The device may interrupt without being asked: its owner has just stopped or moved it.
    excused: bool,
    /// Interrupts may wait, and come when the driver has looked by itself.
    moderated: bool,
    /// The driver has broken the ring, and leaves it alone until it is laid out anew: nothing is
    /// owed to it.
    pub(crate) is_broken: bool,
}

impl Listener {
    /// The end of ring `index`, whose interrupts may wait if they are `moderated`.
    pub(crate) fn new(index: u16, moderated: bool) -> Self {
        Self {
            index,
            asleep: None,
            interrupted: false,
            asked: (Interrupts::Always, 0),
            event: 0,
            heard: 0,
            turn: 0,
            used_before: 0,
            used_then: 0,
            seen: 0,
            excused: true,
            moderated,
            is_broken: false,
        }
    }

    /// Begins anew with a ring that is empty.
    pub(crate) fn begin_again(&mut self) {
        *self = Self {
            interrupted: self.interrupted,
            asked: (Interrupts::Always, self.turn),
            turn: self.turn,
            excused: self.excused,
            ..Self::new(self.index, self.moderated)
        };
    }

    /// Says when the driver wants an interrupt.
    pub(crate) fn ask(&mut self, ring: &mut GuestRing, when: Interrupts) {
        ring.ask(when);
        self.asked = (when, self.turn);
        let ahead = match when {
            Interrupts::After(units) => u64::from(units) - 1,
            Interrupts::Always | Interrupts::Never => 0,
        };
        (self.event, self.heard) = (self.seen + ahead, self.seen);
    }

    /// The driver takes a chain that had so many slots.
    pub(crate) fn takes(&mut self, ring: &GuestRing, slots: u16) {
        let packed = ring.config().layout == Layout::Packed;
        self.seen += if packed { slots.into() } else { 1 };
    }

    fn used(&self, ring: &GuestRing) -> u64 {
        self.seen + u64::from(ring.unseen())
    }

    /// A worker begins a turn.
    pub(crate) fn turn_begins(&mut self, ring: &GuestRing) {
        self.turn += 1;
        self.used_before = self.used(ring);
    }

    /// The worker of this ring has ended a turn: an interrupt for all that may be lost is sent by
    /// now.
    pub(crate) fn turn_ends(&mut self) {
        self.excused = false;
    }

    /// The device has stood still for a moment.
    pub(crate) fn owner_acts(&mut self) {
        self.excused = true;
    }

    /// An interrupt arrives. In the turn in which the driver has asked it may be for what it asked
    /// before; later none comes but those that it asks for.
    ///
    /// # Errors
    /// It comes too early.
    pub(crate) fn is_interrupted(&mut self, ring: &GuestRing) -> Result<(), String> {
        self.interrupted = true;
        let asked = self.has_asked(ring);
        if self.is_broken { Ok(()) } else { asked }
    }

    fn has_asked(&mut self, ring: &GuestRing) -> Result<(), String> {
        let (when, turn) = self.asked;
        if self.excused || turn == self.turn {
            return Ok(());
        }
        let index = self.index;
        if when == Interrupts::Never {
            return Err(format!(
                "queue {index} interrupts its driver, who wants none"
            ));
        }
        let used = self.used(ring);
        let decided = if self.moderated {
            self.used_then
        } else {
            self.used_before
        };
        if used == decided {
            return Err(format!(
                "queue {index} interrupts its driver, and has used nothing"
            ));
        }
        self.used_then = used;
        let config = ring.config();
        let by_index = config.event_idx && config.layout == Layout::Split;
        let names_place = by_index || when != Interrupts::Always;
        // Of more than a lap nobody knows whether the place was among them.
        let laps = config.layout == Layout::Packed && used - decided > config.size.into();
        if !names_place || laps {
            return Ok(());
        }
        let heard = std::mem::replace(&mut self.heard, used);
        if self.event_behind(heard, ring) < used {
            return Ok(());
        }
        Err(format!(
            "queue {index} used {heard} to {used}, and interrupts its driver, who asked for {}",
            self.event
        ))
    }

    /// The first unit from `heard` on that has the name of the one that the driver named.
    fn event_behind(&self, heard: u64, ring: &GuestRing) -> u64 {
        let config = ring.config();
        let names = match config.layout {
            Layout::Split => 1 << 16,
            Layout::Packed => 2 * u64::from(config.size),
        };
        let behind = heard.saturating_sub(self.event);
        self.event + behind.next_multiple_of(names)
    }

    /// The driver waits for an interrupt for what was used, and none is on its way.
    pub(crate) fn is_owed(&self, ring: &GuestRing) -> bool {
        let units = self.asleep.filter(|_| !self.interrupted && !self.is_broken);
        units.is_some_and(|units| ring.unseen() >= units)
    }

    /// The driver has suspended the device.
    ///
    /// # Errors
    /// It waits for an interrupt for what was used until then.
    pub(crate) fn is_told(&self, ring: &GuestRing) -> Result<(), String> {
        if self.excused || !self.is_owed(ring) {
            return Ok(());
        }
        Err(format!(
            "queue {} is suspended, and its driver was not interrupted for what was used",
            self.index
        ))
    }
}
