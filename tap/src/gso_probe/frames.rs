//! Frames that a kernel is asked to cut, and what has to come out.

use std::ops::Range;

use crate::offload::Offloads;

/// Bytes of a virtio-net header with the fields of a tunnel, which older kernels do not look at.
pub(super) const HEADER: usize = 24;
/// Place of these fields.
const TUNNEL_FIELDS: usize = 20;
const ETHERNET: usize = 14;
const UDP: usize = 8;
/// A TCP header with timestamps, as nearly all traffic has.
const TCP: usize = 32;
const VXLAN: usize = 8;

// linux/virtio_net.h
const F_NEEDS_CSUM: u8 = 1;
const F_UDP_TUNNEL_CSUM: u8 = 8;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_UDP_TUNNEL_IPV4: u8 = 0x20;
const GSO_UDP_TUNNEL_IPV6: u8 = 0x40;
const GSO_ECN: u8 = 0x80;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;

/// Locally administered addresses, which no host has.
pub(super) const SOURCE: [u8; 6] = [0x02, b'g', b's', b'o', 0, 1];
pub(super) const DESTINATION: [u8; 6] = [0x02, b'g', b's', b'o', 0, 2];

/// One frame to be cut.
#[derive(Debug)]
pub(super) struct Row {
    /// Name for messages.
    pub(super) name: &'static str,
    /// Offload that the frame asks for.
    pub(super) offload: Offloads,
    v6: bool,
    gso_type: u8,
    /// TCP flags; UDP without.
    tcp: Option<u8>,
    /// VXLAN around the packet.
    tunnel: Option<Tunnel>,
    /// Bytes of payload in each piece.
    piece: usize,
    /// Bytes of payload.
    payload: usize,
}

/// The outer headers of a packet in a tunnel.
#[derive(Clone, Copy, Debug)]
struct Tunnel {
    v6: bool,
    /// Its UDP header has a checksum, which is to be completed in each piece.
    csum: bool,
}

/// Every frame that is tried. An offload works if all of its rows do.
pub(super) const ROWS: &[Row] = &[
    tcp("TCP over IPv4", Offloads::TSO4, false, 1448, PSH | FIN),
    tcp("TCP over IPv6", Offloads::TSO6, true, 1428, PSH | FIN),
    tcp(
        "TCP with a congestion mark",
        Offloads::ECN,
        false,
        1001,
        CWR,
    ),
    udp("UDP over IPv4", Offloads::USO4, false, 1472),
    udp("small UDP over IPv4", Offloads::USO4, false, 201),
    udp("UDP over IPv6", Offloads::USO6, true, 1452),
    udp("small UDP over IPv6", Offloads::USO6, true, 201),
    vxlan(
        "TCP in VXLAN over IPv4",
        tcp("", Offloads::UDP_TUNNEL, false, 1398, PSH | FIN),
        Tunnel {
            v6: false,
            csum: false,
        },
    ),
    vxlan(
        "UDP in VXLAN over IPv6",
        udp("", Offloads::UDP_TUNNEL, false, 1201),
        Tunnel {
            v6: true,
            csum: false,
        },
    ),
    vxlan(
        "TCP over IPv6 in VXLAN with checksums over IPv4",
        tcp("", Offloads::UDP_TUNNEL_CSUM, true, 1201, PSH),
        Tunnel {
            v6: false,
            csum: true,
        },
    ),
    vxlan(
        "UDP over IPv6 in VXLAN with checksums over IPv6",
        udp("", Offloads::UDP_TUNNEL_CSUM, true, 1358),
        Tunnel {
            v6: true,
            csum: true,
        },
    ),
];

/// Whole pieces of each frame; a shorter one follows them.
const PIECES: usize = 3;
/// Bytes of that one: an odd number.
const LAST: usize = 77;

const fn tcp(name: &'static str, offload: Offloads, v6: bool, piece: usize, flags: u8) -> Row {
    let ecn = if flags & CWR == 0 { 0 } else { GSO_ECN };
    Row {
        name,
        offload,
        v6,
        gso_type: ecn | if v6 { GSO_TCPV6 } else { GSO_TCPV4 },
        tcp: Some(ACK | flags),
        tunnel: None,
        piece,
        payload: PIECES * piece + LAST,
    }
}

const fn udp(name: &'static str, offload: Offloads, v6: bool, piece: usize) -> Row {
    Row {
        name,
        offload,
        v6,
        gso_type: GSO_UDP_L4,
        tcp: None,
        tunnel: None,
        piece,
        payload: PIECES * piece + LAST,
    }
}

const fn vxlan(name: &'static str, inner: Row, tunnel: Tunnel) -> Row {
    let bit = if tunnel.v6 {
        GSO_UDP_TUNNEL_IPV6
    } else {
        GSO_UDP_TUNNEL_IPV4
    };
    Row {
        name,
        offload: inner.offload,
        v6: inner.v6,
        gso_type: inner.gso_type | bit,
        tcp: inner.tcp,
        tunnel: Some(tunnel),
        piece: inner.piece,
        payload: inner.payload,
    }
}

impl Row {
    /// The frame as a guest would send it, behind its virtio-net header.
    pub(super) fn whole(&self) -> Vec<u8> {
        let outer_transport = ETHERNET + self.tunnel.map_or(0, |tunnel| ip_len(tunnel.v6));
        let inner = self.tunnel.map_or(0, |_| outer_transport + UDP + VXLAN);
        let (inner_ip, transport) = (inner + ETHERNET, inner + ETHERNET + ip_len(self.v6));
        let checksum = if self.tcp.is_some() { 16 } else { 6 };
        let mut flags = F_NEEDS_CSUM;
        if self.tunnel.is_some_and(|tunnel| tunnel.csum) {
            flags |= F_UDP_TUNNEL_CSUM;
        }
        let mut frame = vec![flags, self.gso_type];
        let fields = [
            transport + self.transport_len(),
            self.piece,
            transport,
            checksum,
        ];
        frame.extend(fields.into_iter().flat_map(le));
        frame.resize(TUNNEL_FIELDS, 0);
        if self.tunnel.is_some() {
            frame.extend([outer_transport, inner_ip].into_iter().flat_map(le));
        }
        frame.resize(HEADER, 0);
        frame.extend(self.packet(0, 0..self.payload, false));
        frame
    }

    /// The frames that have to come out, without virtio-net headers.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        let starts = (0..self.payload).step_by(self.piece).enumerate();
        starts.map(|(index, start)| {
            let end = self.payload.min(start + self.piece);
            self.packet(index as u16, start..end, true)
        })
    }

    fn transport_len(&self) -> usize {
        if self.tcp.is_some() { TCP } else { UDP }
    }

    /// Ethernet frame with this part of the payload, as piece number `index`, its checksum complete
    /// or left at the sum of the pseudo header.
    fn packet(&self, index: u16, part: Range<usize>, complete: bool) -> Vec<u8> {
        let mut segment = match self.tcp {
            Some(flags) => self.tcp_header(flags, &part),
            None => udp_header(part.len()),
        };
        let at = if self.tcp.is_some() { 16 } else { 6 };
        segment.extend(part.map(payload));
        let protocol = if self.tcp.is_some() {
            PROTO_TCP
        } else {
            PROTO_UDP
        };
        let (mut packet, pseudo) = ip_header(self.v6, protocol, index, segment.len());
        let checksum = if complete {
            // A UDP checksum of zero would say that there is none.
            match !fold(pseudo + sum(&segment)) {
                0 if self.tcp.is_none() => 0xffff,
                checksum => checksum,
            }
        } else {
            fold(pseudo)
        };
        segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        packet.append(&mut segment);
        let frame = ethernet(self.v6, packet);
        match self.tunnel {
            Some(tunnel) => tunnel.around(index, frame, complete),
            None => frame,
        }
    }

    fn tcp_header(&self, flags: u8, part: &Range<usize>) -> Vec<u8> {
        let (first, last) = (part.start == 0, part.end == self.payload);
        let shown = if last { flags } else { flags & !(FIN | PSH) };
        let shown = if first { shown } else { shown & !CWR };
        let mut header = vec![0x9c, 0x41, 0x9c, 0x42];
        // The sequence wraps within the frame.
        let sequence = 0xffff_fc00u32.wrapping_add(part.start as u32);
        header.extend(sequence.to_be_bytes());
        header.extend([
            0x12,
            0x34,
            0x56,
            0x78,
            (TCP as u8 / 4) << 4,
            shown,
            0x7f,
            0xff,
        ]);
        // Checksum, urgent pointer, and timestamps behind two NOPs.
        header.extend([0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0]);
        header
    }
}

impl Tunnel {
    /// Ethernet frame with the frame `inner` in it, its own checksum complete, or left at the sum
    /// of the pseudo header, or zero for none.
    fn around(self, index: u16, inner: Vec<u8>, complete: bool) -> Vec<u8> {
        let mut segment = udp_header(VXLAN + inner.len());
        // VXLAN: there is a number of a network, and it is 0x676d6f.
        segment.extend([8, 0, 0, 0, b'g', b's', b'o', 0]);
        segment.extend(inner);
        let (mut packet, pseudo) = ip_header(self.v6, PROTO_UDP, index, segment.len());
        let checksum = match (self.csum, complete) {
            (false, _) => 0,
            (true, false) => fold(pseudo),
            (true, true) => match !fold(pseudo + sum(&segment)) {
                0 => 0xffff,
                checksum => checksum,
            },
        };
        segment[6..8].copy_from_slice(&checksum.to_be_bytes());
        packet.append(&mut segment);
        ethernet(self.v6, packet)
    }
}

fn le(field: usize) -> [u8; 2] {
    (field as u16).to_le_bytes()
}

fn ip_len(v6: bool) -> usize {
    if v6 { 40 } else { 20 }
}

fn ethernet(v6: bool, mut packet: Vec<u8>) -> Vec<u8> {
    let mut frame = [DESTINATION, SOURCE].concat();
    frame.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    frame.append(&mut packet);
    frame
}

/// Header for a segment of so many bytes, and the sum of its pseudo header.
fn ip_header(v6: bool, protocol: u8, index: u16, len: usize) -> (Vec<u8>, u32) {
    let pseudo = u32::from(protocol) + len as u32;
    if v6 {
        let mut header = vec![0x60, 0x01, 0x23, 0x45];
        header.extend((len as u16).to_be_bytes());
        header.extend([protocol, 64]);
        // fd67:736f::1 and ::2
        for host in [1, 2] {
            header.extend([
                0xfd, b'g', b's', b'o', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host,
            ]);
        }
        let addresses = sum(&header[8..]);
        return (header, pseudo + addresses);
    }
    let total = (20 + len) as u16;
    // Numbers wrap within the frame.
    let id = 0xfffeu16.wrapping_add(index);
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend([0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let checksum = !fold(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let addresses = sum(&header[12..]);
    (header, pseudo + addresses)
}

fn udp_header(payload: usize) -> Vec<u8> {
    let mut header = vec![0x9c, 0x41, 0x9c, 0x42];
    header.extend(((UDP + payload) as u16).to_be_bytes());
    header.extend([0, 0]);
    header
}

/// Byte `at` of the payload: no two pieces have the same bytes.
fn payload(at: usize) -> u8 {
    (at ^ (at >> 8).wrapping_mul(29)) as u8
}

/// Sum of 16-bit words, which cannot overflow for a frame.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words.fold(0, |sum, word| match *word {
        [high, low] => sum + u32::from(u16::from_be_bytes([high, low])),
        [high] => sum + (u32::from(high) << 8),
        _ => sum,
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
