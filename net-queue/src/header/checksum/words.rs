//! Sums of many words, as wide as the processor adds.
#![allow(unsafe_code)]

/// From how many words on it is worth asking what the processor can do.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 32;

/// The sum of `words`, fewer than 2^32, as this host reads them.
#[inline]
pub(super) fn sum(words: &[[u8; 4]]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if words.len() >= WIDE && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        return unsafe { sum_wide(words) };
    }
    sum_plain(words)
}

#[inline(always)]
fn sum_plain(words: &[[u8; 4]]) -> u64 {
    words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum()
}

/// The same, which the compiler makes of more words at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_wide(words: &[[u8; 4]]) -> u64 {
    sum_plain(words)
}
