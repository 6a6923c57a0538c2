//! The rules for what a header may ask for: one row for each GSO type.
//!
//! A header passes unless a line below says otherwise. The lines come from the clauses of VirtIO
//! 1.4 §5.1.9.2.1 and §5.1.9.4.1, and from what Linux's tap and Linux's driver accept; where this
//! side is stricter than both, the line says why. "Transmit" and "receive" are the device's
//! directions.
//!
//! | flags | gso_type | becomes | because |
//! |---|---|---|---|
//! | any, `NEEDS_CSUM` clear | none | passes, all fields cleared | NET-HDR-02: unused fields mean nothing |
//! | `DATA_VALID` | none | transmit: cleared; receive: passes to a driver with `GUEST_CSUM` | NET-HDR-04, NET-HDR-20 |
//! | `NEEDS_CSUM` | none | passes | NET-HDR-03 |
//! | `NEEDS_CSUM` without the feature | none | transmit: [`CsumNotNegotiated`]; receive: completed | NET-HDR-06, NET-HDR-20 |
//! | `NEEDS_CSUM`, fields outside | any | [`CsumRange`] | NET-HDR-05: the kernel refuses it, too |
//! | any | 2, 6..31, ECN alone | [`GsoUnknown`] | NET-HDR-10: undefined |
//! | any | a tunnel bit | as `header/tunnel.rs` says | |
//! | any | a row without its feature | [`GsoNotNegotiated`] | NET-HDR-10, NET-HDR-21 |
//! | any | ECN bit without its feature | [`GsoNotNegotiated`] | NET-HDR-11, NET-HDR-25 |
//! | any | ECN bit on UDP | [`GsoNotNegotiated`] | the bit is defined for TCP alone |
//! | `NEEDS_CSUM` clear (0, `DATA_VALID`) | a row | completed to `NEEDS_CSUM` | a router hands on what another card verified; the kernel takes it for TCP, a driver and UDP need `NEEDS_CSUM` (NET-HDR-22) |
//! | the same, headers not those of the row | a row | [`GsoWithoutCsum`] | the kernel refuses it, too: nobody can say where the checksum is |
//! | `NEEDS_CSUM`, another `csum_offset` | a row | [`GsoHeaders`] | the kernel refuses it (of UFO it does not look; no driver may set another one) |
//! | `NEEDS_CSUM`, headers beyond the frame | a row | [`GsoHeaders`] | the kernel refuses it, too |
//! | any, size 0 or 0xffff | a row | [`GsoSize`] | the kernel refuses it, too |
//! | any, too many segments | a row | [`GsoSegments`] | UDP: the kernel's limit; others: work without bound (NET-HDR-11) |
//! | any | `UDP_L4` of a family that is off (receive) | [`GsoFamily`] | one type, two features: the EtherType tells (NET-HDR-21) |
//!
//! On receive a frame is cut into segments instead ([`GsoNotNegotiated`], [`GsoFamily`]), unless
//! it is UFO, or its headers are not those of its row: `engine/segment`.
//!
//! VLAN tags change none of this: they only move the headers, and offsets count from the frame's
//! first byte. The EtherType behind them is not compared with a TCP type whose checksum fields are
//! there: neither does the kernel, and the type alone says which driver may see it.
//!
//! [`CsumNotNegotiated`]: HdrError::CsumNotNegotiated
//! [`CsumRange`]: HdrError::CsumRange
//! [`GsoUnknown`]: HdrError::GsoUnknown
//! [`GsoNotNegotiated`]: HdrError::GsoNotNegotiated
//! [`GsoWithoutCsum`]: HdrError::GsoWithoutCsum
//! [`GsoHeaders`]: HdrError::GsoHeaders
//! [`GsoSize`]: HdrError::GsoSize
//! [`GsoSegments`]: HdrError::GsoSegments
//! [`GsoFamily`]: HdrError::GsoFamily

use super::error::HdrError;
use super::net_hdr::NetHdr;
use crate::offload::Offloads;

/// Not to be segmented.
pub const NONE: u8 = 0;
/// TCP over IPv4.
pub const TCPV4: u8 = 1;
/// UDP, to be fragmented at the IP level.
pub const UDP: u8 = 3;
/// TCP over IPv6.
pub const TCPV6: u8 = 4;
/// UDP, to be cut into datagrams.
pub const UDP_L4: u8 = 5;
/// Bit: the packet to be segmented is inside a tunnel over UDP and IPv4.
pub const UDP_TUNNEL_IPV4: u8 = 0x20;
/// Bit: the same over UDP and IPv6.
pub const UDP_TUNNEL_IPV6: u8 = 0x40;
/// Bits: either.
pub(crate) const UDP_TUNNEL: u8 = 0x60;
/// Bit: the TCP frame carries congestion marks.
pub const ECN: u8 = 0x80;
/// Bits that stand beside the type: `UDP_TUNNEL` and `ECN`.
pub(super) const BESIDE_TYPE: u8 = 0xe0;

/// Most segments that one frame may ask for (NET-HDR-11).
///
/// The smallest segment Linux TCP sends carries 36 bytes (MSS 48 less timestamps), which needs
/// 1820 segments for 64 KiB; a driver that asks for more only wants work done for nothing.
pub const MAX_GSO_SEGMENTS: u32 = 2048;
/// Most datagrams that one frame may become: Linux takes no more (NET-HDR-11).
pub const MAX_UDP_SEGMENTS: u32 = 128;

/// Bytes of Ethernet and the shortest IPv4 header: the kernel allows less, and could segment none
/// of it.
const MIN_L4_START_V4: u16 = 14 + 20;
/// Bytes of Ethernet and the IPv6 header.
const MIN_L4_START_V6: u16 = 14 + 40;
/// Linux reads this segment size as "segment by fragments" and refuses it from outside.
const GSO_BY_FRAGS: u16 = 0xffff;

/// Row of the table: what a GSO type says about its frame.
#[derive(Clone, Copy)]
pub(crate) struct Segmented {
    /// Any of these has to be on.
    any_of: Offloads,
    /// Lowest offset of the transport header.
    min_start: u16,
    /// Bytes of the shortest transport header.
    l4_len: u16,
    /// Offset of the checksum in that header.
    pub(crate) csum_offset: u16,
    /// True if it is TCP, for which alone the ECN bit means something; UDP if not.
    pub(crate) tcp: bool,
    /// Most segments that the frame may become.
    most: u32,
}

impl Segmented {
    const TCPV4: Self = Self {
        any_of: Offloads::TSO4,
        min_start: MIN_L4_START_V4,
        l4_len: 20,
        csum_offset: 16,
        tcp: true,
        most: MAX_GSO_SEGMENTS,
    };
    const TCPV6: Self = Self {
        any_of: Offloads::TSO6,
        min_start: MIN_L4_START_V6,
        ..Self::TCPV4
    };
    /// Both families behind one feature.
    const UFO: Self = Self {
        any_of: Offloads::UFO,
        min_start: MIN_L4_START_V4,
        l4_len: 8,
        csum_offset: 6,
        tcp: false,
        most: MAX_GSO_SEGMENTS,
    };
    /// One type for both families: either bit permits it (NET-HDR-21), the EtherType tells which it
    /// must be.
    const USO: Self = Self {
        any_of: Offloads::USO4.union(Offloads::USO6),
        most: MAX_UDP_SEGMENTS,
        ..Self::UFO
    };

    pub(crate) fn of(gso_type: u8) -> Result<Option<Self>, HdrError> {
        match gso_type & !ECN {
            NONE if gso_type == NONE => Ok(None),
            TCPV4 => Ok(Some(Self::TCPV4)),
            TCPV6 => Ok(Some(Self::TCPV6)),
            UDP => Ok(Some(Self::UFO)),
            UDP_L4 => Ok(Some(Self::USO)),
            _ => Err(HdrError::GsoUnknown),
        }
    }

    pub(super) fn allowed(self, gso_type: u8, on: Offloads) -> bool {
        let ecn_ok = gso_type & ECN == 0 || (self.tcp && on.contains(Offloads::ECN));
        on.intersects(self.any_of) && ecn_ok
    }

    pub(super) fn check(self, raw: NetHdr, frame_len: u32) -> Result<(), HdrError> {
        let (size, start, offset) = (raw.gso_size(), raw.csum_start(), raw.csum_offset());
        if size == 0 || size == GSO_BY_FRAGS {
            return Err(HdrError::GsoSize);
        }
        let headers = u32::from(start) + u32::from(self.l4_len);
        if start < self.min_start || offset != self.csum_offset || headers > frame_len {
            return Err(HdrError::GsoHeaders);
        }
        // Of TCP nobody knows here how long its header is.
        let payload = if self.tcp {
            frame_len
        } else {
            frame_len - headers
        };
        if u64::from(payload) > u64::from(size) * u64::from(self.most) {
            return Err(HdrError::GsoSegments);
        }
        Ok(())
    }
}
