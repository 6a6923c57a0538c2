//! The Toeplitz hash, bit by bit, as VirtIO 1.4 §5.1.9.4.3 defines it (NET-MQ-12).

/// The hash of `input` with `key`, which goes on with zeros.
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| {
        let byte = bytes.get(at / 8).copied().unwrap_or(0);
        u32::from(byte >> (7 - at % 8) & 1)
    };
    let window = |at: usize| (0..32).fold(0, |sum, place| sum << 1 | bit(key, at + place));
    let set = (0..input.len() * 8).filter(|at| bit(input, *at) == 1);
    set.fold(0, |sum, at| sum ^ window(at))
}
