//! Flows, their hashes bit by bit, and commands.

use net_queue::header::HDR_LEN;
use net_queue::testing::packets::{Packet, Sums};
use tests::testbed::GUEST_MAC;
pub(crate) use tests::testbed::toeplitz;

/// Bytes of a header with a hash.
pub(crate) const HDR: usize = 20;

/// Key of the published vectors.
pub(crate) const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// A packet of a flow.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) packet: Packet,
}

/// Flow `number`: by turns TCP and UDP over IPv4 and IPv6.
pub(crate) fn flow(number: u16) -> Flow {
    let packet = Packet {
        v6: number & 2 != 0,
        source: (number >> 3) as u8,
        ports: (1024 + number, 80),
        sums: Sums::Complete,
        ..if number & 1 == 0 {
            Packet::tcp(&number.to_be_bytes())
        } else {
            Packet::udp(&number.to_be_bytes())
        }
    };
    Flow { packet }
}

impl Flow {
    /// The same with another payload.
    pub(crate) fn with(&self, payload: &[u8]) -> Self {
        let packet = Packet {
            payload: payload.to_vec(),
            ..self.packet.clone()
        };
        Self { packet }
    }

    /// The frame without a header.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = self.packet.bytes().split_off(HDR_LEN);
        frame[..6].copy_from_slice(&GUEST_MAC);
        frame
    }

    /// The frame behind a header with room for a hash.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = self.packet.bytes();
        header.truncate(HDR_LEN);
        header.resize(HDR, 0xaa);
        [header, self.frame()].concat()
    }

    /// Addresses, or addresses and ports, in the order in which they are hashed.
    fn input(&self, ports: bool) -> Vec<u8> {
        let frame = self.frame();
        let transport = self.packet.transport();
        let addresses = if self.packet.v6 { 32 } else { 8 };
        let end = if ports { transport + 4 } else { transport };
        frame[transport - addresses..end].to_vec()
    }

    /// Number of the report of this flow and its hash, where every type is on.
    pub(crate) fn hash(&self) -> (u16, u32) {
        let family = if self.packet.v6 { 4 } else { 1 };
        let report = family + if self.packet.tcp { 1 } else { 2 };
        (report, toeplitz(&KEY, &self.input(true)))
    }

    /// The same where addresses alone are hashed.
    pub(crate) fn address_hash(&self) -> (u16, u32) {
        let family = if self.packet.v6 { 4 } else { 1 };
        (family, toeplitz(&KEY, &self.input(false)))
    }

    /// The queue of `table` that this flow belongs to.
    pub(crate) fn queue(&self, table: &[u16]) -> u16 {
        table[self.hash().1 as usize % table.len()]
    }
}

/// Data of an RSS_CONFIG.
pub(crate) fn rss_config(
    types: u32,
    unclassified: u16,
    table: &[u16],
    max_tx_vq: u16,
    key: &[u8],
) -> Vec<u8> {
    let mut data = types.to_le_bytes().to_vec();
    let words = [(table.len() - 1) as u16, unclassified];
    let words = words.iter().chain(table).chain([&max_tx_vq]);
    data.extend(words.flat_map(|word| word.to_le_bytes()));
    data.push(key.len() as u8);
    data.extend(key);
    data
}

/// Data of a HASH_CONFIG with `reserved` in its reserved words.
pub(crate) fn hash_config(types: u32, reserved: u8, key: &[u8]) -> Vec<u8> {
    let mut data = types.to_le_bytes().to_vec();
    data.extend([reserved; 8]);
    data.push(key.len() as u8);
    data.extend(key);
    data
}
