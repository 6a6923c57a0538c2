//! The negotiated terms of transmission.

use crate::header::{HdrSize, TxRules};
use crate::offload::Offloads;

/// Negotiated terms of transmission.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxConfig {
    /// Length of the header.
    pub size: HdrSize,
    /// Contents that a driver may put into it.
    pub rules: TxRules,
    /// Kinds of groups in which frames of one flow may be sent at once, of `TSO4`, `TSO6`, `USO4`
    /// and `USO6`: what the backend takes unsegmented. Empty: every frame is sent by itself.
    pub coalesce: Offloads,
    /// Segmentation that the driver may ask for beyond `rules`, since the backend takes no such
    /// frame: of `TSO4`, `TSO6`, `ECN`, `USO4` and `USO6`. These frames are cut into segments here.
    pub segmentation: Offloads,
}

impl TxConfig {
    /// Base headers under `rules`, and every frame sent by itself.
    #[must_use]
    pub const fn new(rules: TxRules) -> Self {
        Self {
            size: HdrSize::Base,
            rules,
            coalesce: Offloads::empty(),
            segmentation: Offloads::empty(),
        }
    }
}
