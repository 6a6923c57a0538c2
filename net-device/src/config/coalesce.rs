//! Which frames may leave together, as text and as offloads.

use std::fmt;
use std::str::FromStr;

use net_queue::Offloads;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Protocols whose frames may leave several at once, written as `tcp,udp` or `off`.
///
/// Consecutive frames of one flow that already lie in a transmit ring are then handed to the
/// backend as one frame to be segmented, if it takes such frames; nothing waits for a next one.
/// Both by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Coalesce {
    /// TCP segments, for a backend that takes TSO.
    pub tcp: bool,
    /// UDP datagrams, for a backend that takes USO.
    pub udp: bool,
}

/// Text that names no protocols to coalesce.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid list {0:?} of protocols to coalesce; it is tcp, udp, both with a comma, or off")]
pub struct CoalesceParseError(String);

impl Coalesce {
    /// Every frame leaves by itself.
    pub const OFF: Self = Self {
        tcp: false,
        udp: false,
    };

    /// Offloads that groups may use.
    pub(crate) fn offloads(self) -> Offloads {
        let mut on = Offloads::empty();
        on.set(Offloads::TSO4 | Offloads::TSO6, self.tcp);
        on.set(Offloads::USO4 | Offloads::USO6, self.udp);
        on
    }
}

impl Default for Coalesce {
    fn default() -> Self {
        Self {
            tcp: true,
            udp: true,
        }
    }
}

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.tcp, self.udp) {
            (true, true) => "tcp,udp",
            (true, false) => "tcp",
            (false, true) => "udp",
            (false, false) => "off",
        })
    }
}

impl FromStr for Coalesce {
    type Err = CoalesceParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut on = Self::OFF;
        for word in text.split(',') {
            match word.trim() {
                "tcp" if !on.tcp => on.tcp = true,
                "udp" if !on.udp => on.udp = true,
                "off" if text.trim() == "off" => {}
                _ => return Err(CoalesceParseError(text.to_owned())),
            }
        }
        Ok(on)
    }
}

impl From<Coalesce> for String {
    fn from(coalesce: Coalesce) -> Self {
        coalesce.to_string()
    }
}

impl TryFrom<String> for Coalesce {
    type Error = CoalesceParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
