//! Types of packets that are hashed, and what a driver is told of a hash.

use bitflags::bitflags;

use super::flow::Protocol;

bitflags! {
    /// Types of packets that are hashed (`VIRTIO_NET_HASH_TYPE_*`, VirtIO 1.4 §5.1.9.4.3.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct HashTypes: u32 {
        /// IPv4 packets by their addresses.
        const IPV4 = 1 << 0;
        /// TCP over IPv4 by addresses and ports.
        const TCPV4 = 1 << 1;
        /// UDP over IPv4 by addresses and ports.
        const UDPV4 = 1 << 2;
        /// IPv6 packets by their addresses.
        const IPV6 = 1 << 3;
        /// TCP over IPv6 by addresses and ports.
        const TCPV6 = 1 << 4;
        /// UDP over IPv6 by addresses and ports.
        const UDPV6 = 1 << 5;
        /// IPv6 packets with extension headers by the addresses that those name.
        const IP_EX = 1 << 6;
        /// TCP behind extension headers by the addresses that those name, and ports.
        const TCP_EX = 1 << 7;
        /// UDP behind extension headers by the addresses that those name, and ports.
        const UDP_EX = 1 << 8;
    }
}

impl HashTypes {
    /// Returns whether the type of `report` is switched on: reports are numbered as the bits are.
    #[inline]
    pub(super) fn switched_on(self, report: HashReport) -> bool {
        self.bits() << 1 & 1 << report as u32 != 0
    }
}

/// Input that a hash was taken of (`VIRTIO_NET_HASH_REPORT_*`, NET-MQ-16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u16)]
pub enum HashReport {
    /// There is no hash.
    #[default]
    None = 0,
    /// Addresses of IPv4.
    Ipv4 = 1,
    /// Addresses of IPv4 and TCP's ports.
    Tcpv4 = 2,
    /// Addresses of IPv4 and UDP's ports.
    Udpv4 = 3,
    /// Addresses of IPv6.
    Ipv6 = 4,
    /// Addresses of IPv6 and TCP's ports.
    Tcpv6 = 5,
    /// Addresses of IPv6 and UDP's ports.
    Udpv6 = 6,
    /// Addresses of IPv6's extension headers.
    Ipv6Ex = 7,
    /// Addresses of IPv6's extension headers and TCP's ports.
    Tcpv6Ex = 8,
    /// Addresses of IPv6's extension headers and UDP's ports.
    Udpv6Ex = 9,
}

/// Hash of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHash {
    /// The hash; 0 if there is none.
    pub value: u32,
    /// Input that it was taken of.
    pub report: HashReport,
}

impl FrameHash {
    /// Hash of a frame that is not hashed.
    pub const NONE: Self = Self {
        value: 0,
        report: HashReport::None,
    };

    /// The hash, if there is one.
    #[inline]
    #[must_use]
    pub fn value(self) -> Option<u32> {
        (self.report != HashReport::None).then_some(self.value)
    }

    /// The fields of a receive header behind its first 12 bytes: value, report, padding
    /// (VirtIO 1.4 §5.1.9, L1).
    #[inline]
    #[must_use]
    pub fn to_wire(self) -> [u8; 8] {
        (u64::from(self.value) | u64::from(self.report as u16) << 32).to_le_bytes()
    }
}

/// Types of hashes of one family, as far as they are switched on, and their reports.
pub(super) struct Family {
    pub(super) addresses: HashReport,
    tcp: HashReport,
    udp: HashReport,
}

impl Family {
    /// Type of a packet with ports of `protocol`.
    pub(super) fn with_ports(&self, protocol: Protocol) -> HashReport {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        }
    }
}

pub(super) const V4: Family = Family {
    addresses: HashReport::Ipv4,
    tcp: HashReport::Tcpv4,
    udp: HashReport::Udpv4,
};
pub(super) const V6: Family = Family {
    addresses: HashReport::Ipv6,
    tcp: HashReport::Tcpv6,
    udp: HashReport::Udpv6,
};
pub(super) const V6_EX: Family = Family {
    addresses: HashReport::Ipv6Ex,
    tcp: HashReport::Tcpv6Ex,
    udp: HashReport::Udpv6Ex,
};
