//! The Toeplitz hash. VirtIO 1.4 §5.1.9.4.3 (NET-MQ-12).
//!
//! The hash is the exclusive or of one window of 32 bits of the key for each bit of the input that
//! is set; the window of bit `n` begins at bit `n` of the key. So the parts that bits contribute
//! can be added up in any order, and those of four neighbouring bits are one row of a table:
//!
//! ```text
//!   input   0110 1001 ...         hash = rows[0][0b0110] ^ rows[1][0b1001] ^ ...
//! ```
//!
//! A row for each byte instead would take 36 KiB, which is all that a first-level cache has.
//!
//! Where the processor multiplies without carries the table is not looked at: a system call for
//! each frame leaves little of it in the cache.

use super::carryless::Multiplier;

/// Bytes of the longest input: two IPv6 addresses and two ports.
pub(super) const INPUT: usize = 36;
/// Bytes of the key that such an input can reach.
pub(super) const KEY: usize = INPUT + 4;

/// Words of the longest input.
const WORDS: usize = INPUT / 4;

/// Table of what each half of each byte of the input contributes, and the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toeplitz {
    /// For each byte of the input the rows of its upper and its lower half.
    rows: Box<[[[u32; 16]; 2]; INPUT]>,
    /// The 64 bits of the key from each word of the input on, in reverse.
    keys: [u64; WORDS],
    multiplier: Option<Multiplier>,
}

impl Toeplitz {
    /// The table for `key`.
    pub(super) fn new(key: &[u8; KEY]) -> Self {
        let mut bits = [0; KEY + 4];
        bits[..KEY].copy_from_slice(key);
        let mut rows = Box::new([[[0; 16]; 2]; INPUT]);
        for (byte, halves) in rows.iter_mut().enumerate() {
            let [a, b, c, d, e, ..] = bits[byte..] else {
                continue;
            };
            let window = u64::from_be_bytes([a, b, c, d, e, 0, 0, 0]);
            for (half, row) in halves.iter_mut().enumerate() {
                for (value, entry) in row.iter_mut().enumerate() {
                    let set = (0..4).filter(|bit| value << bit & 8 != 0);
                    let windows = set.map(|bit| (window << (4 * half + bit) >> 32) as u32);
                    *entry = windows.fold(0, |sum, window| sum ^ window);
                }
            }
        }
        let keys = std::array::from_fn(|word| {
            let bytes = bits[4 * word..].first_chunk();
            u64::from_be_bytes(*bytes.unwrap_or(&[0; 8])).reverse_bits()
        });
        Self {
            rows,
            keys,
            multiplier: Multiplier::detect(),
        }
    }

    /// For each byte of the input the rows of its upper and its lower half.
    pub(super) fn rows(&self) -> &[[[u32; 16]; 2]; INPUT] {
        &self.rows
    }

    /// The part of `bytes` at offset `at` of the input, which both are multiples of four long. What
    /// lies beyond the longest input contributes nothing.
    #[inline]
    pub(super) fn part(&self, at: usize, bytes: &[u8]) -> u32 {
        debug_assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4));
        match self.multiplier {
            Some(multiplier) => {
                let keys = self.keys.get(at / 4..).unwrap_or_default();
                multiplier.hash(keys, bytes)
            }
            None => self.look_up(at, bytes),
        }
    }

    /// The same by the table.
    #[inline(never)]
    pub(super) fn look_up(&self, at: usize, bytes: &[u8]) -> u32 {
        let rows = self.rows.get(at..).unwrap_or_default();
        let parts = rows.iter().zip(bytes).map(|([upper, lower], byte)| {
            upper[usize::from(byte >> 4)] ^ lower[usize::from(byte & 15)]
        });
        parts.fold(0, |sum, part| sum ^ part)
    }
}
