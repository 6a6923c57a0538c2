//! A device whose addresses an IOMMU of QEMU translates.

use super::control::{self, ACCESS_PLATFORM};
use super::traffic;
use crate::guest::{Result, Testbed};

/// Bytes of the stream; each few of them take a question and its answer.
const LENGTH: usize = 8 << 20;

/// The driver maps each buffer before it gives it away and unmaps it behind that; the stream comes
/// back byte by byte.
pub(super) fn traffic_both_ways(bed: &mut Testbed) -> Result<String> {
    control::expect_feature(&mut bed.guest, ACCESS_PLATFORM, true)?;
    traffic::ping(&mut bed.guest)?;
    traffic::echo(&mut bed.guest, LENGTH)?;
    Ok(format!("{} MiB", LENGTH >> 20))
}
