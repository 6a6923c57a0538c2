//! Parameters of notification coalescing on the wire. VirtIO 1.4 §5.1.9.5.10.

use super::reply::Reply;

/// When the driver is notified of used buffers of a queue. VirtIO 1.4 §5.1.9.5.10 (NET-CVQ-25).
///
/// Zero for either means: of every packet, as without the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotificationCoalescing {
    /// Packets after which it is, at the latest.
    pub max_packets: u32,
    /// Microseconds from the first packet on after which it is, at the latest.
    pub max_usecs: u32,
}

impl NotificationCoalescing {
    /// Every packet is notified of.
    pub const OFF: Self = Self {
        max_packets: 0,
        max_usecs: 0,
    };

    /// Returns whether notifications wait for anything.
    #[inline]
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.max_packets > 0 && self.max_usecs > 0
    }

    /// Reads `struct virtio_net_ctrl_coal`.
    pub(super) fn from_wire(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            max_packets: u32::from_le_bytes([a, b, c, d]),
            max_usecs: u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// `struct virtio_net_ctrl_coal`.
    #[must_use]
    pub fn to_wire(self) -> [u8; 8] {
        let [a, b, c, d] = self.max_packets.to_le_bytes();
        let [e, f, g, h] = self.max_usecs.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

impl Reply<'_> {
    /// Adds the parameters of a queue: the result of a NOTF_COAL_VQ_GET (NET-CVQ-24).
    pub fn push_notf_coal(&mut self, notf_coal: NotificationCoalescing) {
        self.push(&notf_coal.to_wire());
    }
}

#[cfg(test)]
mod tests;
