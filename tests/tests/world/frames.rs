//! Frames that carry their number, and nothing that was not made from it.
//!
//! A number names a flow, and the frame's place in it. One flow is of a protocol that nobody
//! knows; the others are of UDP and TCP, whose frames can leave together, and arrive as one that is
//! to be cut.

use net_queue::header::{HDR_LEN, flags, gso};
use net_queue::testing::packets::{Packet, Sums, on_the_wire};
use tests::testbed::{GUEST_MAC, PEER_MAC, toeplitz};

/// Kinds of frames: a flow for each in what a queue sends, and in what a network delivers.
pub(crate) const KINDS: usize = 4;
/// Flows of all networks.
const FLOWS: usize = 2 * KINDS;
/// No protocol that is known.
pub(crate) const PLAIN: usize = 0;
const UDP: usize = 1;
const TCP6: usize = 3;

/// Ethernet header, number and length: the shortest frame that can be told.
pub(crate) const SHORTEST: usize = 60;
/// The longest frame here, a whole Ethernet frame.
pub(crate) const LONGEST: usize = 1514;
/// Payload of every TCP segment: its sequence number follows from its place in the flow.
const SEGMENT: usize = 100;

const NUMBER: usize = 8;
/// Number and length of what it stands in.
const TITLE: usize = NUMBER + 2;

/// Numbers of the frames of each flow.
#[derive(Debug, Default)]
pub(crate) struct Numbers([u64; FLOWS]);

impl Numbers {
    /// The next frame of `flow`.
    pub(crate) fn take(&mut self, flow: usize) -> u64 {
        self.0[flow] += 1;
        (self.0[flow] - 1) * FLOWS as u64 + flow as u64
    }

    /// Returns whether `number` was taken when `self` was as it is.
    pub(crate) fn include(&self, number: u64) -> bool {
        number / (FLOWS as u64) < self.0[flow_of(number)]
    }
}

impl Clone for Numbers {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

/// The kind of frame `number`.
fn kind_of(number: u64) -> usize {
    flow_of(number) % KINDS
}

/// The flow of `kind` in what the network of `pair` delivers.
pub(crate) fn flow_into(pair: usize, kind: usize) -> usize {
    pair * KINDS + kind
}

/// The flow of a frame.
pub(crate) fn flow_of(number: u64) -> usize {
    (number % FLOWS as u64) as usize
}

/// Number and length, and bytes made from them: `len` in all.
fn content(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len.max(TITLE)];
    bytes[..NUMBER].copy_from_slice(&number.to_le_bytes());
    bytes[NUMBER..TITLE].copy_from_slice(&(len as u16).to_le_bytes());
    bytes
}

/// Length of the payload of a frame in the flow of `number` that shall be of `len` bytes.
fn payload_len(number: u64, len: usize) -> usize {
    match kind_of(number) {
        PLAIN => len - 14,
        UDP => (len - SHORTEST) % LONGEST + TITLE,
        _ => SEGMENT,
    }
}

/// The packet of `number` with so many bytes of payload.
fn packet(number: u64, payload: &[u8], sums: Sums) -> Packet {
    let (flow, place) = (flow_of(number), number / FLOWS as u64);
    Packet {
        tcp: kind_of(number) != UDP,
        v6: kind_of(number) == TCP6,
        ports: (4000 + flow as u16, 5000),
        id: place as u16,
        seq: (place as u32).wrapping_mul(SEGMENT as u32),
        sums,
        ..Packet::udp(payload)
    }
}

/// Gives what lies behind a header the addresses of guest and peer.
fn address(mut bytes: Vec<u8>) -> Vec<u8> {
    let addresses = [GUEST_MAC, PEER_MAC].concat();
    bytes[HDR_LEN..HDR_LEN + 12].copy_from_slice(&addresses);
    bytes
}

/// Frame `number` of about `len` bytes for the guest, behind its header; its checksum is partial or
/// complete.
pub(crate) fn build(number: u64, len: usize, sums: Sums) -> Vec<u8> {
    behind_header(number, &content(number, payload_len(number, len)), sums)
}

fn behind_header(number: u64, payload: &[u8], sums: Sums) -> Vec<u8> {
    address(if kind_of(number) == PLAIN {
        let mut bytes = vec![0; HDR_LEN + 12];
        bytes.extend([0x88, 0xb5]);
        bytes.extend(payload);
        bytes
    } else {
        packet(number, payload, sums).bytes()
    })
}

/// The frames `numbers`, consecutive ones of a flow that can be cut, as one.
pub(crate) fn build_large(numbers: &[u64], len: usize) -> Vec<u8> {
    let parts = numbers
        .iter()
        .map(|number| content(*number, payload_len(*number, len)));
    let payload: Vec<u8> = parts.flatten().collect();
    let (first, size) = (numbers[0], payload.len() / numbers.len());
    let mut bytes = behind_header(first, &payload, Sums::Partial);
    let headers = (bytes.len() - HDR_LEN - payload.len()) as u16;
    bytes[1] = match kind_of(first) {
        UDP => gso::UDP_L4,
        TCP6 => gso::TCPV6,
        _ => gso::TCPV4,
    };
    bytes[2..4].copy_from_slice(&headers.to_le_bytes());
    bytes[4..6].copy_from_slice(&(size as u16).to_le_bytes());
    bytes
}

/// The hash of frame `number` by addresses and ports with `key`, if it is of a kind that has some.
pub(crate) fn hash(number: u64, key: &[u8]) -> Option<u32> {
    let input = match kind_of(number) {
        PLAIN => return None,
        TCP6 => 22..58,
        _ => 26..38,
    };
    let frame = build(number, SHORTEST, Sums::Partial).split_off(HDR_LEN);
    Some(toeplitz(key, &frame[input]))
}

/// Returns whether a device made this frame to announce its guest, a RARP request.
pub(crate) fn is_announcement(bytes: &[u8]) -> bool {
    bytes.get(HDR_LEN + 12..HDR_LEN + 14) == Some(&[0x80, 0x35])
}

/// Numbers of the frames that `bytes`, a header and a frame, mean on the wire.
///
/// # Errors
/// A byte of one is not as it was built.
pub(crate) fn numbers(bytes: &[u8]) -> Result<Vec<u64>, String> {
    if bytes[0] & !flags::NEEDS_CSUM == 0
        && bytes.get(HDR_LEN + 12..HDR_LEN + 14) == Some(&[0x88, 0xb5])
    {
        return Ok(vec![number(&bytes[HDR_LEN..])?]);
    }
    on_the_wire(bytes)
        .iter()
        .map(|frame| number(frame))
        .collect()
}

/// Offset of the payload of a frame, and of its transport's checksum.
fn places(frame: &[u8]) -> Option<(usize, usize)> {
    match (frame.get(12..14)?, frame.get(23)?, frame.get(20)?) {
        ([0x88, 0xb5], ..) => Some((14, frame.len())),
        ([8, 0], 17, _) => Some((42, 40)),
        ([8, 0], 6, _) => Some((54, 50)),
        ([0x86, 0xdd], _, 6) => Some((74, 70)),
        _ => None,
    }
}

/// The number of a frame without its header, whose checksum is complete.
fn number(frame: &[u8]) -> Result<u64, String> {
    let (payload, sum) = places(frame).ok_or("a frame of another kind")?;
    let title = frame.get(payload..payload + TITLE);
    let title = title.ok_or("a frame without a number")?;
    let (number, len) = title.split_at(NUMBER);
    let number = u64::from_le_bytes(number.try_into().map_err(|_| "no number")?);
    let len = usize::from(len[0]) | usize::from(len[1]) << 8;
    let whole = behind_header(number, &content(number, len), Sums::Complete);
    let whole = &whole[HDR_LEN..];
    let is_zero = |bytes: &[u8]| {
        let sum = bytes.get(sum..sum + 2);
        matches!(sum, Some([0, 0] | [0xff, 0xff]))
    };
    let mut bytes = frame.iter().zip(whole);
    match bytes.position(|(is, was)| is != was) {
        None if frame.len() == whole.len() => Ok(number),
        // Zero has two forms.
        Some(at) if at == sum && is_zero(frame) && is_zero(whole) => Ok(number),
        at => Err(format!(
            "frame {number} of {} bytes is damaged at {at:?}",
            frame.len()
        )),
    }
}
