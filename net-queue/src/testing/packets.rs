//! TCP and UDP packets field by field, and a cutter of segmented ones that is as plain as it can
//! be.

use crate::header::{HDR_LEN, flags, gso};

/// State of a packet's transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// The pseudo header's sum; the virtio-net header says where to go on.
    Partial,
    /// Complete.
    Complete,
}

/// A packet in its frame, each field as a test wants it; lengths and sums follow from the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of VLAN tags.
    pub tags: usize,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// Last byte of both MAC addresses.
    pub station: u8,
    /// Traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identification (IPv4).
    pub id: u16,
    /// Flags and offset of a fragment (IPv4).
    pub fragment: u16,
    /// Last byte of the source address.
    pub source: u8,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// Sequence number (TCP).
    pub seq: u32,
    /// Acknowledgement (TCP).
    pub ack: u32,
    /// Flags (TCP).
    pub flags: u8,
    /// Window (TCP).
    pub window: u16,
    /// Options, padded to words (TCP).
    pub options: Vec<u8>,
    /// Payload.
    pub payload: Vec<u8>,
    /// State of the transport checksum.
    pub sums: Sums,
}

impl Packet {
    /// UDP over IPv4 with `payload`.
    #[must_use]
    pub fn udp(payload: &[u8]) -> Self {
        Self {
            tags: 0,
            v6: false,
            tcp: false,
            station: 1,
            tos: 0,
            ttl: 64,
            id: 0x1000,
            fragment: 0x4000,
            source: 1,
            ports: (4000, 5000),
            seq: 0x1000_0000,
            ack: 0x2000_0000,
            flags: 0x10,
            window: 500,
            options: Vec::new(),
            payload: payload.to_vec(),
            sums: Sums::Partial,
        }
    }

    /// TCP over IPv4 with `payload` and the ACK flag.
    #[must_use]
    pub fn tcp(payload: &[u8]) -> Self {
        Self {
            tcp: true,
            ..Self::udp(payload)
        }
    }

    /// The packet `count` places behind this one in its stream, with `payload`; all before it had
    /// this one's length.
    #[must_use]
    pub fn after(&self, count: usize, payload: &[u8]) -> Self {
        let bytes = (count * self.payload.len()) as u32;
        Self {
            id: self.id.wrapping_add(count as u16),
            seq: self.seq.wrapping_add(bytes),
            payload: payload.to_vec(),
            ..self.clone()
        }
    }

    /// Bytes of Ethernet header and tags.
    #[must_use]
    pub fn link_len(&self) -> usize {
        14 + 4 * self.tags
    }

    /// Offset of the transport header in the frame.
    #[must_use]
    pub fn transport(&self) -> usize {
        self.link_len() + if self.v6 { 40 } else { 20 }
    }

    /// The virtio-net header and the frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let transport = self.transport_header();
        let segment = transport.len() + self.payload.len();
        let mut frame = self.link();
        frame.extend(self.network(segment));
        let start = frame.len();
        frame.extend(transport);
        frame.extend(&self.payload);
        let field = start + self.csum_offset();
        let pseudo = fold(pseudo(&frame, self.link_len(), start));
        frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let mut header = vec![0; HDR_LEN];
        match self.sums {
            Sums::Partial => {
                header[0] = flags::NEEDS_CSUM;
                header[6..8].copy_from_slice(&(start as u16).to_le_bytes());
                header[8..10].copy_from_slice(&(self.csum_offset() as u16).to_le_bytes());
            }
            Sums::Complete => complete(&mut frame, start, self.csum_offset()),
        }
        [header, frame].concat()
    }

    fn csum_offset(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    fn link(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 1, self.station, 2, 0, 0, 0, 2, self.station];
        for tag in 0..self.tags {
            let kind: [u8; 2] = if tag + 1 < self.tags {
                [0x88, 0xa8]
            } else {
                [0x81, 0]
            };
            frame.extend(kind);
            frame.extend([0, 7]);
        }
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        frame
    }

    fn network(&self, segment: usize) -> Vec<u8> {
        let protocol = if self.tcp { 6 } else { 17 };
        if self.v6 {
            let mut ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 9];
            ip.extend((segment as u16).to_be_bytes());
            ip.extend([protocol, self.ttl, 0xfd, 0]);
            ip.extend([0; 13]);
            ip.extend([self.source, 0xfd, 0]);
            ip.extend([0; 13]);
            ip.push(2);
            return ip;
        }
        let mut ip = vec![0x45, self.tos];
        ip.extend((20 + segment as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, protocol, 0, 0, 10, 9, 0, self.source, 10, 9, 1, 2]);
        let sum = !fold(words(&ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }

    fn transport_header(&self) -> Vec<u8> {
        let mut header = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        if self.tcp {
            let words = 5 + self.options.len().div_ceil(4);
            header.extend(self.seq.to_be_bytes());
            header.extend(self.ack.to_be_bytes());
            header.extend([(words as u8) << 4, self.flags]);
            header.extend(self.window.to_be_bytes());
            header.extend([0; 4]);
            header.extend(&self.options);
            header.resize(4 * words, 0);
        } else {
            header.extend((8 + self.payload.len() as u16).to_be_bytes());
            header.extend([0; 2]);
        }
        header
    }
}

fn words(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum of addresses, protocol and length of what begins at `start`; the packet begins at `ip`.
fn pseudo(frame: &[u8], ip: usize, start: usize) -> u64 {
    let (addresses, protocol) = if frame[ip] >> 4 == 6 {
        (ip + 8..ip + 40, frame[ip + 6])
    } else {
        (ip + 12..ip + 20, frame[ip + 9])
    };
    words(&frame[addresses]) + u64::from(protocol) + (frame.len() - start) as u64
}

fn complete(frame: &mut [u8], start: usize, offset: usize) {
    let sum = match !fold(words(&frame[start..])) {
        0 => 0xffff,
        sum => sum,
    };
    frame[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
}

fn word_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// A frame that is to be cut, and where its parts begin.
struct Whole<'a> {
    frame: &'a [u8],
    tcp: bool,
    size: usize,
    ip: usize,
    start: usize,
    offset: usize,
    payload: usize,
}

impl<'a> Whole<'a> {
    fn of(header: &[u8], frame: &'a [u8]) -> Self {
        let [size, start, offset] = [4, 6, 8].map(|at| word_at(header, at));
        let tcp = header[1] != gso::UDP_L4;
        let is_ip = |at: &usize| matches!(frame[at - 2..*at], [0x86, 0xdd] | [8, 0]);
        let words = if tcp { frame[start + 12] >> 4 } else { 2 };
        let payload = start + 4 * usize::from(words);
        assert_eq!(word_at(header, 2), payload, "the length of all headers");
        assert_eq!(offset, if tcp { 16 } else { 6 });
        Self {
            frame,
            tcp,
            size,
            ip: (14..).step_by(4).find(is_ip).expect("IP behind the tags"),
            start,
            offset,
            payload,
        }
    }

    /// Piece `index`, of which `last` says whether it is the last.
    fn piece(&self, index: usize, piece: &[u8], last: bool) -> Vec<u8> {
        let (ip, start) = (self.ip, self.start);
        let mut cut = [&self.frame[..self.payload], piece].concat();
        let packet = (cut.len() - ip) as u16;
        if cut[ip] >> 4 == 6 {
            cut[ip + 4..ip + 6].copy_from_slice(&(packet - 40).to_be_bytes());
        } else {
            let id = u16::from_be_bytes([cut[ip + 4], cut[ip + 5]]).wrapping_add(index as u16);
            cut[ip + 2..ip + 4].copy_from_slice(&packet.to_be_bytes());
            cut[ip + 4..ip + 6].copy_from_slice(&id.to_be_bytes());
            cut[ip + 10..ip + 12].fill(0);
            let sum = !fold(words(&cut[ip..start]));
            cut[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
        }
        if self.tcp {
            let seq = u32::from_be_bytes([4, 5, 6, 7].map(|at| cut[start + at]));
            let seq = seq.wrapping_add((index * self.size) as u32);
            cut[start + 4..start + 8].copy_from_slice(&seq.to_be_bytes());
            cut[start + 13] &= if last { 0xff } else { !0x09 };
            cut[start + 13] &= if index == 0 { 0xff } else { !0x80 };
        } else {
            let length = (cut.len() - start) as u16;
            cut[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
        }
        let field = start + self.offset;
        let sum = fold(pseudo(&cut, ip, start));
        cut[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        complete(&mut cut, start, self.offset);
        cut
    }
}

/// The frames that `bytes`, a virtio-net header and a frame of the kinds of [`Packet`], mean on
/// the wire: cut where the header says so, each with a complete checksum and without the header.
///
/// # Panics
/// The header or the packet is not of these kinds, or they contradict each other.
#[must_use]
pub fn on_the_wire(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (header, frame) = bytes.split_at(HDR_LEN);
    if header[0] & flags::NEEDS_CSUM == 0 {
        assert_eq!(header[1], gso::NONE, "cut without a partial checksum");
        return vec![frame.to_vec()];
    }
    if header[1] == gso::NONE {
        let mut frame = frame.to_vec();
        complete(&mut frame, word_at(header, 6), word_at(header, 8));
        return vec![frame];
    }
    let whole = Whole::of(header, frame);
    let field = whole.start + whole.offset;
    let sum = fold(pseudo(frame, whole.ip, whole.start));
    assert_eq!(frame[field..field + 2], sum.to_be_bytes(), "pseudo header");
    let pieces: Vec<_> = frame[whole.payload..].chunks(whole.size).collect();
    let cut =
        |(index, piece): (usize, &&[u8])| whole.piece(index, piece, index + 1 == pieces.len());
    pieces.iter().enumerate().map(cut).collect()
}
