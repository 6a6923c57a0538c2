//! State of a driver's large frame that is being cut for the backend.

use crate::engine::segmentation::{Checksum, Segmenter};
use crate::header::TxRules;
use crate::ring::Chain;

/// Segmentation for a backend that does not do all that the driver leaves undone.
#[derive(Debug)]
pub(crate) struct TxSegmentation {
    /// Contents of a header of any frame that the driver may send.
    pub(super) rules: TxRules,
    pub(super) checksum: Checksum,
    pub(super) frame: Option<SegmentedFrame>,
}

/// A frame in the bounce buffer that is being cut.
#[derive(Debug)]
pub(super) struct SegmentedFrame {
    pub(super) segmenter: Segmenter,
    pub(super) chain: Chain,
}

impl TxSegmentation {
    pub(crate) fn new(rules: TxRules) -> Self {
        let checksum = if rules.completes() {
            Checksum::Complete
        } else {
            Checksum::Partial
        };
        Self {
            rules,
            checksum,
            frame: None,
        }
    }
}
