//! The Toeplitz hash by carry-less multiplication, as processors have it for checksums and ciphers.
//!
//! To add up windows of a key, one for each bit that is set, is to multiply without carries: bit
//! `n` of a word, counted from its most significant one, contributes bits `n` to `n + 31` of the
//! key that begins with it. With the bits of the key in reverse these are its lowest 32 bits after
//! a shift by `n` to the right, and so bits 31 to 62 of its product with the word.
#![allow(unsafe_code)]

/// Words that are read of the usual packets' input: two blocks of four and what is left.
pub(super) const USUAL_WORDS: usize = 12;

/// The processor multiplies so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiplier(());

#[cfg(target_arch = "x86_64")]
impl Multiplier {
    /// The processor's, if it has one.
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("ssse3");
        has.then_some(Self(()))
    }

    /// The hash of `input` in words, each with the 64 bits of the key from the word's place on, in
    /// reverse.
    #[inline]
    pub(super) fn hash(self, keys: &[u64], input: &[u8]) -> u32 {
        // SAFETY: `detect` alone makes a `Multiplier`, where the processor has the instruction.
        let sum = unsafe { sum_of_products(keys, input) };
        ((sum >> 31) as u32).reverse_bits()
    }

    /// The same of an input that is read by four words: of all twelve if it is `long`, otherwise of
    /// the first four. Words behind its end have keys of zero.
    ///
    /// Without a loop, whose end is guessed wrong when the processor has forgotten it over a
    /// system call.
    #[inline]
    pub(super) fn hash_usual(
        self,
        keys: &[u64; USUAL_WORDS],
        input: &[u8; 4 * USUAL_WORDS],
        long: bool,
    ) -> u32 {
        // SAFETY: as above.
        let sum = unsafe { sum_of_blocks(keys, input, long) };
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

/// The same for blocks of four words.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq,ssse3")]
#[inline]
fn sum_of_blocks(keys: &[u64; USUAL_WORDS], input: &[u8; 4 * USUAL_WORDS], long: bool) -> u64 {
    use std::arch::x86_64::{_mm_cvtsi128_si64, _mm_xor_si128};
    let keys = keys.as_chunks::<4>().0;
    let blocks = input.as_chunks::<16>().0;
    let mut sum = sum_of_block(&keys[0], &blocks[0]);
    if long {
        let more = sum_of_block(&keys[1], &blocks[1]);
        let last = sum_of_block(&keys[2], &blocks[2]);
        sum = _mm_xor_si128(sum, _mm_xor_si128(more, last));
    }
    _mm_cvtsi128_si64(sum).cast_unsigned()
}

/// The products of the words of `block` with their keys, added up.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "pclmulqdq,ssse3")]
#[inline]
fn sum_of_block(keys: &[u64; 4], block: &[u8; 16]) -> std::arch::x86_64::__m128i {
    use std::arch::x86_64::{
        _mm_clmulepi64_si128, _mm_loadu_si128, _mm_set_epi8, _mm_setzero_si128, _mm_shuffle_epi8,
        _mm_unpackhi_epi32, _mm_unpacklo_epi32, _mm_xor_si128,
    };
    // SAFETY: both are read from arrays that are as long, by loads without alignment.
    let (block, first, second) = unsafe {
        (
            _mm_loadu_si128(block.as_ptr().cast()),
            _mm_loadu_si128(keys.as_ptr().cast()),
            _mm_loadu_si128(keys.as_ptr().add(2).cast()),
        )
    };
    let swapped = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    let words = _mm_shuffle_epi8(block, swapped);
    let low = _mm_unpacklo_epi32(words, _mm_setzero_si128());
    let high = _mm_unpackhi_epi32(words, _mm_setzero_si128());
    let a = _mm_clmulepi64_si128::<0x00>(first, low);
    let b = _mm_clmulepi64_si128::<0x11>(first, low);
    let c = _mm_clmulepi64_si128::<0x00>(second, high);
    let d = _mm_clmulepi64_si128::<0x11>(second, high);
    _mm_xor_si128(_mm_xor_si128(a, b), _mm_xor_si128(c, d))
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

    /// Not called either.
    pub(super) fn hash_usual(
        self,
        _: &[u64; USUAL_WORDS],
        _: &[u8; 4 * USUAL_WORDS],
        _: bool,
    ) -> u32 {
        0
    }
}
