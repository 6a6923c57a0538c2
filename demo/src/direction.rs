//! Directions of a stream.

use std::fmt;

/// Direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the guest through the device's transmit queue.
    GuestToHost,
    /// To the guest through the device's receive queue.
    HostToGuest,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GuestToHost => "guest to host",
            Self::HostToGuest => "host to guest",
        })
    }
}
