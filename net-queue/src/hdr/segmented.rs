//! What segmentation asks of a header. VirtIO 1.4 §5.1.9.2.1.

use super::{HdrError, MAX_GSO_SEGMENTS, MIN_L4_START, NetHdr, gso};
use crate::offload::Offloads;

/// Bytes of Ethernet and the IPv6 header.
const MIN_L4_START_V6: u16 = 14 + 40;
/// Linux reads this segment size as "segment by fragments" and refuses it from outside.
const GSO_BY_FRAGS: u16 = 0xffff;

/// What a GSO type says about its frame.
#[derive(Clone, Copy)]
pub(super) struct Segmented {
    /// Any of these has to be on.
    any_of: Offloads,
    /// Lowest offset of the transport header.
    min_start: u16,
    /// Bytes of the shortest transport header.
    l4_len: u16,
    /// Where that header keeps its checksum.
    csum_offset: u16,
    /// Whether the ECN bit means something.
    tcp: bool,
}

impl Segmented {
    const TCPV4: Self = Self {
        any_of: Offloads::TSO4,
        min_start: MIN_L4_START,
        l4_len: 20,
        csum_offset: 16,
        tcp: true,
    };
    const TCPV6: Self = Self {
        any_of: Offloads::TSO6,
        min_start: MIN_L4_START_V6,
        ..Self::TCPV4
    };
    const UFO: Self = Self {
        any_of: Offloads::UFO,
        min_start: MIN_L4_START,
        l4_len: 8,
        csum_offset: 6,
        tcp: false,
    };
    /// One type for both families: either bit permits it (NET-HDR-21).
    const USO: Self = Self {
        any_of: Offloads::USO4.union(Offloads::USO6),
        ..Self::UFO
    };

    pub(super) fn of(gso_type: u8) -> Result<Option<Self>, HdrError> {
        match gso_type & !gso::ECN {
            gso::NONE if gso_type == gso::NONE => Ok(None),
            gso::TCPV4 => Ok(Some(Self::TCPV4)),
            gso::TCPV6 => Ok(Some(Self::TCPV6)),
            gso::UDP => Ok(Some(Self::UFO)),
            gso::UDP_L4 => Ok(Some(Self::USO)),
            _ => Err(HdrError::GsoUnknown),
        }
    }

    pub(super) fn allowed(self, gso_type: u8, on: Offloads) -> bool {
        let ecn_ok = gso_type & gso::ECN == 0 || (self.tcp && on.contains(Offloads::ECN));
        on.intersects(self.any_of) && ecn_ok
    }

    pub(super) fn check(self, raw: NetHdr, frame_len: u32) -> Result<(), HdrError> {
        let (size, start, offset) = (raw.gso_size(), raw.csum_start(), raw.csum_offset());
        if size == 0 || size == GSO_BY_FRAGS {
            return Err(HdrError::GsoSize);
        }
        if u64::from(frame_len) > u64::from(size) * u64::from(MAX_GSO_SEGMENTS) {
            return Err(HdrError::GsoSegments);
        }
        let headers = u32::from(start) + u32::from(self.l4_len);
        if start < self.min_start || offset != self.csum_offset || headers > frame_len {
            return Err(HdrError::GsoHeaders);
        }
        Ok(())
    }
}
