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
mod types;
mod usual;
mod usual_flow;

use flow::{Addresses, Extensions, Flow};
use toeplitz::Toeplitz;
use types::{Family, V4, V6, V6_EX};
pub use types::{FrameHash, HashReport, HashTypes};
use usual::UsualHasher;
pub(crate) use usual_flow::USUAL_HEAD;

#[cfg(test)]
mod tests;

/// Longest key in bytes: what the longest input can reach (NET-CFG-10).
pub const MAX_HASH_KEY_LEN: usize = toeplitz::KEY;

/// Longest input of a hash in bytes: two IPv6 addresses and two ports.
pub const MAX_HASH_INPUT_LEN: usize = toeplitz::INPUT;

/// First bytes of a frame that are looked at: Ethernet, tags, IPv6 with extensions, ports. A packet
/// whose transport header lies beyond them is hashed as one without.
pub const HASHED_HEAD: usize = crate::header::packet::HEADERS;

/// Hash parameters of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHasher {
    types: HashTypes,
    toeplitz: Toeplitz,
    /// Hasher of usual packets, on a processor that multiplies without carries.
    usual: Option<UsualHasher>,
}

/// The part of `key` that inputs can reach, which goes on with zeros.
fn reached(key: &[u8]) -> [u8; MAX_HASH_KEY_LEN] {
    let mut reached = [0; MAX_HASH_KEY_LEN];
    for (byte, from) in reached.iter_mut().zip(key) {
        *byte = *from;
    }
    reached
}

impl FrameHasher {
    /// Hashes packets of `types` with `key`. A key shorter than an input can reach goes on with
    /// zeros; what is longer than [`MAX_HASH_KEY_LEN`] is not used.
    #[must_use]
    pub fn new(types: HashTypes, key: &[u8]) -> Self {
        let key = reached(key);
        Self {
            types,
            toeplitz: Toeplitz::new(&key),
            usual: UsualHasher::new(types, &key),
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
    #[inline]
    pub(crate) fn hash_usual(&self, head: &[u8; USUAL_HEAD], len: usize) -> Option<FrameHash> {
        self.usual.as_ref()?.hash(head, len)
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
