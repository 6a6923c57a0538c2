//! Outcome for a frame that is to be segmented: a whole checksum becomes partial, and a frame that
//! a driver does not take becomes segments. A model of its own, apart from the engines'.

use net_queue::Offloads;
use net_queue::header::{HdrError, HdrSize, NetHdr, RawHdr, RxRules, TxRules, flags, gso};

/// EtherType and offset of the packet, behind at most three tags.
pub fn packet(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    for _ in 0..3 {
        match frame.get(at..at + 2)? {
            [0x81, 0x00] | [0x88, 0xa8] => at += 4,
            _ => break,
        }
    }
    let kind = frame.get(at..at + 2)?;
    Some((u16::from(kind[0]) << 8 | u16::from(kind[1]), at + 2))
}

/// Makes the checksum of `bytes`, a frame behind a header of `size`, partial if it is to be
/// segmented and says where its checksum is; changes nothing if not.
pub fn begin_checksum(bytes: &mut [u8], size: usize) {
    let gso_type = bytes[1] & !gso::ECN;
    if bytes[0] & flags::NEEDS_CSUM != 0 || bytes[1] == gso::NONE {
        return;
    }
    let tcp = matches!(gso_type, gso::TCPV4 | gso::TCPV6);
    if let Some((start, end, pseudo)) = transport(&bytes[size..], gso_type, tcp) {
        let offset = if tcp { 16 } else { 6 };
        bytes[0] = flags::NEEDS_CSUM;
        for (at, value) in [(2, end), (6, start), (8, offset)] {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        let field = size + start + offset;
        bytes[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    }
}

/// Start and end of the transport header, and the sum of its pseudo header.
fn transport(frame: &[u8], gso_type: u8, tcp: bool) -> Option<(usize, usize, u16)> {
    let headers = headers(frame, gso_type, tcp)?;
    let segment = frame.len().checked_sub(headers.start)?;
    let said = word(frame, headers.start + 4)?;
    if headers.end > frame.len() || !tcp && said != segment {
        return None;
    }
    let protocol = if tcp { 6 } else { 17 };
    let sum = sum_of(&frame[headers.addresses.clone()]);
    let sum = fold(sum + protocol + (segment >> 16) + (segment & 0xffff));
    Some((headers.start, headers.end, sum as u16))
}

/// Places of a packet's headers.
struct Headers {
    v6: bool,
    ip: usize,
    addresses: std::ops::Range<usize>,
    start: usize,
    end: usize,
}

/// Finds them in the first 256 bytes of `frame`, as many as the gso type allows.
fn headers(frame: &[u8], gso_type: u8, tcp: bool) -> Option<Headers> {
    let protocol = if tcp { 6 } else { 17 };
    let head = &frame[..frame.len().min(256)];
    let (kind, ip) = packet(head)?;
    let v6 = kind == 0x86dd;
    let (start, addresses) = match (kind, gso_type) {
        (0x0800, gso::TCPV4 | gso::UDP | gso::UDP_L4) => {
            let header = head.get(ip..ip + 20)?;
            let len = 4 * usize::from(header[0] & 15);
            if header[0] < 0x45 || header[0] > 0x4f || header[9] != protocol {
                return None;
            }
            (ip + len, ip + 12..ip + 20)
        }
        (0x86dd, gso::TCPV6 | gso::UDP | gso::UDP_L4) => {
            let header = head.get(ip..ip + 40)?;
            let (mut next, mut start) = (header[6], ip + 40);
            while next != 6 && next != 17 {
                let more = head.get(start..start + 4)?;
                if !(matches!(next, 0 | 60) || next == 43 && more[3] == 0) {
                    return None;
                }
                (next, start) = (more[0], start + 8 + 8 * usize::from(more[1]));
            }
            (header[0] >> 4 == 6 && next == protocol).then_some((start, ip + 8..ip + 40))?
        }
        _ => return None,
    };
    let len = if tcp {
        let len = 4 * usize::from(head.get(start + 12)? >> 4);
        (len >= 20).then_some(len)?
    } else {
        8
    };
    (start + len <= head.len()).then_some(Headers {
        v6,
        ip,
        addresses,
        start,
        end: start + len,
    })
}

/// Frames that come of `bytes`, a frame behind a header of `size`, for a driver that takes
/// `offloads`: itself, or segments where the driver does not take it whole.
pub fn cut(bytes: &[u8], size: HdrSize, offloads: Offloads) -> Vec<Vec<u8>> {
    let whole = || vec![bytes.to_vec()];
    if bytes.len() < size.bytes() || is_taken(bytes, size, offloads) {
        return whole();
    }
    let mut bytes = bytes.to_vec();
    let rules = RxRules::new(Offloads::DONE_HERE);
    if checked(&bytes, size, rules) == Err(HdrError::GsoWithoutCsum) {
        begin_checksum(&mut bytes, size.bytes());
    }
    let Ok(header) = checked(&bytes, size, rules) else {
        return whole();
    };
    segments(&bytes[size.bytes()..], header, size, offloads).unwrap_or_else(whole)
}

/// Frames on the wire that `bytes`, a driver's frame behind a header of `size`, becomes under
/// `offloads`, and under `more` if it is cut; none if it is of no use.
pub fn transmitted(bytes: &[u8], size: HdrSize, on: Offloads, more: Offloads) -> Vec<Vec<u8>> {
    if bytes.len() < size.bytes() {
        return Vec::new();
    }
    let mut bytes = bytes.to_vec();
    let mut check = |offloads| {
        let rules = TxRules::new(offloads);
        let checked = |bytes: &[u8]| {
            let len = (bytes.len() - size.bytes()) as u32;
            NetHdr::check_tx(&raw(bytes, size), len, rules)
        };
        match checked(&bytes) {
            Err(HdrError::GsoWithoutCsum) => {
                begin_checksum(&mut bytes, size.bytes());
                checked(&bytes)
            }
            result => result,
        }
    };
    let (header, is_cut) = match check(on) {
        Err(HdrError::GsoNotNegotiated) => (check(on | more), true),
        result => (result, false),
    };
    let Ok(header) = header else {
        return Vec::new();
    };
    let frame = &bytes[size.bytes()..];
    if is_cut && segments(frame, header, size, Offloads::empty()).is_none() {
        return Vec::new();
    }
    on_the_wire(frame, header)
}

/// Frames that `frame` behind `header` is on the wire: cut, with complete checksums. What cannot be
/// cut is itself.
pub fn on_the_wire(frame: &[u8], header: NetHdr) -> Vec<Vec<u8>> {
    if header.gso_type() == gso::NONE {
        let mut frame = frame.to_vec();
        if header.flags() & flags::NEEDS_CSUM != 0 {
            let (start, offset) = (header.csum_start(), header.csum_offset());
            let segment = &mut frame[usize::from(start)..];
            let sum = !fold(sum_of(segment)) & 0xffff;
            put(segment, offset.into(), if sum == 0 { 0xffff } else { sum });
        }
        return vec![frame];
    }
    let cut = segments(frame, header, HdrSize::Base, Offloads::empty());
    let Some(mut cut) = cut else {
        return vec![frame.to_vec()];
    };
    for segment in &mut cut {
        segment.drain(..HdrSize::Base.bytes());
        // Zero has two forms, of which a checksum that was completed has the other.
        let field = usize::from(header.csum_start() + header.csum_offset());
        if word(segment, field) == Some(0) {
            put(segment, field, 0xffff);
        }
    }
    cut
}

/// Addresses and ports of a frame with its protocol; `None` where these cannot be told.
pub fn flow(frame: &[u8]) -> Option<Vec<u8>> {
    let places = [(gso::TCPV4, true), (gso::TCPV6, true), (gso::UDP_L4, false)]
        .into_iter()
        .find_map(|(gso_type, tcp)| headers(frame, gso_type, tcp).map(|places| (places, tcp)));
    let (places, tcp) = places?;
    if !places.v6 && word(frame, places.ip + 6)? & 0x3fff != 0 {
        return None;
    }
    let ports = &frame[places.start..places.start + 4];
    Some([&frame[places.addresses], ports, &[u8::from(tcp)]].concat())
}

/// Frees `frame` of what may change on the way: the identification of an IPv4 packet that is never
/// fragmented means nothing (RFC 6864).
pub fn without_atomic_id(mut frame: Vec<u8>) -> Vec<u8> {
    let Some((0x0800, ip)) = packet(&frame) else {
        return frame;
    };
    let end = ip + 4 * usize::from(frame.get(ip).copied().unwrap_or_default() & 15);
    let Some(header) = frame.get_mut(ip..end).filter(|header| header.len() >= 20) else {
        return frame;
    };
    let atomic = header[6] & 0x40 != 0 && header[6] & 0x3f == 0 && header[7] == 0;
    if atomic && fold(sum_of(header)) == 0xffff {
        put(header, 4, 0);
        put(header, 10, 0);
        let sum = !fold(sum_of(header));
        put(header, 10, sum);
    }
    frame
}

/// The header in front of `bytes`.
pub fn raw(bytes: &[u8], size: HdrSize) -> RawHdr {
    let mut raw = RawHdr::new(size);
    raw.as_mut_bytes().copy_from_slice(&bytes[..size.bytes()]);
    raw
}

fn checked(bytes: &[u8], size: HdrSize, rules: RxRules) -> Result<NetHdr, HdrError> {
    let len = (bytes.len() - size.bytes()) as u32;
    NetHdr::check_rx(&raw(bytes, size), len, rules)
}

/// Returns whether the driver takes it as it is, large or not.
fn is_taken(bytes: &[u8], size: HdrSize, offloads: Offloads) -> bool {
    let kind = packet(&bytes[size.bytes()..]).map(|(kind, _)| kind);
    match checked(bytes, size, RxRules::new(offloads)) {
        Err(HdrError::GsoNotNegotiated) => false,
        // One gso type for two families.
        Ok(_) | Err(HdrError::GsoWithoutCsum) if bytes[1] == gso::UDP_L4 => match kind {
            Some(0x0800) => offloads.contains(Offloads::USO4),
            Some(0x86dd) => offloads.contains(Offloads::USO6),
            _ => true,
        },
        _ => true,
    }
}

fn segments(
    frame: &[u8],
    header: NetHdr,
    size: HdrSize,
    offloads: Offloads,
) -> Option<Vec<Vec<u8>>> {
    let gso_type = header.gso_type() & !gso::ECN;
    let tcp = gso_type != gso::UDP_L4;
    let places = headers(frame, gso_type, tcp)?;
    let (head, payload) = frame.split_at_checked(places.end)?;
    let step = usize::from(header.gso_size());
    let longest = places.end - places.ip + payload.len().min(step);
    if places.start != usize::from(header.csum_start()) || longest > 0xffff {
        return None;
    }
    let count = payload.len().div_ceil(step).max(1);
    let partial = offloads.contains(Offloads::CSUM);
    let mut made = Vec::new();
    for index in 0..count {
        let part = &payload[index * step..payload.len().min((index + 1) * step)];
        let mut bytes = [head, part].concat();
        let packet = bytes.len() - places.ip;
        let (ip, rest) = bytes.split_at_mut(places.start);
        let ip = &mut ip[places.ip..];
        if places.v6 {
            put(ip, 4, packet - 40);
        } else {
            put(ip, 2, packet);
            put(ip, 4, word(ip, 4)? + index);
            put(ip, 10, 0);
            put(ip, 10, !fold(sum_of(ip)));
        }
        let said = word(rest, 4)?;
        let (before, field) = if tcp {
            let sequence = rest[4..8]
                .iter()
                .fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
            let sequence = sequence.wrapping_add((index * step) as u32);
            rest[4..8].copy_from_slice(&sequence.to_be_bytes());
            rest[13] &= if index == 0 { 0xff } else { 0x7f };
            rest[13] &= if index + 1 == count { 0xff } else { 0xf6 };
            (frame.len() - places.start, 16)
        } else {
            put(rest, 4, rest.len());
            (said, 6)
        };
        let pseudo = fold(word(rest, field)? + (1 << 32) - 1 - before + rest.len());
        put(rest, field, pseudo);
        if !partial {
            let sum = match !fold(sum_of(rest)) & 0xffff {
                0 if !tcp => 0xffff,
                sum => sum,
            };
            put(rest, field, sum);
        }
        let mut whole = vec![0; size.bytes()];
        if partial {
            whole[0] = flags::NEEDS_CSUM;
            whole[6..8].copy_from_slice(&header.csum_start().to_le_bytes());
            whole[8..10].copy_from_slice(&header.csum_offset().to_le_bytes());
        }
        whole.extend(bytes);
        made.push(whole);
    }
    Some(made)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 2)?;
    Some(usize::from(word[0]) << 8 | usize::from(word[1]))
}

fn put(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}

fn sum_of(bytes: &[u8]) -> usize {
    let words = bytes.chunks(2);
    words
        .map(|word| usize::from(word[0]) << 8 | word.get(1).copied().map_or(0, usize::from))
        .sum()
}

fn fold(sum: usize) -> usize {
    (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16))
}
