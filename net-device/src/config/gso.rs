//! Trust in a kernel's segmentation.

use serde::{Deserialize, Serialize};

/// Belief in what the kernel behind a tap does with frames that are larger than a segment.
///
/// There are kernels that take such frames and refuse, change or lose them. See
/// `docs/kernels.md`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GsoTrust {
    /// The kernel is tried, once in a process: what does not come out as it has to is not
    /// left to it, and done by the device for a driver that asks for it. Where it cannot be tried
    /// this is [`GsoTrust::Assume`]. See [`tap::gso_report`].
    #[default]
    Probe,
    /// Not tried: what the kernel takes is left to it, and the device itself may merge frames of
    /// TCP only.
    Assume,
    /// Not tried: the kernel is believed in all that it takes.
    Trust,
}
