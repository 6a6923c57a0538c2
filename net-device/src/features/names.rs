//! Names of features: those of the specification, and those by which an operator switches them off.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Features;
use Features as F;

/// Features that an operator may switch off, under the name the command line and the configuration
/// use.
pub const OPTIONAL: &[(&str, Features)] = &[
    ("csum", F::VIRTIO_NET_F_CSUM),
    ("guest-csum", F::VIRTIO_NET_F_GUEST_CSUM),
    ("ctrl-guest-offloads", F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
    ("mtu", F::VIRTIO_NET_F_MTU),
    ("mac", F::VIRTIO_NET_F_MAC),
    ("guest-tso4", F::VIRTIO_NET_F_GUEST_TSO4),
    ("guest-tso6", F::VIRTIO_NET_F_GUEST_TSO6),
    ("guest-ecn", F::VIRTIO_NET_F_GUEST_ECN),
    ("guest-ufo", F::VIRTIO_NET_F_GUEST_UFO),
    ("host-tso4", F::VIRTIO_NET_F_HOST_TSO4),
    ("host-tso6", F::VIRTIO_NET_F_HOST_TSO6),
    ("host-ecn", F::VIRTIO_NET_F_HOST_ECN),
    ("host-ufo", F::VIRTIO_NET_F_HOST_UFO),
    ("mrg-rxbuf", F::VIRTIO_NET_F_MRG_RXBUF),
    ("status", F::VIRTIO_NET_F_STATUS),
    ("ctrl-vq", F::VIRTIO_NET_F_CTRL_VQ),
    ("ctrl-rx", F::VIRTIO_NET_F_CTRL_RX),
    ("ctrl-vlan", F::VIRTIO_NET_F_CTRL_VLAN),
    ("ctrl-rx-extra", F::VIRTIO_NET_F_CTRL_RX_EXTRA),
    ("guest-announce", F::VIRTIO_NET_F_GUEST_ANNOUNCE),
    ("mq", F::VIRTIO_NET_F_MQ),
    ("ctrl-mac-addr", F::VIRTIO_NET_F_CTRL_MAC_ADDR),
    ("indirect-desc", F::VIRTIO_F_INDIRECT_DESC),
    ("event-idx", F::VIRTIO_F_EVENT_IDX),
    ("ring-packed", F::VIRTIO_F_RING_PACKED),
    ("in-order", F::VIRTIO_F_IN_ORDER),
    ("notification-data", F::VIRTIO_F_NOTIFICATION_DATA),
    ("ring-reset", F::VIRTIO_F_RING_RESET),
    ("suspend", F::VIRTIO_F_SUSPEND),
    ("device-stats", F::VIRTIO_NET_F_DEVICE_STATS),
    ("vq-notf-coal", F::VIRTIO_NET_F_VQ_NOTF_COAL),
    ("notf-coal", F::VIRTIO_NET_F_NOTF_COAL),
    ("guest-uso4", F::VIRTIO_NET_F_GUEST_USO4),
    ("guest-uso6", F::VIRTIO_NET_F_GUEST_USO6),
    ("host-uso", F::VIRTIO_NET_F_HOST_USO),
    ("hash-report", F::VIRTIO_NET_F_HASH_REPORT),
    ("rss", F::VIRTIO_NET_F_RSS),
    ("speed-duplex", F::VIRTIO_NET_F_SPEED_DUPLEX),
    ("guest-udp-tunnel-gso", F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO),
    (
        "guest-udp-tunnel-gso-csum",
        F::VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM,
    ),
    ("host-udp-tunnel-gso", F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO),
    (
        "host-udp-tunnel-gso-csum",
        F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM,
    ),
];

impl Features {
    /// Every feature in [`OPTIONAL`].
    pub fn optional() -> Self {
        OPTIONAL.iter().map(|(_, feature)| *feature).collect()
    }

    /// The feature an operator calls `name`, see [`OPTIONAL`].
    pub fn from_optional_name(name: &str) -> Option<Self> {
        let row = OPTIONAL.iter().find(|(known, _)| *known == name);
        row.map(|(_, feature)| *feature)
    }
}

/// The names of the specification, joined by `|`.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}

/// A list of the names in [`OPTIONAL`]; other bits are not written.
impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = OPTIONAL
            .iter()
            .filter(|(_, feature)| self.contains(*feature));
        serializer.collect_seq(rows.map(|(name, _)| name))
    }
}

/// A list of the names in [`OPTIONAL`].
impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let each = names.into_iter().map(|name| {
            Self::from_optional_name(&name)
                .ok_or_else(|| D::Error::custom(format_args!("no optional feature {name:?}")))
        });
        each.collect()
    }
}
