//! Feature bits: what exists, what needs what, what is offered and what may be accepted.
//!
//! Offered = what the backend can do and the configuration allows, closed under the dependencies.
//! Accepted = a subset of it that is closed as well; everything else is refused before it can have
//! an effect (VirtIO 1.4 §2.2, §5.1.3, checklist group A). A feature becomes known by a row in
//! [`Features`] and, if it needs another one, a row in `PREREQUISITES`.

use bitflags::bitflags;
use net_queue::Offloads;
use thiserror::Error;

mod names;
#[cfg(test)]
mod tests;
mod words;

pub use names::OPTIONAL;
pub use words::FeatureWords;

bitflags! {
    /// The feature bits that this device implements (VirtIO 1.4 §5.1.3, §6). The specification
    /// numbers them up to 127.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u128 {
        /// The device completes partial checksums.
        const VIRTIO_NET_F_CSUM = 1 << 0;
        /// The driver completes partial checksums.
        const VIRTIO_NET_F_GUEST_CSUM = 1 << 1;
        /// The driver switches receive offloads at run time.
        const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 1 << 2;
        /// The configuration space tells the MTU.
        const VIRTIO_NET_F_MTU = 1 << 3;
        /// The configuration space tells the MAC address.
        const VIRTIO_NET_F_MAC = 1 << 5;
        /// The driver takes unsegmented TCP over IPv4.
        const VIRTIO_NET_F_GUEST_TSO4 = 1 << 7;
        /// The driver takes unsegmented TCP over IPv6.
        const VIRTIO_NET_F_GUEST_TSO6 = 1 << 8;
        /// The driver takes unsegmented TCP with congestion marks.
        const VIRTIO_NET_F_GUEST_ECN = 1 << 9;
        /// The driver takes unfragmented UDP.
        const VIRTIO_NET_F_GUEST_UFO = 1 << 10;
        /// The device takes unsegmented TCP over IPv4.
        const VIRTIO_NET_F_HOST_TSO4 = 1 << 11;
        /// The device takes unsegmented TCP over IPv6.
        const VIRTIO_NET_F_HOST_TSO6 = 1 << 12;
        /// The device takes unsegmented TCP with congestion marks.
        const VIRTIO_NET_F_HOST_ECN = 1 << 13;
        /// The device takes unfragmented UDP.
        const VIRTIO_NET_F_HOST_UFO = 1 << 14;
        /// A received frame may fill several buffers.
        const VIRTIO_NET_F_MRG_RXBUF = 1 << 15;
        /// The configuration space tells the link status.
        const VIRTIO_NET_F_STATUS = 1 << 16;
        /// There is a control queue.
        const VIRTIO_NET_F_CTRL_VQ = 1 << 17;
        /// Receive modes and the MAC table.
        const VIRTIO_NET_F_CTRL_RX = 1 << 18;
        /// The VLAN table.
        const VIRTIO_NET_F_CTRL_VLAN = 1 << 19;
        /// More receive modes.
        const VIRTIO_NET_F_CTRL_RX_EXTRA = 1 << 20;
        /// The device may ask for gratuitous packets.
        const VIRTIO_NET_F_GUEST_ANNOUNCE = 1 << 21;
        /// Several queue pairs.
        const VIRTIO_NET_F_MQ = 1 << 22;
        /// The driver sets its MAC address by command.
        const VIRTIO_NET_F_CTRL_MAC_ADDR = 1 << 23;
        /// Buffers may be cut in any way, which goes without saying for all but legacy drivers.
        const VIRTIO_F_ANY_LAYOUT = 1 << 27;
        /// Descriptor tables outside the ring.
        const VIRTIO_F_INDIRECT_DESC = 1 << 28;
        /// Notifications at a ring index.
        const VIRTIO_F_EVENT_IDX = 1 << 29;
        /// Not a legacy driver.
        const VIRTIO_F_VERSION_1 = 1 << 32;
        /// Addresses go through the platform's translation.
        const VIRTIO_F_ACCESS_PLATFORM = 1 << 33;
        /// Virtqueues are packed.
        const VIRTIO_F_RING_PACKED = 1 << 34;
        /// Buffers are used in the order in which they were made available.
        const VIRTIO_F_IN_ORDER = 1 << 35;
        /// Notifications say how far a ring is filled.
        const VIRTIO_F_NOTIFICATION_DATA = 1 << 38;
        /// The driver resets single queues.
        const VIRTIO_F_RING_RESET = 1 << 40;
        /// The driver suspends the device.
        const VIRTIO_F_SUSPEND = 1 << 43;
        /// The driver asks for statistics of the device.
        const VIRTIO_NET_F_DEVICE_STATS = 1 << 50;
        /// The driver sets notification coalescing of single queues.
        const VIRTIO_NET_F_VQ_NOTF_COAL = 1 << 52;
        /// The driver sets notification coalescing of each direction.
        const VIRTIO_NET_F_NOTF_COAL = 1 << 53;
        /// The driver takes unsegmented UDP over IPv4.
        const VIRTIO_NET_F_GUEST_USO4 = 1 << 54;
        /// The driver takes unsegmented UDP over IPv6.
        const VIRTIO_NET_F_GUEST_USO6 = 1 << 55;
        /// The device takes unsegmented UDP.
        const VIRTIO_NET_F_HOST_USO = 1 << 56;
        /// Received frames carry their hash and what it was taken of.
        const VIRTIO_NET_F_HASH_REPORT = 1 << 57;
        /// The driver says by a table which queue receives a frame.
        const VIRTIO_NET_F_RSS = 1 << 60;
        /// The configuration space tells speed and duplex.
        const VIRTIO_NET_F_SPEED_DUPLEX = 1 << 63;
        /// The driver takes unsegmented packets inside a tunnel over UDP.
        const VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO = 1 << 65;
        /// The driver takes them with a partial checksum of the tunnel, too.
        const VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM = 1 << 66;
        /// The device takes unsegmented packets inside a tunnel over UDP.
        const VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO = 1 << 67;
        /// The device takes them with a partial checksum of the tunnel, too.
        const VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM = 1 << 68;
    }
}

use Features as F;

/// One dependency: the feature needs any of the others.
struct Prerequisite {
    feature: Features,
    any_of: Features,
    /// True if the specification lists it. If so a driver that ignores it is refused; if not, the
    /// feature is only not offered without it, and harmless when accepted alone.
    listed: bool,
}

const fn needs(feature: Features, any_of: Features) -> Prerequisite {
    Prerequisite {
        feature,
        any_of,
        listed: true,
    }
}

const fn in_effect(feature: Features, any_of: Features) -> Prerequisite {
    Prerequisite {
        feature,
        any_of,
        listed: false,
    }
}

/// VirtIO 1.4 §5.1.3.1 (NET-FEAT-01, NET-FEAT-07, NET-FEAT-10).
const PREREQUISITES: &[Prerequisite] = &[
    needs(F::VIRTIO_NET_F_GUEST_TSO4, F::VIRTIO_NET_F_GUEST_CSUM),
    needs(F::VIRTIO_NET_F_GUEST_TSO6, F::VIRTIO_NET_F_GUEST_CSUM),
    needs(
        F::VIRTIO_NET_F_GUEST_ECN,
        F::VIRTIO_NET_F_GUEST_TSO4.union(F::VIRTIO_NET_F_GUEST_TSO6),
    ),
    needs(F::VIRTIO_NET_F_GUEST_UFO, F::VIRTIO_NET_F_GUEST_CSUM),
    needs(F::VIRTIO_NET_F_GUEST_USO4, F::VIRTIO_NET_F_GUEST_CSUM),
    needs(F::VIRTIO_NET_F_GUEST_USO6, F::VIRTIO_NET_F_GUEST_CSUM),
    needs(F::VIRTIO_NET_F_HOST_TSO4, F::VIRTIO_NET_F_CSUM),
    needs(F::VIRTIO_NET_F_HOST_TSO6, F::VIRTIO_NET_F_CSUM),
    needs(
        F::VIRTIO_NET_F_HOST_ECN,
        F::VIRTIO_NET_F_HOST_TSO4.union(F::VIRTIO_NET_F_HOST_TSO6),
    ),
    needs(F::VIRTIO_NET_F_HOST_UFO, F::VIRTIO_NET_F_CSUM),
    needs(F::VIRTIO_NET_F_HOST_USO, F::VIRTIO_NET_F_CSUM),
    needs(
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_GUEST_TSO4,
    ),
    needs(
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_GUEST_TSO6,
    ),
    needs(
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_GUEST_USO4,
    ),
    needs(
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_GUEST_USO6,
    ),
    needs(
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM,
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO,
    ),
    needs(
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_HOST_TSO4,
    ),
    needs(
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_HOST_TSO6,
    ),
    needs(
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
        F::VIRTIO_NET_F_HOST_USO,
    ),
    needs(
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM,
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO,
    ),
    needs(F::VIRTIO_NET_F_CTRL_RX, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_CTRL_VLAN, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_GUEST_ANNOUNCE, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_MQ, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_CTRL_MAC_ADDR, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_VQ_NOTF_COAL, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_NOTF_COAL, F::VIRTIO_NET_F_CTRL_VQ),
    needs(F::VIRTIO_NET_F_RSS, F::VIRTIO_NET_F_CTRL_VQ),
    in_effect(F::VIRTIO_NET_F_HASH_REPORT, F::VIRTIO_NET_F_CTRL_VQ),
    in_effect(F::VIRTIO_NET_F_GUEST_ANNOUNCE, F::VIRTIO_NET_F_STATUS),
    in_effect(F::VIRTIO_NET_F_CTRL_RX_EXTRA, F::VIRTIO_NET_F_CTRL_VQ),
    in_effect(F::VIRTIO_NET_F_DEVICE_STATS, F::VIRTIO_NET_F_CTRL_VQ),
    in_effect(F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, F::VIRTIO_NET_F_CTRL_VQ),
    in_effect(
        F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
        F::VIRTIO_NET_F_GUEST_CSUM,
    ),
];

/// A driver has to accept these if they are offered.
///
/// Without `VERSION_1` it is a legacy driver, which only a transitional device takes (NET-FEAT-05).
/// Without `ACCESS_PLATFORM` it would reach around the translation that confines it (NET-FEAT-11).
const MANDATORY: Features = F::VIRTIO_F_VERSION_1.union(F::VIRTIO_F_ACCESS_PLATFORM);

/// Features that a legacy driver can accept: its interface has 32 of them (VirtIO 1.4 §2.2.3,
/// §4.1.4.10).
const LEGACY: Features = F::from_bits_truncate(u32::MAX as u128);

/// Features that depend on neither backend nor configuration.
pub(crate) const ALWAYS: Features = F::VIRTIO_NET_F_MRG_RXBUF
    .union(F::VIRTIO_NET_F_STATUS)
    .union(F::VIRTIO_NET_F_CTRL_VQ)
    .union(F::VIRTIO_NET_F_CTRL_RX)
    .union(F::VIRTIO_NET_F_CTRL_VLAN)
    .union(F::VIRTIO_NET_F_CTRL_RX_EXTRA)
    .union(F::VIRTIO_NET_F_GUEST_ANNOUNCE)
    .union(F::VIRTIO_NET_F_CTRL_MAC_ADDR)
    .union(F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)
    .union(F::VIRTIO_NET_F_DEVICE_STATS)
    .union(F::VIRTIO_NET_F_VQ_NOTF_COAL)
    .union(F::VIRTIO_NET_F_NOTF_COAL)
    .union(F::VIRTIO_F_INDIRECT_DESC)
    .union(F::VIRTIO_F_EVENT_IDX)
    .union(F::VIRTIO_F_RING_PACKED)
    .union(F::VIRTIO_F_IN_ORDER)
    .union(F::VIRTIO_F_VERSION_1);

/// Features with a half in the VMM's transport, offered where that has it
/// ([`NetConfig::transport_features`](crate::NetConfig::transport_features)).
pub const TRANSPORT: Features = F::VIRTIO_F_RING_RESET
    .union(F::VIRTIO_F_NOTIFICATION_DATA)
    .union(F::VIRTIO_F_SUSPEND);

/// Features that make the header in front of each frame longer by the offsets of a tunnel.
pub(crate) const TUNNELS: Features =
    F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO.union(F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO);

/// Transmit: which offloads a driver may use with which feature.
pub(crate) const TX_OFFLOADS: &[(Features, Offloads)] = &[
    (F::VIRTIO_NET_F_CSUM, Offloads::CSUM),
    (F::VIRTIO_NET_F_HOST_TSO4, Offloads::TSO4),
    (F::VIRTIO_NET_F_HOST_TSO6, Offloads::TSO6),
    (F::VIRTIO_NET_F_HOST_ECN, Offloads::ECN),
    (F::VIRTIO_NET_F_HOST_UFO, Offloads::UFO),
    (
        F::VIRTIO_NET_F_HOST_USO,
        Offloads::USO4.union(Offloads::USO6),
    ),
    (F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO, Offloads::UDP_TUNNEL),
    (
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM,
        Offloads::UDP_TUNNEL_CSUM,
    ),
];

/// Receive: which offloads the device may use with which feature.
pub(crate) const RX_OFFLOADS: &[(Features, Offloads)] = &[
    (F::VIRTIO_NET_F_GUEST_CSUM, Offloads::CSUM),
    (F::VIRTIO_NET_F_GUEST_TSO4, Offloads::TSO4),
    (F::VIRTIO_NET_F_GUEST_TSO6, Offloads::TSO6),
    (F::VIRTIO_NET_F_GUEST_ECN, Offloads::ECN),
    (F::VIRTIO_NET_F_GUEST_UFO, Offloads::UFO),
    (F::VIRTIO_NET_F_GUEST_USO4, Offloads::USO4),
    (F::VIRTIO_NET_F_GUEST_USO6, Offloads::USO6),
    (F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO, Offloads::UDP_TUNNEL),
    (
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM,
        Offloads::UDP_TUNNEL_CSUM,
    ),
];

/// Bits of GUEST_OFFLOADS_SET's operand that stand for features which 64 bits do not reach
/// (VirtIO 1.4 §5.1.9.5.9.1).
const MAPPED_OFFLOADS: [(u32, Features); 2] = [
    (46, F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO),
    (47, F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM),
];

fn offloads_of(table: &[(Features, Offloads)], on: Features) -> Offloads {
    let rows = table.iter().filter(|(feature, _)| on.contains(*feature));
    rows.map(|(_, offloads)| *offloads).collect()
}

pub(crate) fn features_of(table: &[(Features, Offloads)], can: Offloads) -> Features {
    let rows = table.iter().filter(|(_, offloads)| can.contains(*offloads));
    rows.map(|(feature, _)| *feature).collect()
}

/// Error of a set of accepted features: FEATURES_OK has to stay clear.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FeatureError {
    /// Bits that were not offered (NET-FEAT-06).
    #[error("features {:#x} were not offered", .0)]
    NotOffered(u128),
    /// Bits that no device of this kind offers (NET-FEAT-06).
    #[error("features above bit 127 were not offered")]
    Beyond,
    /// A feature without one it depends on (NET-FEAT-07).
    #[error("feature {feature} needs {any_of}")]
    MissingPrerequisite {
        /// The feature that was accepted.
        feature: Features,
        /// One of these had to be accepted with it.
        any_of: Features,
    },
    /// A feature this device insists on (NET-FEAT-05, NET-FEAT-11).
    #[error("features {0} have to be accepted")]
    Mandatory(Features),
    /// Features that a legacy driver cannot have (NET-FEAT-05).
    #[error("features {0} need VIRTIO_F_VERSION_1")]
    Legacy(Features),
}

impl Features {
    /// The set without the features whose prerequisites are missing (NET-FEAT-01).
    #[must_use]
    pub fn closure(mut self) -> Self {
        loop {
            let unmet = PREREQUISITES.iter().filter(|rule| rule.unmet_in(self));
            let unmet: Self = unmet.map(|rule| rule.feature).collect();
            if unmet.is_empty() {
                return self;
            }
            self -= unmet;
        }
    }

    /// Checks what the driver accepted of `self`, the offered set.
    ///
    /// # Errors
    /// Names what is wrong with the set; the driver then finds FEATURES_OK clear
    /// (VirtIO 1.4 §2.2.1, §3.1.1, NET-FEAT-02, NET-FEAT-05..07).
    pub fn check_accepted(self, accepted: u128) -> Result<Self, FeatureError> {
        let extra = accepted & !self.bits();
        if extra != 0 {
            return Err(FeatureError::NotOffered(extra));
        }
        let accepted = Self::from_bits_truncate(accepted);
        let mut mandatory = self & MANDATORY;
        if self.is_transitional() {
            mandatory -= F::VIRTIO_F_VERSION_1;
        }
        let missing = mandatory - accepted;
        if !missing.is_empty() {
            return Err(FeatureError::Mandatory(missing));
        }
        let modern = accepted - LEGACY;
        if !accepted.contains(F::VIRTIO_F_VERSION_1) && !modern.is_empty() {
            return Err(FeatureError::Legacy(modern));
        }
        accepted.check_listed()?;
        Ok(accepted)
    }

    /// Returns whether this is what a transitional device offers, one that takes legacy drivers: a
    /// feature of theirs is in it, which means nothing to others (VirtIO 1.4 §6.3).
    pub(crate) fn is_transitional(self) -> bool {
        self.contains(F::VIRTIO_F_ANY_LAYOUT)
    }

    /// Work that the driver may leave to the device on transmit.
    pub fn tx_offloads(self) -> Offloads {
        offloads_of(TX_OFFLOADS, self)
    }

    /// Work that the device may leave to the driver on receive.
    pub fn rx_offloads(self) -> Offloads {
        offloads_of(RX_OFFLOADS, self)
    }

    /// Checks the mask of a GUEST_OFFLOADS_SET command against `self`, the accepted set.
    ///
    /// # Errors
    /// A bit that was not accepted or is not a receive offload, or a segmentation offload without
    /// its prerequisite (VirtIO 1.4 §5.1.9.5.9, NET-CVQ-20). The wire bits of the known offloads
    /// are the feature bits, but for those of tunnels.
    pub fn check_guest_offloads(self, mask: u64) -> Result<Offloads, FeatureError> {
        let switchable = self & features_of(RX_OFFLOADS, Offloads::all());
        let mapped = MAPPED_OFFLOADS
            .iter()
            .fold(0, |all, (bit, _)| all | 1 << bit);
        let on = MAPPED_OFFLOADS
            .iter()
            .filter(|(bit, _)| mask >> bit & 1 != 0)
            .fold(u128::from(mask & !mapped), |on, (_, feature)| {
                on | feature.bits()
            });
        let extra = on & !switchable.bits();
        if extra != 0 {
            return Err(FeatureError::NotOffered(extra));
        }
        let on = Self::from_bits_truncate(on);
        on.check_listed()?;
        Ok(on.rx_offloads())
    }

    /// The operand of GUEST_OFFLOADS_SET for these receive offloads: its bits are those of the
    /// features, but for those of tunnels (VirtIO 1.4 §5.1.9.5.9).
    pub(crate) fn guest_offloads(offloads: Offloads) -> u64 {
        let features = features_of(RX_OFFLOADS, offloads);
        let mapped = MAPPED_OFFLOADS
            .iter()
            .filter(|(_, feature)| features.contains(*feature));
        mapped.fold(features.low_bits(), |mask, (bit, _)| mask | 1 << bit)
    }

    /// Features 0 to 63, for what holds 64 bits.
    pub(crate) fn low_bits(self) -> u64 {
        self.bits() as u64
    }

    fn check_listed(self) -> Result<(), FeatureError> {
        let mut listed = PREREQUISITES.iter().filter(|rule| rule.listed);
        match listed.find(|rule| rule.unmet_in(self)) {
            None => Ok(()),
            Some(rule) => Err(FeatureError::MissingPrerequisite {
                feature: rule.feature,
                any_of: rule.any_of,
            }),
        }
    }
}

impl Prerequisite {
    fn unmet_in(&self, set: Features) -> bool {
        set.contains(self.feature) && !set.intersects(self.any_of)
    }
}
