//! Frames that carry their number, and nothing that was not made from it.

use net_queue::header::HDR_LEN;
use tests::testbed::{GUEST_MAC, PEER_MAC};

/// Ethernet header, number and length: the shortest frame that can be told.
pub(crate) const SHORTEST: usize = 60;
/// The longest frame here, a whole Ethernet frame.
pub(crate) const LONGEST: usize = 1514;

const NUMBER: usize = 14;
const LEN: usize = 22;
const FILL: usize = 24;

/// Frame `number` of `len` bytes for the guest, behind an empty header.
pub(crate) fn build(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; HDR_LEN + len];
    bytes[..HDR_LEN].fill(0);
    let frame = &mut bytes[HDR_LEN..];
    frame[..6].copy_from_slice(&GUEST_MAC);
    frame[6..12].copy_from_slice(&PEER_MAC);
    frame[12..NUMBER].copy_from_slice(&[0x88, 0xb5]);
    frame[NUMBER..LEN].copy_from_slice(&number.to_le_bytes());
    frame[LEN..FILL].copy_from_slice(&(len as u16).to_le_bytes());
    bytes
}

/// Returns whether a device made this frame to announce its guest, a RARP request.
pub(crate) fn is_announcement(bytes: &[u8]) -> bool {
    bytes.get(HDR_LEN + 12..HDR_LEN + 14) == Some(&[0x80, 0x35])
}

/// The number of the frame behind its header.
///
/// # Errors
/// A byte of it is not as it was built.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, String> {
    let frame = bytes.get(HDR_LEN..).unwrap_or_default();
    let number = frame.get(NUMBER..LEN).and_then(|b| b.try_into().ok());
    let number = u64::from_le_bytes(number.ok_or("a frame without a number")?);
    let len = usize::from(frame[LEN]) | usize::from(frame[LEN + 1]) << 8;
    if len != frame.len() {
        return Err(format!(
            "frame {number} has {} bytes, not {len}",
            frame.len()
        ));
    }
    let (to, from) = (&frame[..6], &frame[6..12]);
    let whole = to == GUEST_MAC && from == PEER_MAC && frame[12..NUMBER] == [0x88, 0xb5];
    match frame[FILL..].iter().position(|byte| *byte != number as u8) {
        None if whole => Ok(number),
        at => Err(format!(
            "frame {number} is damaged at {}",
            at.map_or(0, |at| FILL + at)
        )),
    }
}
