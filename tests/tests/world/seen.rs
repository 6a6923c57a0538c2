//! The face that a device shows its driver, beside its queues.

use net_device::{Features, NetDevice, VirtioDevice};

/// The status field of the configuration, and whether the device asks to be reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    needs_reset: bool,
}

impl Seen {
    /// The face of `device` as it is now.
    pub(crate) fn of(device: &NetDevice) -> Self {
        let mut status = [0; 2];
        let features = Features::from_bits_retain(device.acked_features());
        if features.contains(Features::VIRTIO_NET_F_STATUS) {
            device.read_config(6, &mut status);
        }
        Self {
            status: u16::from_le_bytes(status),
            needs_reset: device.needs_reset(),
        }
    }
}
