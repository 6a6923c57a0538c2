//! Hashes bit by bit, and headers by offsets, as the specification's text has them.

use super::{FrameHash, HASHED_HEAD, HashReport};

const REPORTS: [HashReport; 10] = [
    HashReport::None,
    HashReport::Ipv4,
    HashReport::Tcpv4,
    HashReport::Udpv4,
    HashReport::Ipv6,
    HashReport::Tcpv6,
    HashReport::Udpv6,
    HashReport::Ipv6Ex,
    HashReport::Tcpv6Ex,
    HashReport::Udpv6Ex,
];

fn key_bit(key: &[u8], bit: usize) -> bool {
    let bit_of = |byte: &u8| byte >> (7 - bit % 8) & 1 == 1;
    bit < 320 && key.get(bit / 8).is_some_and(bit_of)
}

fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let mut result = 0;
    for bit in 0..input.len() * 8 {
        if input[bit / 8] >> (7 - bit % 8) & 1 == 1 {
            for place in 0..32 {
                result ^= u32::from(key_bit(key, bit + place)) << (31 - place);
            }
        }
    }
    result
}

/// A reader of one frame that says where there is nothing.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from(self.byte(at)?) << 8 | u16::from(self.byte(at + 1)?))
    }

    fn all(&self, from: usize, to: usize) -> Option<Vec<u8>> {
        (from..to).map(|at| self.byte(at)).collect()
    }

    /// Number and ports of a whole transport header.
    fn transport(&self, protocol: u8, at: usize) -> Option<(u32, Vec<u8>)> {
        let (number, len) = match protocol {
            6 => (1, 20),
            17 => (2, 8),
            _ => return None,
        };
        self.all(at, at + len)?;
        Some((number, self.all(at, at + 4)?))
    }
}

/// The first report of the family that begins at `base` which is on and fits.
fn choose(
    bits: u32,
    base: u32,
    key: &[u8],
    addresses: &[u8],
    transport: Option<&(u32, Vec<u8>)>,
) -> Option<FrameHash> {
    let on = |number: u32| bits >> (number - 1) & 1 == 1;
    let mut input = addresses.to_vec();
    let number = match transport {
        Some((number, ports)) if on(base + number) => {
            input.extend(ports);
            base + number
        }
        _ if on(base) => base,
        _ => return None,
    };
    Some(FrameHash {
        value: toeplitz(key, &input),
        report: REPORTS[number as usize],
    })
}

pub(super) fn hash(bits: u32, key: &[u8], frame: &[u8]) -> FrameHash {
    let frame = Bytes(&frame[..frame.len().min(HASHED_HEAD)]);
    hashed(bits, key, &frame).unwrap_or(FrameHash::NONE)
}

fn hashed(bits: u32, key: &[u8], frame: &Bytes<'_>) -> Option<FrameHash> {
    let mut ip = 14;
    while ip < 26 && matches!(frame.word(ip - 2)?, 0x8100 | 0x88a8) {
        ip += 4;
    }
    match frame.word(ip - 2)? {
        0x0800 => ipv4(bits, key, frame, ip),
        0x86dd => ipv6(bits, key, frame, ip),
        _ => None,
    }
}

fn ipv4(bits: u32, key: &[u8], frame: &Bytes<'_>, ip: usize) -> Option<FrameHash> {
    let addresses = frame.all(ip + 12, ip + 20)?;
    let (first, fragment) = (frame.byte(ip)?, frame.word(ip + 6)?);
    if first >> 4 != 4 || first & 15 < 5 {
        return None;
    }
    let at = ip + usize::from(first & 15) * 4;
    let whole = fragment & 0x2000 == 0 && fragment & 0x1fff == 0;
    let transport = frame.transport(frame.byte(ip + 9)?, at).filter(|_| whole);
    choose(bits, 1, key, &addresses, transport.as_ref())
}

fn ipv6(bits: u32, key: &[u8], frame: &Bytes<'_>, ip: usize) -> Option<FrameHash> {
    let plain = frame.all(ip + 8, ip + 40)?;
    if frame.byte(ip)? >> 4 != 6 {
        return None;
    }
    let (mut kind, mut at) = (frame.byte(ip + 6)?, ip + 40);
    let (mut source, mut destination) = (None, None);
    let (mut extensions, mut whole) = (0, true);
    while let Some(units) = frame.all(at, at + 4).map(|header| usize::from(header[1])) {
        let len = match kind {
            0 | 43 | 60 | 135 | 139 | 140 => 8 + 8 * units,
            44 => 8,
            51 => 8 + 4 * units,
            _ => break,
        };
        extensions += 1;
        let fragment = kind == 44 && frame.word(at + 2)? & 0xfff9 != 0;
        if fragment || frame.all(at, at + len).is_none() {
            whole = false;
            break;
        }
        if kind == 43 && len == 24 && frame.byte(at + 2) == Some(2) && frame.byte(at + 3) == Some(1)
        {
            destination = destination.or(frame.all(at + 8, at + 24));
        }
        if kind == 60 {
            source = source.or(option(frame, at + 2, at + len));
        }
        (kind, at) = (frame.byte(at)?, at + len);
    }
    let transport = frame.transport(kind, at).filter(|_| whole);
    let mut named = source.unwrap_or(plain[..16].to_vec());
    named.extend(destination.unwrap_or(plain[16..].to_vec()));
    let extended = (extensions > 0).then(|| choose(bits, 7, key, &named, transport.as_ref()));
    extended
        .flatten()
        .or_else(|| choose(bits, 4, key, &plain, transport.as_ref()))
}

/// The home address among the options from `at` to `end`.
fn option(frame: &Bytes<'_>, mut at: usize, end: usize) -> Option<Vec<u8>> {
    while at < end {
        if frame.byte(at)? == 0 {
            at += 1;
            continue;
        }
        let len = usize::from(frame.byte(at + 1).filter(|_| at + 1 < end)?);
        if at + 2 + len > end {
            return None;
        }
        if frame.byte(at)? == 0xc9 && len == 16 {
            return frame.all(at + 2, at + 18);
        }
        at += 2 + len;
    }
    None
}
