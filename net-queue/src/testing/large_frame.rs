//! Large frames and the segments that they must become, both built from one description.
//!
//! Nothing here cuts: every segment is built from its fields, as a sender that does not leave the
//! work to others would.

use super::Random;
use crate::header::{HDR_LEN, flags, gso};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A packet too large for its link, to be cut into segments.
#[derive(Clone, Debug)]
pub struct LargeFrame {
    /// VLAN tags, at most 3.
    pub tags: usize,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// TCP instead of UDP.
    pub tcp: bool,
    /// Words of IPv4 options, at most 10; IPv6 extension headers of 8 bytes.
    pub ip_options: usize,
    /// Words of TCP options, at most 10.
    pub tcp_options: usize,
    /// Flags of TCP.
    pub tcp_flags: u8,
    /// IPv4's "don't fragment".
    pub dont_fragment: bool,
    /// IPv4's identification.
    pub id: u16,
    /// TCP's sequence number.
    pub sequence: u32,
    /// Source port.
    pub port: u16,
    /// Bytes of payload, and what decides their content.
    pub payload: usize,
    /// See `payload`.
    pub seed: u64,
    /// Most bytes of payload in a segment.
    pub size: u16,
    /// The ECN bit of the GSO type.
    pub ecn: bool,
}

impl Default for LargeFrame {
    fn default() -> Self {
        Self {
            tags: 0,
            v6: false,
            tcp: true,
            ip_options: 0,
            tcp_options: 3,
            tcp_flags: 0x18,
            dont_fragment: true,
            id: 7,
            sequence: 1000,
            port: 4097,
            payload: 5000,
            seed: 1,
            size: 1448,
            ecn: false,
        }
    }
}

impl LargeFrame {
    /// One of many kinds, by what `random` says.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        let tcp = random.below(2) == 0;
        let size = 1 + random.below(2000) as u16;
        let most = if tcp { 40 } else { 30 } * usize::from(size);
        Self {
            tags: random.below(4) as usize,
            v6: random.below(2) == 0,
            tcp,
            ip_options: random.below(4) as usize * random.below(4) as usize,
            tcp_options: random.below(11) as usize,
            tcp_flags: random.next_u64() as u8 & !0x26 | 0x10,
            dont_fragment: random.below(2) == 0,
            id: random.next_u64() as u16,
            sequence: random.next_u64() as u32,
            port: random.next_u64() as u16,
            payload: 1 + random.below(most.min(60_000) as u64) as usize,
            seed: random.next_u64(),
            size,
            ecn: tcp && random.below(4) == 0,
        }
    }

    /// Returns whether it is more than one segment.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.payload > self.size.into()
    }

    fn transport_len(&self) -> usize {
        if self.tcp {
            20 + 4 * self.tcp_options
        } else {
            8
        }
    }

    fn ip_len(&self) -> usize {
        if self.v6 {
            40 + 8 * self.ip_options
        } else {
            20 + 4 * self.ip_options
        }
    }

    /// Offset of the transport header in the frame.
    #[must_use]
    pub fn transport(&self) -> usize {
        14 + 4 * self.tags + self.ip_len()
    }

    /// Offset of the payload in the frame.
    #[must_use]
    pub fn headers(&self) -> usize {
        self.transport() + self.transport_len()
    }

    /// Offset of the checksum in the transport header.
    #[must_use]
    pub fn csum_offset(&self) -> u16 {
        if self.tcp { 16 } else { 6 }
    }

    /// The GSO type that it is.
    #[must_use]
    pub fn gso_type(&self) -> u8 {
        let ecn = if self.ecn { gso::ECN } else { 0 };
        match (self.tcp, self.v6) {
            (true, false) => gso::TCPV4 | ecn,
            (true, true) => gso::TCPV6 | ecn,
            (false, _) => gso::UDP_L4,
        }
    }

    /// The whole of it behind a header that asks to cut it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.partial_header();
        bytes[1] = self.gso_type();
        bytes[2..4].copy_from_slice(&(self.headers() as u16).to_le_bytes());
        bytes[4..6].copy_from_slice(&self.size.to_le_bytes());
        let payload = self.payload_bytes();
        bytes.extend(self.frame(&payload, 0, self.id, self.tcp_flags, true));
        bytes
    }

    /// Segments that it must become: each behind its header, with a partial checksum or none.
    #[must_use]
    pub fn segments(&self, partial: bool) -> Vec<Vec<u8>> {
        let payload = self.payload_bytes();
        let starts = (0..self.payload.max(1)).step_by(self.size.into());
        let segment = |(index, start): (usize, usize)| {
            let end = (start + usize::from(self.size)).min(self.payload);
            let mut tcp_flags = self.tcp_flags;
            if index > 0 {
                tcp_flags &= !CWR;
            }
            if end < self.payload {
                tcp_flags &= !(FIN | PSH);
            }
            let id = self.id.wrapping_add(index as u16);
            let header = if partial {
                self.partial_header()
            } else {
                vec![0; HDR_LEN]
            };
            let part = &payload[start..end];
            [header, self.frame(part, start, id, tcp_flags, partial)].concat()
        };
        starts.enumerate().map(segment).collect()
    }

    fn partial_header(&self) -> Vec<u8> {
        let mut bytes = vec![0; HDR_LEN];
        bytes[0] = flags::NEEDS_CSUM;
        bytes[6..8].copy_from_slice(&(self.transport() as u16).to_le_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset().to_le_bytes());
        bytes
    }

    fn frame(&self, part: &[u8], start: usize, id: u16, tcp_flags: u8, partial: bool) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in 0..self.tags {
            let kind: u16 = if tag + 1 < self.tags { 0x88a8 } else { 0x8100 };
            frame.extend(kind.to_be_bytes());
            frame.extend([0, 5 + tag as u8]);
        }
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        let transport = self.transport_len() + part.len();
        frame.extend(self.ip(id, transport));
        let mut bytes = self.transport_header(start, transport, tcp_flags);
        bytes.extend(part);
        let pseudo = self.pseudo(transport);
        let sum = if partial {
            pseudo
        } else {
            match !sum_of(&[&pseudo.to_be_bytes(), &bytes]) {
                0 if !self.tcp => 0xffff,
                sum => sum,
            }
        };
        let field = usize::from(self.csum_offset());
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        frame.extend(bytes);
        frame
    }

    fn payload_bytes(&self) -> Vec<u8> {
        Random::new(self.seed).bytes(self.payload)
    }

    fn addresses(&self) -> Vec<u8> {
        if self.v6 {
            [[0xfd; 15].as_slice(), &[1], &[0xfd; 15], &[2]].concat()
        } else {
            vec![10, 0, 0, 1, 10, 0, 0, 2]
        }
    }

    fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    fn ip(&self, id: u16, transport: usize) -> Vec<u8> {
        let mut ip = Vec::new();
        if self.v6 {
            let len = (self.ip_len() - 40 + transport) as u16;
            let next = if self.ip_options > 0 {
                60
            } else {
                self.protocol()
            };
            ip.extend([0x61, 0x23, 0x45, 0x67]);
            ip.extend(len.to_be_bytes());
            ip.extend([next, 63]);
            ip.extend(self.addresses());
            for left in (0..self.ip_options).rev() {
                let next = if left > 0 { 60 } else { self.protocol() };
                ip.extend([next, 0, 1, 4, 0, 0, 0, 0]);
            }
        } else {
            let len = (self.ip_len() + transport) as u16;
            ip.extend([0x45 + self.ip_options as u8, 2]);
            ip.extend(len.to_be_bytes());
            ip.extend(id.to_be_bytes());
            ip.extend([
                u8::from(self.dont_fragment) << 6,
                0,
                64,
                self.protocol(),
                0,
                0,
            ]);
            ip.extend(self.addresses());
            ip.extend(vec![1; 4 * self.ip_options]);
            let sum = !sum_of(&[&ip]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        ip
    }

    fn transport_header(&self, start: usize, len: usize, tcp_flags: u8) -> Vec<u8> {
        let mut header = self.port.to_be_bytes().to_vec();
        header.extend([0x20, 0x02]);
        if self.tcp {
            header.extend(self.sequence.wrapping_add(start as u32).to_be_bytes());
            header.extend([1, 2, 3, 4]);
            header.extend([
                (5 + self.tcp_options as u8) << 4,
                tcp_flags,
                0x20,
                0,
                0,
                0,
                0,
                0,
            ]);
            header.extend(vec![1; 4 * self.tcp_options]);
        } else {
            header.extend((len as u16).to_be_bytes());
            header.extend([0, 0]);
        }
        header
    }

    fn pseudo(&self, len: usize) -> u16 {
        sum_of(&[
            &self.addresses(),
            &[0, self.protocol()],
            &(len as u32).to_be_bytes(),
        ])
    }
}

/// The sum of 16-bit words over parts, all but the last of an even length.
fn sum_of(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let words =
        words.map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from));
    (0..4).fold(words.sum::<u64>(), |sum, _| (sum & 0xffff) + (sum >> 16)) as u16
}
