//! The map that the program reads, in words of 32 bits: the number of changes, whose lowest bit is
//! the set of rules in force, what was dropped, and the two sets.
//!
//! ```text
//!   | changes, unused, dropped (64 bits) | verdicts, VLANs, addresses | verdicts, VLANs, addresses |
//! ```

/// Most addresses that rules can list.
pub const ADDRESSES: usize = 255;

/// Words in front of the rules.
pub(super) const HEADER: usize = 4;
/// First of the two words that count dropped frames.
pub(super) const DROPPED: usize = 2;

// Words of a set of rules.
pub(super) const BROADCAST: usize = 0;
pub(super) const MULTICAST: usize = 1;
pub(super) const UNICAST: usize = 2;
/// 0: tags do not matter.
pub(super) const TAGS_MATTER: usize = 3;
/// A bit for each VLAN.
pub(super) const VLANS: usize = 4;
pub(super) const VLAN_WORDS: usize = 4096 / 32;
/// [Keys](key) of addresses in ascending order, of 64 bits each, and [`NO_KEY`] behind them.
pub(super) const KEYS: usize = VLANS + VLAN_WORDS;
pub(super) const RULES: usize = KEYS + 2 * (ADDRESSES + 1);

/// Words of the whole map.
pub(super) const ALL: usize = HEADER + 2 * RULES;

/// A key above that of any address.
pub(super) const NO_KEY: u64 = u64::MAX >> 1;

// Addresses are made by offsets of 16 bits, and the kernel wants 64 bits aligned. The search looks
// at one entry less than a power of two.
const _: () = assert!(RULES * 4 < i16::MAX as usize && (ADDRESSES + 1).is_power_of_two());
const _: () =
    assert!(KEYS.is_multiple_of(2) && RULES.is_multiple_of(2) && DROPPED.is_multiple_of(2));

/// An address as the number by which the program knows it: its first four bytes and the others as
/// loads give them.
pub(super) fn key(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from(u32::from_ne_bytes([a, b, c, d])) << 16 | u64::from(u16::from_ne_bytes([e, f]))
}

/// Bytes of so many words, as an offset.
pub(super) const fn offset(words: usize) -> i16 {
    (words * 4) as i16
}

/// Offset of a key.
pub(super) const fn key_offset(index: usize) -> i16 {
    offset(KEYS + 2 * index)
}
