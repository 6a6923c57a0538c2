//! Hashes of usual packets: TCP and UDP without VLAN tags, options, extension headers and
//! fragments, on a processor that multiplies without carries.
//!
//! Addresses and ports of such a packet are one piece of it, in the order in which they are hashed,
//! and all that is needed to hash one kind is in one line of the cache. The less code and data
//! there is, the less of it has gone from the cache since the frame before, with the system call
//! between them.

use super::carryless::Multiplier;
use super::toeplitz::KEY;
use super::types::{FrameHash, HashTypes, V4, V6};
use super::usual_flow::{USUAL_HEAD, UsualFlow, UsualKind, UsualKinds};

/// Hashes usual packets of all kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsualHasher {
    multiplier: Multiplier,
    kinds: UsualKinds,
}

impl UsualHasher {
    /// Hashes packets of `types` with `key`; `None` where the processor does not multiply so.
    pub(super) fn new(types: HashTypes, key: &[u8; KEY]) -> Option<Self> {
        let kind = |(v6, protocol)| {
            let family = if v6 { V6 } else { V4 };
            let with_ports = family.with_ports(protocol);
            let (report, ports) = if types.switched_on(with_ports) {
                (with_ports, u64::MAX)
            } else if types.switched_on(family.addresses) {
                (family.addresses, 0)
            } else {
                return UsualKind::default();
            };
            let mut usual = UsualKind {
                ports,
                report,
                ..UsualKind::default()
            };
            let mut carry = 0;
            let bytes = key.iter().chain(&[0]);
            for (shifted, byte) in usual.key.as_flattened_mut().iter_mut().zip(bytes) {
                let reversed = byte.reverse_bits();
                *shifted = reversed << 1 | carry;
                carry = reversed >> 7;
            }
            usual
        };
        Some(Self {
            multiplier: Multiplier::detect()?,
            kinds: UsualFlow::KINDS.map(kind),
        })
    }

    /// The hash of a frame of `len` bytes that begins with `head`, whatever lies there behind its
    /// end; `None` unless it is a usual one.
    #[inline]
    pub(super) fn hash(&self, head: &[u8; USUAL_HEAD], len: usize) -> Option<FrameHash> {
        self.multiplier.hash_usual(&self.kinds, head, len)
    }
}
