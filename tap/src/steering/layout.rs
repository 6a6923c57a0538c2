//! The map that the program reads, in words of 32 bits: which of two sets of rules is in force, and
//! the two sets.
//!
//! ```text
//!   | in force, unused | types, unclassified, table, rows | types, unclassified, table, rows |
//! ```

/// Entries of the table that a hash is looked up in.
pub const QUEUES: usize = 128;
/// Bytes of the longest input of a hash: two IPv6 addresses and two ports.
pub const INPUT: usize = 36;

/// Words in front of the rules.
pub(super) const HEADER: usize = 2;

// Words of a set of rules.
pub(super) const TYPES: usize = 0;
pub(super) const UNCLASSIFIED: usize = 1;
pub(super) const TABLE: usize = 2;
pub(super) const ROWS: usize = TABLE + QUEUES;
pub(super) const RULES: usize = ROWS + INPUT * 2 * 16;

/// Words of the whole map.
pub(super) const ALL: usize = HEADER + 2 * RULES;

// Addresses are made by offsets of 16 bits, and the kernel aligns values to 8 bytes.
const _: () = assert!(RULES * 4 < i16::MAX as usize && ALL.is_multiple_of(2));

/// First word of the row for half a byte of the input: the upper half is 0, the lower one 1.
pub(super) const fn row(byte: usize, half: usize) -> usize {
    ROWS + (2 * byte + half) * 16
}

/// Bytes of so many words.
pub(super) const fn bytes(words: usize) -> i32 {
    (words * 4) as i32
}

/// The same as an offset.
pub(super) const fn offset(words: usize) -> i16 {
    (words * 4) as i16
}
