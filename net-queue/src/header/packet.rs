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
const TCP: u8 = 6;
const UDP: u8 = 17;
/// IPv6 extension headers in front of a transport header: hop-by-hop options, routing, destination
/// options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Bytes of the Ethernet header and its tags, at most [`MAX_TAGS`] of them.
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
        let protocol = if row.tcp { TCP } else { UDP };
        let at = link_len(head);
        let (start, addresses) = match (ethertype(head)?, gso_type & !gso::ECN) {
            (ethertype::IPV4, gso::TCPV6) | (ethertype::IPV6, gso::TCPV4) => return None,
            (ethertype::IPV4, _) => ipv4(head, at, protocol)?,
            (ethertype::IPV6, _) => ipv6(head, at, protocol)?,
            _ => return None,
        };
        let segment = len.checked_sub(start)?;
        let (header, least) = if row.tcp {
            (usize::from(head.get(start + 12)? >> 4) * 4, 20)
        } else {
            (8, 8)
        };
        // The kernel takes UDP's own length for the sum's; with another one each piece would be
        // wrong.
        let agrees = row.tcp || usize::from(word(head, start + 4)?) == segment;
        if !agrees || header < least || header > segment || start + header > head.len() {
            return None;
        }
        let mut sum = Sum::default();
        sum.add(addresses);
        sum.add(&[0, protocol]);
        sum.add(&u32::try_from(segment).ok()?.to_be_bytes());
        Some(Self {
            start,
            end: start + header,
            csum_offset: row.csum_offset,
            pseudo: sum.partial(),
        })
    }
}

/// Offset of the transport header of `protocol`, and the addresses.
fn ipv4(head: &[u8], at: usize, protocol: u8) -> Option<(usize, &[u8])> {
    let header = head.get(at..at + 20)?;
    let len = usize::from(header[0] & 15) * 4;
    let usable = header[0] >> 4 == 4 && len >= 20 && header[9] == protocol;
    usable.then_some((at + len, &header[12..20]))
}

/// The same behind extension headers.
fn ipv6(head: &[u8], at: usize, protocol: u8) -> Option<(usize, &[u8])> {
    let header = head.get(at..at + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (mut next, mut start) = (header[6], at + 40);
    while next != protocol {
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
    Some((start, &header[8..40]))
}

#[cfg(test)]
mod tests;
