//! The Toeplitz hash by carry-less multiplication, as processors have it for checksums and ciphers.
//!
//! To add up windows of a key, one for each bit that is set, is to multiply without carries: bit
//! `n` of a word, counted from its most significant one, contributes bits `n` to `n + 31` of the
//! key that begins with it. With the bits of the key in reverse these are its lowest 32 bits after
//! a shift by `n` to the right, and so bits 31 to 62 of its product with the word.
#![allow(unsafe_code)]

/// The processor multiplies so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiplier(());

#[cfg(target_arch = "x86_64")]
impl Multiplier {
    /// The processor's, if it has one.
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("pclmulqdq").then_some(Self(()))
    }

    /// The hash of `input` in words, each with the 64 bits of the key from the word's place on, in
    /// reverse.
    #[inline]
    pub(super) fn hash(self, keys: &[u64], input: &[u8]) -> u32 {
        // SAFETY: `detect` alone makes a `Multiplier`, where the processor has the instruction.
        let sum = unsafe { sum_of_products(keys, input) };
        ((sum >> 31) as u32).reverse_bits()
    }
}

/// The lower halves of the products of each word of `input` with its key, added up.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq")]
fn sum_of_products(keys: &[u64], input: &[u8]) -> u64 {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_setzero_si128,
        _mm_xor_si128,
    };
    let words = input.as_chunks::<4>().0;
    let sum = keys
        .iter()
        .zip(words)
        .fold(_mm_setzero_si128(), |sum, (key, word)| {
            let word = _mm_cvtsi64_si128(u32::from_be_bytes(*word).into());
            let key = _mm_cvtsi64_si128(key.cast_signed());
            _mm_xor_si128(sum, _mm_clmulepi64_si128::<0>(key, word))
        });
    _mm_cvtsi128_si64(sum).cast_unsigned()
}

#[cfg(not(target_arch = "x86_64"))]
impl Multiplier {
    /// No other processor is asked.
    pub(super) fn detect() -> Option<Self> {
        None
    }

    /// Not called, since there is none.
    pub(super) fn hash(self, _: &[u64], _: &[u8]) -> u32 {
        0
    }
}
