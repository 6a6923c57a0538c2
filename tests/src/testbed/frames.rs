//! Frames that say whom they are for.

use net_queue::header::HDR_LEN;
use net_queue::testing::Random;

/// The guest's address in most tests.
pub const GUEST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Somebody else's.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Everybody's.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// A frame of `len` bytes for the guest behind an empty header; `seed` decides its content.
#[must_use]
pub fn frame(len: usize, seed: u64) -> Vec<u8> {
    frame_to(GUEST_MAC, len, seed)
}

/// A frame of `len` bytes for `to` behind an empty header.
#[must_use]
pub fn frame_to(to: [u8; 6], len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; HDR_LEN];
    bytes.extend(Random::new(seed).bytes(len));
    let frame = &mut bytes[HDR_LEN..];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&PEER_MAC);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes
}

/// A frame for the guest in VLAN `id`.
#[must_use]
pub fn tagged(id: u16, seed: u64) -> Vec<u8> {
    let mut bytes = frame(64, seed);
    bytes[HDR_LEN + 12..HDR_LEN + 14].copy_from_slice(&[0x81, 0x00]);
    bytes[HDR_LEN + 14..HDR_LEN + 16].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// The frame behind its header.
#[must_use]
pub fn body(bytes: &[u8]) -> &[u8] {
    &bytes[HDR_LEN..]
}
