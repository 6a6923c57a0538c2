//! Link status that a driver is shown for the host's interface.

use serde::{Deserialize, Serialize};

/// Reaction to the carrier of the interface at which a link ends.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// The driver sees the link down while the interface is down or has no carrier, where the VMM
    /// [looks at it](crate::NetDevice::follow_host_link).
    #[default]
    Follow,
    /// The driver sees the link up, whatever the interface is.
    Up,
}
