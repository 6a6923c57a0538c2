//! Hashes of received frames, by which a device spreads flows over queues and tells its driver.
//! VirtIO 1.4 §5.1.9.4.3, checklist group G.
//!
//! [`FrameHasher`] holds what the driver has set: a key and the types of packets to be hashed. It
//! is given the first bytes of a frame and answers with a [`FrameHash`], which a receive header
//! shows ([`HdrSize::HashReport`](crate::header::HdrSize::HashReport)) and a table of queues is
//! looked up by.

mod carryless;
mod flow;
mod toeplitz;

use bitflags::bitflags;

pub(crate) use flow::USUAL_HEAD;
use flow::{Addresses, Extensions, Flow, Protocol, UsualFlow};
use toeplitz::Toeplitz;

#[cfg(test)]
mod tests;

/// Longest key in bytes: what the longest input can reach (NET-CFG-10).
pub const MAX_HASH_KEY_LEN: usize = toeplitz::KEY;

/// Longest input of a hash in bytes: two IPv6 addresses and two ports.
pub const MAX_HASH_INPUT_LEN: usize = toeplitz::INPUT;

/// First bytes of a frame that are looked at: Ethernet, tags, IPv6 with extensions, ports. A packet
/// whose transport header lies beyond them is hashed as one without.
pub const HASHED_HEAD: usize = crate::header::packet::HEADERS;

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
    fn switched_on(self, report: HashReport) -> bool {
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

/// Hash parameters of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHasher {
    types: HashTypes,
    toeplitz: Toeplitz,
    /// By kind of flow.
    usual: [UsualHash; UsualFlow::KINDS.len()],
}

/// Hash of the usual packets of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
struct UsualHash {
    report: HashReport,
    /// Bytes that are hashed.
    len: usize,
    keys: [u64; carryless::USUAL_WORDS],
}

/// Types of hashes of one family, as far as they are switched on, and their reports.
struct Family {
    addresses: HashReport,
    tcp: HashReport,
    udp: HashReport,
}

impl Family {
    /// Type of a packet with ports of `protocol`.
    fn with_ports(&self, protocol: Protocol) -> HashReport {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        }
    }
}

const V4: Family = Family {
    addresses: HashReport::Ipv4,
    tcp: HashReport::Tcpv4,
    udp: HashReport::Udpv4,
};
const V6: Family = Family {
    addresses: HashReport::Ipv6,
    tcp: HashReport::Tcpv6,
    udp: HashReport::Udpv6,
};
const V6_EX: Family = Family {
    addresses: HashReport::Ipv6Ex,
    tcp: HashReport::Tcpv6Ex,
    udp: HashReport::Udpv6Ex,
};

impl FrameHasher {
    /// Hashes packets of `types` with `key`. A key shorter than an input can reach goes on with
    /// zeros; what is longer than [`MAX_HASH_KEY_LEN`] is not used.
    #[must_use]
    pub fn new(types: HashTypes, key: &[u8]) -> Self {
        let toeplitz = Toeplitz::new(key);
        let usual = UsualFlow::KINDS.map(|(v6, protocol)| {
            let (family, addresses) = if v6 { (V6, 32) } else { (V4, 8) };
            let with_ports = family.with_ports(protocol);
            let (report, len) = if types.switched_on(with_ports) {
                (with_ports, addresses + 4)
            } else if types.switched_on(family.addresses) {
                (family.addresses, addresses)
            } else {
                (HashReport::None, 0)
            };
            let keys = toeplitz.usual_keys(len);
            UsualHash { report, len, keys }
        });
        Self {
            types,
            toeplitz,
            usual,
        }
    }

    /// Contributions of the upper and the lower half of each byte of an input to its hash, by their
    /// value: the hash is the exclusive or of all.
    #[must_use]
    pub fn contributions(&self) -> &[[[u32; 16]; 2]; MAX_HASH_INPUT_LEN] {
        self.toeplitz.rows()
    }

    /// Types of packets that are hashed.
    #[must_use]
    pub fn types(&self) -> HashTypes {
        self.types
    }

    /// The hash of a usual frame of `len` bytes that begins with `head`, whatever lies there behind
    /// its end; `None` for one that has to be looked at more closely.
    ///
    /// Addresses and ports of such a frame are one piece of it, in the order in which they are
    /// hashed. The less code there is, the less of it has gone from the cache since the frame
    /// before, with the system call between them.
    #[inline]
    pub(crate) fn hash_usual(&self, head: &[u8; USUAL_HEAD], len: usize) -> Option<FrameHash> {
        let UsualFlow { kind, v6, input } = UsualFlow::of(head, len)?;
        let UsualHash { report, len, keys } = &self.usual[kind];
        Some(FrameHash {
            value: self.toeplitz.hash_usual(keys, input, *len, v6),
            report: *report,
        })
    }

    /// The hash of a frame that begins with `head`, of which at most [`HASHED_HEAD`] bytes count
    /// (NET-MQ-13, NET-MQ-14).
    #[inline]
    #[must_use]
    pub fn hash(&self, head: &[u8]) -> FrameHash {
        let head = &head[..head.len().min(HASHED_HEAD)];
        let Some(flow) = Flow::of(head) else {
            return FrameHash::NONE;
        };
        match flow.addresses {
            Addresses::V4(addresses) => {
                let part = || self.toeplitz.part(0, addresses);
                self.first_of(V4, &flow, addresses.len(), part)
            }
            Addresses::V6(addresses) => self.hash_ipv6(&flow, addresses),
        }
    }

    fn hash_ipv6(&self, flow: &Flow<'_>, addresses: &[u8; 32]) -> FrameHash {
        if let Some(Extensions {
            source,
            destination,
        }) = flow.extensions
        {
            let (from, to) = addresses.split_at(16);
            let part = || {
                let from = source.map_or(from, |home| home);
                let to = destination.map_or(to, |home| home);
                self.toeplitz.part(0, from) ^ self.toeplitz.part(16, to)
            };
            let hash = self.first_of(V6_EX, flow, addresses.len(), part);
            if hash.report != HashReport::None {
                return hash;
            }
        }
        let part = || self.toeplitz.part(0, addresses);
        self.first_of(V6, flow, addresses.len(), part)
    }

    /// The first type of `family` that is switched on and fits; `addresses` is the part of the
    /// addresses, which have `len` bytes.
    #[inline]
    fn first_of(
        &self,
        family: Family,
        flow: &Flow<'_>,
        len: usize,
        addresses: impl FnOnce() -> u32,
    ) -> FrameHash {
        let ports = flow.ports.and_then(|(protocol, ports)| {
            let report = family.with_ports(protocol);
            self.types.switched_on(report).then_some((report, ports))
        });
        let (report, ports) = match ports {
            Some((report, ports)) => (report, self.toeplitz.part(len, ports)),
            None if self.types.switched_on(family.addresses) => (family.addresses, 0),
            None => return FrameHash::NONE,
        };
        FrameHash {
            value: addresses() ^ ports,
            report,
        }
    }
}
