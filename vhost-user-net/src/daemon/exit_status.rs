//! Exit status of the daemon, for whoever supervises it.
//!
//! | status | meaning | starting it again |
//! |---|---|---|
//! | 0 | ended as it was asked to, or its only front-end left | |
//! | 1 | something that an option names cannot be had: a path, a tap, a descriptor | helps once the host is different |
//! | 2 | the options make no sense | does not help |
//! | 3 | it served and cannot go on: a worker or a process of its own died | helps |
//! | 4 | a tap was deleted, with `--lost-port exit` | helps once there is one |

use std::error::Error;

use crate::daemon::serve::ServeError;

#[cfg(test)]
mod tests;

/// Status after a failure to open what the options name.
pub const UNAVAILABLE: u8 = 1;
/// Status for options that make no sense.
pub const USAGE: u8 = 2;
/// Status after a loss that a new process does not have.
pub const LOST: u8 = 3;
/// Status after a tap was deleted, or the program in its place ended.
pub const PORT_LOST: u8 = 4;

/// Status after `error`.
#[must_use]
pub fn of(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref() {
        Some(ServeError::WorkerLost | ServeError::ReceiversLost) => LOST,
        Some(ServeError::PortLost) => PORT_LOST,
        _ => UNAVAILABLE,
    }
}
