//! Drivers that do not accept VIRTIO_F_VERSION_1, behind devices of QEMU that have the legacy
//! interface.

use super::transfer;
use crate::guest::error::require;
use crate::guest::{Result, Testbed};

/// Linux's driver behind a device without the modern interface.
pub(super) fn linux(bed: &mut Testbed) -> Result<String> {
    let features = bed
        .guest
        .expect("cat /sys/bus/virtio/devices/virtio0/features")?;
    let accepted = |bit: usize| features.trim().as_bytes().get(bit) == Some(&b'1');
    require!(!accepted(32), "VERSION_1 is among {features}");
    let header = if accepted(15) { 12 } else { 10 };
    let seen = transfer::ping_and_tcp(bed)?;
    Ok(format!("headers of {header} bytes, {seen}"))
}
