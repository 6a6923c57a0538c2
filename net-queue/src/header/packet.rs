//! The headers of a frame, as far as offloads depend on them: Ethernet with its tags, IP, TCP and
//! UDP.
//!
//! Everything here reads a private copy of a frame's first bytes and answers `None` where they do
//! not say enough.

use super::checksum::Sum;
use super::ethertype;
use super::gso::{self, Segmented};
use super::net_hdr::{ETH_HDR_LEN, RawHdr};

/// First bytes of a frame in which all its headers lie: Ethernet, tags, IPv6 with extensions, TCP
/// with options.
pub(crate) const HEADERS: usize = 256;
/// VLAN tags that a frame of full size may have.
pub(crate) const MAX_TAGS: usize = 3;
/// Bytes of a VLAN tag.
pub(crate) const TAG_LEN: usize = 4;
/// Bytes of an Ethernet header with as many tags.
pub(crate) const LINK_HEADERS: usize = ETH_HDR_LEN as usize + MAX_TAGS * TAG_LEN;

/// The longest frame that is passed on: a full IP packet behind an Ethernet header with three VLAN
/// tags.
pub const MAX_FRAME: usize = 65535 + LINK_HEADERS;

/// EtherTypes of a VLAN tag: 802.1Q and 802.1ad.
const TAGS: [u16; 2] = [ethertype::VLAN, ethertype::SERVICE_VLAN];
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// IPv4's bit "more fragments", and the offset of a fragment.
pub(crate) const NOT_WHOLE: u16 = 0x3fff;
/// IPv6 extension headers in front of a transport header: hop-by-hop options, routing,
/// destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// The 16-bit word at `at`, as packets have it.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Bytes of the Ethernet header and its tags, at most [`MAX_TAGS`] of them.
#[inline]
pub(crate) fn link_len(head: &[u8]) -> usize {
    let mut len = ETH_HDR_LEN as usize;
    while len < LINK_HEADERS && word(head, len - 2).is_some_and(|kind| TAGS.contains(&kind)) {
        len += TAG_LEN;
    }
    len
}

/// Type of what follows the Ethernet header and its tags.
pub(crate) fn ethertype(head: &[u8]) -> Option<u16> {
    word(head, link_len(head) - 2)
}

/// Version of the Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The headers of a TCP or UDP packet in its frame: where each begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Version of its IP header.
    pub(crate) family: Family,
    /// True if it is TCP; UDP if not.
    pub(crate) tcp: bool,
    /// True if IPv4 says that it is a fragment: what looks like a transport header may be none
    /// then.
    pub(crate) fragment: bool,
    /// Offset of the IP header: bytes of Ethernet and its tags.
    pub(crate) ip: usize,
    /// Offset of the transport header, behind options and extension headers.
    pub(crate) transport: usize,
    /// Offset behind the transport header and its options.
    pub(crate) payload: usize,
}

impl Packet {
    /// Finds the headers in `head`, the first bytes of a frame; all of them lie in it. No length
    /// that they say is compared with the frame's.
    #[inline]
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let ip = link_len(head);
        let (family, protocol, transport) = match word(head, ip - 2)? {
            ethertype::IPV4 => ipv4(head, ip)?,
            ethertype::IPV6 => ipv6(head, ip)?,
            _ => return None,
        };
        let header = match protocol {
            TCP => usize::from(head.get(transport + 12)? >> 4) * 4,
            _ => 8,
        };
        let least = if protocol == TCP { 20 } else { 8 };
        let payload = transport + header;
        if header < least || payload > head.len() {
            return None;
        }
        Some(Self {
            family,
            tcp: protocol == TCP,
            fragment: family == Family::V4 && word(head, ip + 6)? & NOT_WHOLE != 0,
            ip,
            transport,
            payload,
        })
    }

    /// Returns whether a frame that is to be cut into packets as `gso_type` can have these headers.
    pub(crate) fn is_of_gso_type(&self, gso_type: u8) -> bool {
        match gso_type & !gso::ECN {
            gso::TCPV4 => self.tcp && self.family == Family::V4,
            gso::TCPV6 => self.tcp && self.family == Family::V6,
            gso::UDP_L4 => !self.tcp,
            _ => false,
        }
    }

    /// Number of its transport protocol.
    pub(crate) fn protocol(&self) -> u8 {
        if self.tcp { TCP } else { UDP }
    }

    /// Offset of the transport header's checksum within it.
    pub(crate) fn csum_offset(&self) -> u16 {
        if self.tcp { 16 } else { 6 }
    }

    /// Sum of the pseudo header of a transport header and payload of `len` bytes, from the
    /// addresses in `head`.
    pub(crate) fn pseudo(&self, head: &[u8], len: u32) -> Sum {
        let addresses = match self.family {
            Family::V4 => self.ip + 12..self.ip + 20,
            Family::V6 => self.ip + 8..self.ip + 40,
        };
        let mut sum = Sum::default();
        sum.add(head.get(addresses).unwrap_or_default());
        sum.add(&[0, self.protocol()]);
        sum.add(&len.to_be_bytes());
        sum
    }
}

/// Place of the checksum of a frame's transport header, and the start of its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    /// Offset of the transport header.
    pub(crate) start: usize,
    /// Offset behind it, within the frame.
    pub(crate) end: usize,
    /// Offset of the checksum from `start`.
    pub(crate) csum_offset: u16,
    /// Sum of the pseudo header, as a partial checksum holds it.
    pub(crate) pseudo: [u8; 2],
}

impl Transport {
    /// The header `raw` with a partial checksum that stands where this says.
    pub(crate) fn make_partial(&self, raw: RawHdr) -> RawHdr {
        raw.with_partial_csum(self.end as u16, self.start as u16, self.csum_offset)
    }

    /// Offset of the checksum.
    pub(crate) fn field(&self) -> usize {
        self.start + usize::from(self.csum_offset)
    }

    /// Finds it in `head`, the first bytes of a frame of `len`, which is to be segmented as
    /// `gso_type`.
    ///
    /// Like Linux, this does not look whether IP says that the packet is a fragment.
    pub(crate) fn of(head: &[u8], len: usize, gso_type: u8) -> Option<Self> {
        let row = Segmented::of(gso_type).ok()??;
        let packet = Packet::of(head)?;
        let family = match gso_type & !gso::ECN {
            gso::TCPV4 => Family::V4,
            gso::TCPV6 => Family::V6,
            _ => packet.family,
        };
        let segment = len.checked_sub(packet.transport)?;
        // The kernel takes UDP's own length for the sum's; with another one each piece would be
        // wrong.
        let agrees = row.tcp || usize::from(word(head, packet.transport + 4)?) == segment;
        if !agrees || row.tcp != packet.tcp || family != packet.family || packet.payload > len {
            return None;
        }
        Some(Self {
            start: packet.transport,
            end: packet.payload,
            csum_offset: packet.csum_offset(),
            pseudo: packet.pseudo(head, u32::try_from(segment).ok()?).partial(),
        })
    }
}

/// Protocol and offset of the transport header.
#[inline]
fn ipv4(head: &[u8], at: usize) -> Option<(Family, u8, usize)> {
    let header = head.get(at..at + 20)?;
    let len = usize::from(header[0] & 15) * 4;
    let usable = header[0] >> 4 == 4 && len >= 20 && matches!(header[9], TCP | UDP);
    usable.then_some((Family::V4, header[9], at + len))
}

/// The same behind extension headers.
#[inline]
fn ipv6(head: &[u8], at: usize) -> Option<(Family, u8, usize)> {
    let header = head.get(at..at + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (mut next, mut start) = (header[6], at + 40);
    while !matches!(next, TCP | UDP) {
        let extension = head.get(start..start + 4)?;
        match next {
            HOP_BY_HOP | DESTINATION => {}
            // With segments left its sum is over another address than the header's.
            ROUTING if extension[3] == 0 => {}
            _ => return None,
        }
        next = extension[0];
        start += (usize::from(extension[1]) + 1) * 8;
    }
    Some((Family::V6, next, start))
}

#[cfg(test)]
mod tests;
