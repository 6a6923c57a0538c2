//! Bytes of a saved state that somebody has changed.

use snapshot::Snapshot;
use snapshot::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use snapshot::state::NetState;

/// The checksum of one byte, CRC-32 of IEEE 802.3.
const fn of_byte(byte: u32) -> u32 {
    let (mut crc, mut bit) = (byte, 0);
    while bit < 8 {
        crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        bit += 1;
    }
    crc
}

/// The same of each byte.
static TABLE: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        table[byte] = of_byte(byte as u32);
        byte += 1;
    }
    table
};

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = !0;
    for byte in parts.iter().copied().flatten() {
        crc = crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
    }
    !crc
}

/// Makes length and checksum of a saved state good again.
///
/// # Panics
/// It has no whole header.
#[must_use]
pub fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let len = (file.len() - HEADER_LEN) as u32;
    file[12..16].copy_from_slice(&len.to_le_bytes());
    let crc = crc32(&[&file[..16], &file[HEADER_LEN..]]);
    file[16..20].copy_from_slice(&crc.to_le_bytes());
    file
}

/// Fills one list of a state with 512 elements.
pub type Fill = fn(&mut NetState);

/// A state whose list, which `fill` fills with 512 elements, goes on to the longest payload or to
/// `most` elements.
///
/// # Panics
/// `fill` fills no list, or more than one.
#[must_use]
pub fn endless(fill: Fill, most: usize) -> Vec<u8> {
    let seal = |state: &NetState| Snapshot::seal(state).expect("within bounds").into_bytes();
    let mut state = NetState::default();
    let empty = seal(&state);
    fill(&mut state);
    let full = seal(&state);
    // The second byte of the length is the first that differs; the elements are behind the eighth.
    let differs = (HEADER_LEN..empty.len()).find(|at| empty[*at] != full[*at]);
    let start = differs.expect("a length differs") - 1;
    let element = (full.len() - empty.len()) / 512;
    let (before, rest) = full.split_at(start + 8);
    let (elements, after) = rest.split_at(512 * element);
    let count = most.min((MAX_PAYLOAD_LEN - empty.len()) / element);
    let mut file = before.to_vec();
    file.extend(elements.iter().cycle().take(count * element));
    file.extend(after);
    file[start..start + 8].copy_from_slice(&(count as u64).to_le_bytes());
    reseal(file)
}
