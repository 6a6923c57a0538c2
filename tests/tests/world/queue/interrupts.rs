//! Interrupts, and those that the driver did not ask for.

use net_device::Layout;
use net_queue::testing::{Interrupts, SplitFields};

use super::DriverQueue;
use crate::asked::Asked;

impl DriverQueue {
    /// The same queue, whose interrupts may wait if so.
    pub(crate) fn moderated(mut self, on: bool) -> Self {
        self.moderated = on;
        self
    }

    pub(super) fn ask(&mut self, when: Interrupts) {
        self.ring.ask(when);
        self.asked = Asked {
            when,
            ..Asked::first(self.turn)
        };
    }

    /// A worker begins a turn.
    pub(crate) fn turn_begins(&mut self) {
        self.turn += 1;
    }

    /// The worker of this queue has ended a turn: an interrupt for all that may be lost is sent by
    /// now.
    pub(crate) fn turn_ends(&mut self) {
        self.excused = false;
    }

    /// An interrupt arrives. In the turn in which the driver has asked it may be for what it asked
    /// before; later none comes but those that it asks for.
    ///
    /// # Errors
    /// It comes too early.
    pub(crate) fn is_interrupted(&mut self) -> Result<(), String> {
        self.interrupted = true;
        if self.excused || self.is_broken || self.asked.turn == self.turn {
            return Ok(());
        }
        let index = self.index;
        if self.asked.when == Interrupts::Never {
            return Err(format!(
                "queue {index} interrupts its driver, who wants none"
            ));
        }
        let told = std::mem::replace(&mut self.asked.told, true);
        let config = self.ring.config();
        let by_index = config.event_idx && config.layout == Layout::Split;
        if told && by_index {
            return Err(format!(
                "queue {index} interrupts its driver twice for one event"
            ));
        }
        let names_place = by_index || self.asked.when != Interrupts::Always;
        let Some(units) = self.asleep.filter(|_| names_place || !self.moderated) else {
            return Ok(());
        };
        let unseen = self.unseen();
        if unseen < units {
            return Err(format!(
                "queue {index} used {unseen}, and interrupts its driver, who asked for it after {units}"
            ));
        }
        Ok(())
    }

    /// The driver has suspended the device.
    ///
    /// # Errors
    /// It waits for an interrupt for what was used until then.
    pub(crate) fn is_told(&self) -> Result<(), String> {
        let Some(units) = self.asleep else {
            return Ok(());
        };
        let packed = self.ring.config().layout == Layout::Packed;
        let told = self.excused || self.interrupted || self.is_broken || packed && units > 1;
        if told || self.unseen() < units {
            return Ok(());
        }
        Err(format!(
            "queue {} is suspended, and its driver was not interrupted for what was used",
            self.index
        ))
    }

    /// Units that were used and that a driver has not seen which has looked at all before; of a
    /// packed ring, where nothing counts them, none or enough.
    fn unseen(&self) -> u16 {
        let config = self.ring.config();
        match config.layout {
            Layout::Split => {
                let idx = SplitFields::of(&config).used_idx();
                self.ring.memory().load::<u16>(idx).wrapping_sub(self.seen)
            }
            Layout::Packed if self.ring.has_used() => u16::MAX,
            Layout::Packed => 0,
        }
    }
}
