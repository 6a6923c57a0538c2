//! Frames of one flow in the shape of one large frame, and each of them again.
//!
//! A group is a frame like those that a driver leaves to be segmented: the headers once, then the
//! payloads, and a partial checksum. Cut at the length of the first payload it is the frames that
//! were put into it, by [`Group::restore`] as by the kernel.

use std::ops::Range;

use super::checksum::Sum;
use super::gso;
use super::net_hdr::NetHdr;
use super::packet::{Family, Packet, word};

/// Offset of the flags in a TCP header, and those that only the last segment has.
pub(crate) const TCP_FLAGS: usize = 13;
/// `FIN`, 0x01, and `PSH`, 0x08.
pub(crate) const LAST_ONLY: u8 = 0x09;
/// Offset of the sequence number in a TCP header.
pub(crate) const TCP_SEQ: usize = 4;

/// A group of frames that were put together: its headers, and where its payloads begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Places of its headers.
    pub(crate) packet: Packet,
    /// Bytes of each payload but the last, which may be shorter.
    pub(crate) size: usize,
    /// Number of frames.
    pub(crate) frames: usize,
    /// Difference of the IPv4 identification of a frame and the next.
    pub(crate) id_step: u16,
}

impl Group {
    /// The virtio-net header of the group: to be segmented, with a partial checksum.
    pub(crate) fn header(&self) -> NetHdr {
        let gso_type = match (self.packet.tcp, self.packet.family) {
            (true, Family::V4) => gso::TCPV4,
            (true, Family::V6) => gso::TCPV6,
            (false, _) => gso::UDP_L4,
        };
        partial(&self.packet).segmented(gso_type, self.packet.payload as u16, self.size as u16)
    }

    /// Writes the lengths and sums of a packet into `frame`, which is whole, and leaves its
    /// transport checksum partial.
    pub(crate) fn seal(&self, frame: &mut [u8]) {
        set_lengths(&self.packet, frame);
    }

    /// Place of the payload of frame `index` in a group whose frame has `len` bytes.
    pub(crate) fn payload(&self, index: usize, len: usize) -> Range<usize> {
        let start = (self.packet.payload + index * self.size).min(len);
        start..(start + self.size).min(len)
    }

    /// Makes `frame`, which has the group's headers and the payload of frame `index`, that frame;
    /// returns its virtio-net header. Its checksum is partial.
    pub(crate) fn restore(&self, index: usize, frame: &mut [u8]) -> NetHdr {
        let (packet, step) = (&self.packet, index as u32);
        if packet.family == Family::V4 {
            let id = packet.ip + 4;
            let first = word(frame, id).unwrap_or(0);
            put(
                frame,
                id,
                first.wrapping_add(self.id_step.wrapping_mul(index as u16)),
            );
        }
        if packet.tcp {
            let seq = packet.transport + TCP_SEQ;
            if let Some(bytes) = frame.get_mut(seq..).and_then(|rest| rest.first_chunk_mut()) {
                let first = u32::from_be_bytes(*bytes);
                *bytes = first.wrapping_add(step * self.size as u32).to_be_bytes();
            }
            if index + 1 < self.frames
                && let Some(flags) = frame.get_mut(packet.transport + TCP_FLAGS)
            {
                *flags &= !LAST_ONLY;
            }
        }
        set_lengths(packet, frame);
        partial(packet)
    }

    /// The same with the virtio-net header of `header` bytes in front of the frame; nothing if that
    /// was cut within its headers.
    pub(crate) fn restore_behind(&self, index: usize, bytes: &mut [u8], header: usize) {
        let Some((front, frame)) = bytes.split_at_mut_checked(header) else {
            return;
        };
        if frame.len() < self.packet.payload {
            return;
        }
        let restored = self.restore(index, frame);
        restored.write_to(front);
    }
}

/// The header of a frame whose one checksum is partial.
fn partial(packet: &Packet) -> NetHdr {
    NetHdr::partial(packet.transport as u16, packet.csum_offset())
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(bytes) = frame.get_mut(at..at + 2) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
}

/// Writes what depends on the length of `frame` into its headers: lengths, the checksum of an IPv4
/// header, the pseudo header's sum.
fn set_lengths(packet: &Packet, frame: &mut [u8]) {
    let segment = frame.len() - packet.transport;
    match packet.family {
        Family::V4 => {
            put(frame, packet.ip + 2, (frame.len() - packet.ip) as u16);
            put(frame, packet.ip + 10, 0);
            let sum = !ipv4_sum(packet, frame);
            put(frame, packet.ip + 10, sum);
        }
        Family::V6 => put(frame, packet.ip + 4, (frame.len() - packet.ip - 40) as u16),
    }
    if !packet.tcp {
        put(frame, packet.transport + 4, segment as u16);
    }
    let pseudo = packet.pseudo(frame, segment as u32).partial();
    let field = packet.transport + usize::from(packet.csum_offset());
    put(frame, field, u16::from_be_bytes(pseudo));
}

/// Folded sum of the IPv4 header with all its options.
pub(crate) fn ipv4_sum(packet: &Packet, frame: &[u8]) -> u16 {
    let mut sum = Sum::default();
    sum.add(frame.get(packet.ip..packet.transport).unwrap_or_default());
    u16::from_be_bytes(sum.partial())
}
