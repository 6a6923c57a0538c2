//! Segmentation in software: cuts a large frame by the rules of the kernel's own cutting.
//!
//! The whole frame lies in private memory. Each segment is formed in place: its headers are
//! written right in front of its part of the payload, over the end of the segment before, which is
//! gone by then. So a segment is one run of bytes, and nothing of the payload is moved.
//!
//! ```text
//!   | headers | payload 0 | payload 1 | payload 2 |     the frame
//!             | ..headers | payload 1 |                 its second segment
//! ```
//!
//! Fields of a segment's headers:
//!
//! | field | value | because |
//! |---|---|---|
//! | Ethernet, VLAN tags, options, extension headers, ports, ACK, window | as they are | they hold for every byte of the frame |
//! | IPv4 identification | one more than the segment before | with DF, too, like Linux: receivers that merge again expect it |
//! | IPv4 total length, IPv6 payload length, UDP length | the segment's | |
//! | IPv4 header checksum | computed | |
//! | TCP sequence | moved on by the payload before | |
//! | TCP CWR | in the first alone | the sender reduced its window once (RFC 3168) |
//! | TCP FIN, PSH | in the last alone | they stand behind the last byte |
//! | other TCP flags | as they are | ECE, URG with its pointer: as Linux |
//! | TCP or UDP checksum | partial: the sum moved on by the change of the length; or complete | |
//!
//! Lengths that the headers say are not believed: the frame's own length is what is cut, as the
//! kernel does. IP fragmentation (UFO) is not done here.

use crate::header::checksum::{self, Sum};
use crate::header::group::{LAST_ONLY, TCP_FLAGS};
use crate::header::packet::{Family, HEADERS, Packet};
use crate::header::{HdrError, NetHdr};

/// Bytes of the IPv6 header, which its payload length does not count.
const IPV6_HEADER: usize = 40;
/// The flag of TCP that only the first segment keeps.
const CWR: u8 = 0x80;

/// State in which a segment leaves its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// The field holds the sum of the pseudo header (`NEEDS_CSUM`).
    Partial,
    /// The field holds the checksum.
    Complete,
}

/// A frame that is being cut, and the segment that is next.
#[derive(Clone, Debug)]
pub(crate) struct Segmenter {
    /// The frame's own headers: where they lay others are written.
    headers: [u8; HEADERS],
    packet: Packet,
    header: NetHdr,
    /// Bytes of the frame.
    len: usize,
    /// Segments in all, and of those the one that is next.
    count: usize,
    index: usize,
}

impl Segmenter {
    /// Begins to cut `frame` as its checked `header` says.
    ///
    /// # Errors
    /// The frame's headers are not those that the header says, or cannot be those of a segment.
    pub(crate) fn new(frame: &[u8], header: NetHdr) -> Result<Self, HdrError> {
        let head = &frame[..frame.len().min(HEADERS)];
        let packet = Packet::of(head).ok_or(HdrError::GsoHeaders)?;
        let fits = packet.is_of_gso_type(header.gso_type())
            && packet.transport == usize::from(header.csum_start());
        if !fits {
            return Err(HdrError::GsoHeaders);
        }
        let payload = frame.len() - packet.payload;
        let size = usize::from(header.gso_size());
        let longest = packet.payload - packet.ip + payload.min(size);
        if size == 0 || longest > usize::from(u16::MAX) {
            return Err(HdrError::GsoSize);
        }
        let mut headers = [0; HEADERS];
        headers[..head.len()].copy_from_slice(head);
        Ok(Self {
            headers,
            packet,
            header,
            len: frame.len(),
            // What has no payload is still one packet.
            count: payload.div_ceil(size).max(1),
            index: 0,
        })
    }

    /// Header of the frame, and its bytes.
    pub(crate) fn frame(&self) -> (NetHdr, usize) {
        (self.header, self.len)
    }

    /// Segments that are left.
    pub(crate) fn remaining(&self) -> usize {
        self.count - self.index
    }

    /// First bytes of each segment: as many as the headers have up to the transport's.
    pub(crate) fn head(&self) -> &[u8] {
        &self.headers[..self.packet.transport]
    }

    /// All headers of the frame.
    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers[..self.packet.payload]
    }

    /// Bytes of Ethernet and its tags.
    pub(crate) fn link_len(&self) -> usize {
        self.packet.ip
    }

    /// Bytes of the segment that is next.
    pub(crate) fn segment_len(&self) -> usize {
        self.packet.payload + self.payload().len()
    }

    /// Goes on to the one behind it.
    pub(crate) fn advance(&mut self) {
        self.index += 1;
    }

    /// The part of the frame that is the payload of the next segment.
    fn payload(&self) -> std::ops::Range<usize> {
        let size = usize::from(self.header.gso_size());
        let start = self.packet.payload + self.index * size;
        start.min(self.len)..(start + size).min(self.len)
    }

    /// Forms the next segment in `frame`; says where in it the segment begins, and its header. To
    /// form it again changes nothing.
    pub(crate) fn form(&self, frame: &mut [u8], checksum: Checksum) -> (usize, NetHdr) {
        let Packet {
            family,
            ip,
            transport,
            payload: headers,
            ..
        } = self.packet;
        let payload = self.payload();
        let start = payload.start - headers;
        let segment = &mut frame[start..payload.end];
        segment[..headers].copy_from_slice(&self.headers[..headers]);
        match family {
            Family::V4 => self.form_ipv4(&mut segment[ip..transport], headers + payload.len() - ip),
            Family::V6 => put(
                &mut segment[ip..],
                4,
                headers + payload.len() - ip - IPV6_HEADER,
            ),
        }
        self.form_transport(&mut segment[transport..], checksum);
        let header = match checksum {
            Checksum::Partial => self.header.without_gso(),
            Checksum::Complete => self.header.without_offloads(),
        };
        (start, header)
    }

    fn form_ipv4(&self, header: &mut [u8], len: usize) {
        put(header, 2, len);
        put(header, 4, usize::from(word(header, 4)) + self.index);
        put(header, 10, 0);
        let mut sum = Sum::default();
        sum.add(header);
        header[10..12].copy_from_slice(&sum.complement());
    }

    fn form_transport(&self, bytes: &mut [u8], checksum: Checksum) {
        // The length that the sum of the pseudo header was formed with: as the kernel has it.
        let (before, field) = if self.packet.tcp {
            let before = self.index * usize::from(self.header.gso_size());
            let sequence = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let sequence = sequence.wrapping_add(before as u32);
            bytes[4..8].copy_from_slice(&sequence.to_be_bytes());
            if self.index > 0 {
                bytes[TCP_FLAGS] &= !CWR;
            }
            if self.remaining() > 1 {
                bytes[TCP_FLAGS] &= !LAST_ONLY;
            }
            (self.len - self.packet.transport, 16)
        } else {
            let before = word(bytes, 4);
            put(bytes, 4, bytes.len());
            (usize::from(before), 6)
        };
        let pseudo = checksum::moved(word(bytes, field), before as u32, bytes.len() as u32);
        bytes[field..field + 2].copy_from_slice(&pseudo);
        if checksum == Checksum::Complete {
            let mut sum = Sum::default();
            sum.add(bytes);
            let sum = if self.packet.tcp {
                sum.complement()
            } else {
                sum.checksum()
            };
            bytes[field..field + 2].copy_from_slice(&sum);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Stores the low 16 bits of `value`.
fn put(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

#[cfg(test)]
mod tests;
