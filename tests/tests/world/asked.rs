//! The last word of a driver on interrupts.

use net_queue::testing::Interrupts;

/// Wish of a driver to be interrupted, or not to be.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) when: Interrupts,
    /// Turns that workers had begun until then.
    pub(crate) turn: u64,
    /// It was interrupted since, for what it asked for.
    pub(crate) told: bool,
}

impl Asked {
    /// Wish that a new ring has.
    pub(crate) fn first(turn: u64) -> Self {
        Self {
            when: Interrupts::Always,
            turn,
            told: false,
        }
    }
}
