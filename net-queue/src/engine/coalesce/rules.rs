//! The rules for which frames leave as one: all of them, and why.
//!
//! Frames merge when the kernel, or a card, that cuts the group again makes the same frames of it.
//! A frame that a line excludes is sent by itself, behind the open group of its flow.
//!
//! | a group never holds | because |
//! |---|---|
//! | other protocols, tunnels, fragments, IPv4 options, IPv6 extensions | they are not cut, or not as they were |
//! | frames that the driver left to be segmented, or above [`COPYBREAK`] | they are large: copying costs what a call does |
//! | a length in IP or UDP that is not the frame's (padding, too) | each piece gets lengths that fit |
//! | an IPv4 header whose checksum is wrong | each piece gets one that is right |
//! | a complete checksum that is wrong, or 0, or 0xffff | each piece gets one that is right, and UDP over IPv4 without one would get one; zero has two forms |
//! | a partial checksum that does not start from the pseudo header's sum, or elsewhere | the same |
//! | TCP without ACK, with SYN, RST, URG or CWR, with a reserved bit | these count once and mean this one segment; CWR is cut into the first segment alone |
//! | an empty payload | there is nothing to cut |
//!
//! | a frame joins its flow's group if | because |
//! |---|---|
//! | Ethernet header, VLAN tags, addresses, ports are those of the first | there is one header for all |
//! | so are traffic class, flow label, TTL, "don't fragment", TCP options, acknowledgement, window, ECE | the same |
//! | its TCP sequence number is the next | pieces are numbered without gaps |
//! | its IPv4 identification is the next, or the same with "don't fragment" | pieces are numbered likewise; an atomic datagram's number means nothing (RFC 6864 §4.1) |
//! | its payload is no longer than the first | pieces are as long as the first, except for the last |
//! | IP packet up to 65,535 bytes, at most [`MAX_FRAMES`] frames | what IP and the kernel (`UDP_MAX_SEGMENTS`) take |
//!
//! A frame with PSH or FIN, or a shorter payload, joins as the last one, since only the last piece
//! has them. Window, acknowledgement and options are compared as the kernel's GRO compares them.
//!
//! [`COPYBREAK`]: crate::memory::bounce_buffer::COPYBREAK

use crate::header::group::{Group, LAST_ONLY, TCP_FLAGS, TCP_SEQ, ipv4_sum};
use crate::header::packet::{Family, LINK_HEADERS, Packet, word};
use crate::header::{MAX_UDP_SEGMENTS, NetHdr, flags, gso};
use crate::offload::Offloads;

/// Most frames of a group.
pub(super) const MAX_FRAMES: usize = MAX_UDP_SEGMENTS as usize;
/// First bytes of a frame in which the headers of any lie that can be in a group: Ethernet with its
/// tags, IPv6, TCP with all options.
pub(in crate::engine) const HEADERS: usize = (LINK_HEADERS + 40 + 60).next_multiple_of(16);
/// Longest IP packet.
pub(super) const MAX_PACKET: usize = 65535;
/// `ACK`, and flags that may stand beside it; ECE is that of the first frame.
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
/// IPv4's bit "don't fragment".
const DONT_FRAGMENT: u16 = 0x4000;

/// A frame, as far as it matters to groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) packet: Packet,
    /// Stands for addresses, ports and protocol. Frames of one flow have the same; others may.
    pub(super) flow: u32,
    /// It can be in a group of a kind that is on, as far as one frame alone can tell cheaply.
    pub(super) mergeable: bool,
}

impl Candidate {
    /// Looks at `head`, the first bytes of a frame of `len`, which is behind its checked `header`;
    /// `None` where its flow cannot be told.
    #[inline]
    pub(super) fn of(head: &[u8], len: usize, header: NetHdr, on: Offloads) -> Option<Self> {
        let packet = Packet::of(head)?;
        if packet.fragment {
            return None;
        }
        let mergeable = on.contains(kind(&packet)) && is_mergeable(head, len, &packet, header);
        Some(Self {
            packet,
            flow: flow(head, &packet)?,
            mergeable,
        })
    }

    /// Returns whether a group can begin with the frame of `head`.
    #[inline]
    pub(super) fn begins(&self, head: &[u8]) -> bool {
        self.mergeable && !is_last(head, &self.packet, 0, 0)
    }
}

/// Offload that a group of such packets needs.
pub(super) fn kind(packet: &Packet) -> Offloads {
    match (packet.tcp, packet.family) {
        (true, Family::V4) => Offloads::TSO4,
        (true, Family::V6) => Offloads::TSO6,
        (false, Family::V4) => Offloads::USO4,
        (false, Family::V6) => Offloads::USO6,
    }
}

fn load<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..)?.first_chunk().copied()
}

/// Mixes what a flow is told by into 32 bits.
#[inline]
fn flow(frame: &[u8], packet: &Packet) -> Option<u32> {
    /// Any odd number with as many ones as zeroes.
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let addresses = match packet.family {
        Family::V4 => u64::from_ne_bytes(load(frame, packet.ip + 12)?),
        Family::V6 => {
            let [a, b]: [u64; 2] = [8, 24].map(|at| match load::<16>(frame, packet.ip + at) {
                Some(address) => {
                    let address = u128::from_ne_bytes(address);
                    (address as u64).rotate_left(7) ^ (address >> 64) as u64
                }
                None => 0,
            });
            a ^ b.rotate_left(31)
        }
    };
    let ports = u32::from_ne_bytes(load(frame, packet.transport)?);
    let mixed = (addresses ^ u64::from(ports).rotate_left(13) ^ u64::from(packet.protocol()))
        .wrapping_mul(MIX);
    Some((mixed >> 32) as u32)
}

/// The rules of the first table that take no sum.
#[inline]
fn is_mergeable(head: &[u8], len: usize, packet: &Packet, header: NetHdr) -> bool {
    let (ip, start) = (packet.ip, packet.transport);
    let field = |at| word(head, at).map(usize::from);
    let lengths = match packet.family {
        Family::V4 => start == ip + 20 && field(ip + 2) == Some(len - ip),
        Family::V6 => start == ip + 40 && field(ip + 4) == Some(len - start),
    };
    let whole = match packet.family {
        Family::V4 => word(head, ip + 6).is_some_and(|bits| bits & !DONT_FRAGMENT == 0),
        Family::V6 => true,
    };
    let transport = if packet.tcp {
        head[start + 12] & 0x0f == 0 && head[start + TCP_FLAGS] & !(LAST_ONLY | ECE) == ACK
    } else {
        field(start + 4) == Some(len - start)
    };
    let checksum = if header.flags() & flags::NEEDS_CSUM != 0 {
        header.gso_type() == gso::NONE
            && usize::from(header.csum_start()) == start
            && header.csum_offset() == packet.csum_offset()
    } else {
        true
    };
    lengths && whole && transport && checksum && len > packet.payload
}

/// The rules of the first table that take sums, for a frame with a partial checksum and `payload`
/// bytes behind the headers in `head`.
#[inline]
pub(super) fn partial_sums_agree(head: &[u8], payload: usize, packet: &Packet) -> bool {
    let field = packet.transport + usize::from(packet.csum_offset());
    let segment = packet.payload - packet.transport + payload;
    let pseudo = packet.pseudo(head, segment as u32).partial();
    ipv4_sum_is_right(head, packet) && load(head, field) == Some(pseudo)
}

/// The same for a frame with a complete checksum.
pub(super) fn complete_sums_agree(head: &[u8], payload: &[u8], packet: &Packet) -> bool {
    let header = &head[packet.transport..packet.payload];
    let field = packet.transport + usize::from(packet.csum_offset());
    let mut sum = packet.pseudo(head, (header.len() + payload.len()) as u32);
    sum.add(header);
    sum.add(payload);
    ipv4_sum_is_right(head, packet) && is_right(sum.partial()) && !ambiguous(head, field)
}

#[inline]
fn ipv4_sum_is_right(head: &[u8], packet: &Packet) -> bool {
    packet.family == Family::V6
        || is_right(ipv4_sum(packet, head).to_be_bytes()) && !ambiguous(head, packet.ip + 10)
}

/// Returns whether this is the ones' complement sum of bytes, not all of them zero, with their
/// checksum.
fn is_right(sum: [u8; 2]) -> bool {
    sum == [0xff; 2]
}

/// Returns whether a checksum is zero in either form.
fn ambiguous(frame: &[u8], field: usize) -> bool {
    matches!(word(frame, field), None | Some(0 | 0xffff))
}

/// Returns whether the headers of `frame` are those of `first` in what a group keeps once; both are
/// mergeable.
#[inline]
pub(super) fn same_headers(first: &[u8], frame: &[u8], packet: &Packet) -> bool {
    let (ip, start) = (packet.ip, packet.transport);
    let same = |from: usize, to: usize| first.get(from..to) == frame.get(from..to);
    let network = match packet.family {
        Family::V4 => same(0, ip + 2) && same(ip + 6, ip + 10) && same(ip + 12, start + 4),
        Family::V6 => same(0, ip + 4) && same(ip + 6, start + 4),
    };
    let transport = !packet.tcp
        || same(start + 8, start + 13)
            && (first[start + TCP_FLAGS] ^ frame[start + TCP_FLAGS]) & !LAST_ONLY == 0
            && same(start + 14, start + 16)
            && same(start + 18, packet.payload);
    network && transport
}

/// Bits in which the headers of a group's first frame are those of another that has a partial
/// checksum and a payload as long: all but identification, sum and sequence. So its lengths and the
/// pseudo header's sum are right if the first's are.
pub(super) fn repeated_bits(packet: &Packet) -> [u8; HEADERS] {
    let mut bits = [0; HEADERS];
    let mut set = |from: usize, to: usize, value| {
        if let Some(bits) = bits.get_mut(from..to) {
            bits.fill(value);
        }
    };
    set(0, packet.payload, 0xff);
    if packet.family == Family::V4 {
        set(packet.ip + 4, packet.ip + 6, 0);
        set(packet.ip + 10, packet.ip + 12, 0);
    }
    if packet.tcp {
        let (seq, flags) = (packet.transport + TCP_SEQ, packet.transport + TCP_FLAGS);
        set(seq, seq + 4, 0);
        set(flags, flags + 1, !LAST_ONLY);
    }
    bits
}

/// Returns whether `first` and `head` are the same in `bits`.
#[inline]
pub(super) fn same_bits(first: &[u8; HEADERS], head: &[u8; HEADERS], bits: &[u8; HEADERS]) -> bool {
    let differs = first.iter().zip(head).zip(bits);
    differs.fold(0, |all, ((first, head), bits)| all | (first ^ head) & bits) == 0
}

/// Returns whether the sum of the IPv4 header in `head` is right where that in `first` is and the
/// two have all else but their identification in common.
#[inline]
pub(super) fn repeats_ipv4_sum(first: &[u8], head: &[u8], packet: &Packet) -> bool {
    let sum = |frame| {
        let id = u32::from(word(frame, packet.ip + 4)?);
        let sum = id + u32::from(word(frame, packet.ip + 10)?);
        Some((sum & 0xffff) + (sum >> 16))
    };
    packet.family == Family::V6 || sum(first) == sum(head) && !ambiguous(head, packet.ip + 10)
}

/// The difference of identifications with which `frame` follows in a group; `None` where it cannot.
#[inline]
pub(super) fn id_step(first: &[u8], frame: &[u8], group: &Group) -> Option<u16> {
    if group.packet.family == Family::V6 {
        return Some(0);
    }
    let ip = group.packet.ip;
    let distance = word(frame, ip + 4)?.wrapping_sub(word(first, ip + 4)?);
    let step = match distance {
        0 if word(frame, ip + 6)? & DONT_FRAGMENT != 0 => 0,
        _ if usize::from(distance) == group.frames => 1,
        _ => return None,
    };
    (group.frames == 1 || step == group.id_step).then_some(step)
}

/// Returns whether the sequence number of `frame` is the one behind the group.
#[inline]
pub(super) fn is_next(first: &[u8], frame: &[u8], group: &Group) -> bool {
    if !group.packet.tcp {
        return true;
    }
    let at = group.packet.transport + TCP_SEQ;
    let seq = |frame| load(frame, at).map(u32::from_be_bytes);
    let behind = (group.frames * group.size) as u32;
    seq(first).map(|seq| seq.wrapping_add(behind)) == seq(frame)
}

/// Returns whether nothing may follow `frame`, which has `payload` bytes in a group of pieces of
/// `size`.
#[inline]
pub(super) fn is_last(frame: &[u8], packet: &Packet, payload: usize, size: usize) -> bool {
    payload < size || packet.tcp && frame[packet.transport + TCP_FLAGS] & LAST_ONLY != 0
}

#[cfg(test)]
mod tests;
