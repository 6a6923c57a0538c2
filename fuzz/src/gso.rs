//! Outcome for a frame that is to be segmented and has a whole checksum: a model of its own, apart
//! from the engines'.

use net_queue::header::{flags, gso};

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
    let protocol = if tcp { 6 } else { 17 };
    let head = &frame[..frame.len().min(256)];
    let (kind, at) = packet(head)?;
    let (start, addresses) = match (kind, gso_type) {
        (0x0800, gso::TCPV4 | gso::UDP | gso::UDP_L4) => {
            let header = head.get(at..at + 20)?;
            let len = 4 * usize::from(header[0] & 15);
            if header[0] < 0x45 || header[0] > 0x4f || header[9] != protocol {
                return None;
            }
            (at + len, &header[12..20])
        }
        (0x86dd, gso::TCPV6 | gso::UDP | gso::UDP_L4) => {
            let header = head.get(at..at + 40)?;
            let (mut next, mut start) = (header[6], at + 40);
            while next != protocol {
                let more = head.get(start..start + 4)?;
                if !(matches!(next, 0 | 60) || next == 43 && more[3] == 0) {
                    return None;
                }
                (next, start) = (more[0], start + 8 + 8 * usize::from(more[1]));
            }
            (header[0] >> 4 == 6).then_some((start, &header[8..40]))?
        }
        _ => return None,
    };
    let segment = frame.len().checked_sub(start)?;
    let len = if tcp {
        let len = 4 * usize::from(head.get(start + 12)? >> 4);
        (len >= 20).then_some(len)?
    } else {
        let said = head.get(start + 4..start + 6)?;
        let said = usize::from(said[0]) << 8 | usize::from(said[1]);
        (said == segment && segment >= 8).then_some(8)?
    };
    if len > segment || start + len > head.len() {
        return None;
    }
    let words = addresses.chunks(2);
    let sum: usize = words
        .map(|word| usize::from(word[0]) << 8 | usize::from(word[1]))
        .sum();
    let sum = sum + usize::from(protocol) + (segment >> 16) + (segment & 0xffff);
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    Some((start, start + len, folded as u16))
}
