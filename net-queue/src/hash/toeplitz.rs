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

use super::carryless::{Multiplier, USUAL_WORDS};

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
    /// The table for `key`. One that is shorter than what an input can reach goes on with zeros; a
    /// longer one is not read to its end.
    pub(super) fn new(key: &[u8]) -> Self {
        let mut bits = [0; KEY + 4];
        let len = key.len().min(KEY);
        bits[..len].copy_from_slice(&key[..len]);
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

    /// The same as on a processor that does not multiply so.
    #[cfg(test)]
    pub(super) fn without_multiplier(self) -> Self {
        Self {
            multiplier: None,
            ..self
        }
    }

    /// For each byte of the input the rows of its upper and its lower half.
    pub(super) fn rows(&self) -> &[[[u32; 16]; 2]; INPUT] {
        &self.rows
    }

    /// Keys of the words of an input of `len` bytes, and zeros for those behind it.
    pub(super) fn usual_keys(&self, len: usize) -> [u64; USUAL_WORDS] {
        let mut keys = [0; USUAL_WORDS];
        let words = (len / 4).min(WORDS);
        keys[..words].copy_from_slice(&self.keys[..words]);
        keys
    }

    /// The hash of the first `len` bytes of `input`, whose `keys` these are; at most sixteen
    /// unless it is `long`.
    #[inline]
    pub(super) fn hash_usual(
        &self,
        keys: &[u64; USUAL_WORDS],
        input: &[u8; 4 * USUAL_WORDS],
        len: usize,
        long: bool,
    ) -> u32 {
        match self.multiplier {
            Some(multiplier) => multiplier.hash_usual(keys, input, long),
            None => self.look_up(0, &input[..len]),
        }
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
