//! Carry-less multiplication on x86-64.
#![allow(unsafe_code)]

use std::arch::x86_64 as x86;
use std::arch::x86_64::__m128i;

use crate::hash::types::FrameHash;
use crate::hash::usual_flow::{USUAL_HEAD, UsualFlow, UsualInput, UsualKind, UsualKinds};

/// The processor multiplies so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Multiplier(());

impl Multiplier {
    /// The processor's, if it has one.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("pclmulqdq") && is_x86_feature_detected!("ssse3");
        has.then_some(Self(()))
    }

    /// The hash of `input` in words, each with the 64 bits of the key from the word's place on, in
    /// reverse.
    #[inline]
    pub(crate) fn hash(self, keys: &[u64], input: &[u8]) -> u32 {
        // SAFETY: `detect` alone makes a `Multiplier`, where the processor has the instruction.
        let sum = unsafe { sum_of_products(keys, input) };
        ((sum >> 31) as u32).reverse_bits()
    }

    /// The hash of a frame of `len` bytes that begins with `head`, by its kind, if it is a usual
    /// one.
    #[inline]
    pub(crate) fn hash_usual(
        self,
        kinds: &UsualKinds,
        head: &[u8; USUAL_HEAD],
        len: usize,
    ) -> Option<FrameHash> {
        // SAFETY: as above.
        unsafe { hash_usual(kinds, head, len) }
    }
}

/// The lower halves of the products of each word of `input` with its key, added up.
#[target_feature(enable = "pclmulqdq")]
fn sum_of_products(keys: &[u64], input: &[u8]) -> u64 {
    let words = input.as_chunks::<4>().0;
    let sum = keys
        .iter()
        .zip(words)
        .fold(x86::_mm_setzero_si128(), |sum, (key, word)| {
            let word = x86::_mm_cvtsi64_si128(u32::from_be_bytes(*word).into());
            let key = x86::_mm_cvtsi64_si128(key.cast_signed());
            x86::_mm_xor_si128(sum, x86::_mm_clmulepi64_si128::<0>(key, word))
        });
    x86::_mm_cvtsi128_si64(sum).cast_unsigned()
}

/// Implements [`Multiplier::hash_usual`]: one function, without a loop, whose end is guessed wrong
/// when the processor has forgotten it over a system call.
#[target_feature(enable = "pclmulqdq,ssse3")]
#[inline]
fn hash_usual(kinds: &UsualKinds, head: &[u8; USUAL_HEAD], len: usize) -> Option<FrameHash> {
    let UsualFlow { kind, input } = UsualFlow::of(head, len)?;
    let kind = &kinds[kind];
    let reversed = match input {
        UsualInput::V4(addresses, ports) => hash_ipv4(kind, addresses, ports),
        UsualInput::V6(addresses, ports) => hash_ipv6(kind, addresses, ports),
    };
    Some(FrameHash {
        value: reversed.reverse_bits(),
        report: kind.report,
    })
}

/// The hash of two addresses of four bytes and ports, its bits in reverse.
#[target_feature(enable = "pclmulqdq,ssse3")]
#[inline]
fn hash_ipv4(kind: &UsualKind, addresses: &[u8; 8], ports: &[u8; 4]) -> u32 {
    let addresses = x86::_mm_cvtsi64_si128(i64::from_be_bytes(*addresses));
    let ports = masked(kind, ports);
    let keys = load(&kind.key[0]);
    let here = [
        x86::_mm_clmulepi64_si128::<0x00>(keys, addresses),
        x86::_mm_clmulepi64_si128::<0x01>(keys, ports),
    ];
    let behind = [x86::_mm_clmulepi64_si128::<0x01>(keys, addresses)];
    reversed(here, behind)
}

/// The same of two addresses of sixteen bytes and ports.
#[target_feature(enable = "pclmulqdq,ssse3")]
#[inline]
fn hash_ipv6(kind: &UsualKind, addresses: &[[u8; 16]; 2], ports: &[u8; 4]) -> u32 {
    // Words as numbers: the first byte is the most significant one.
    let order = x86::_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    let [source, destination] = addresses;
    let source = x86::_mm_shuffle_epi8(load(source), order);
    let destination = x86::_mm_shuffle_epi8(load(destination), order);
    let ports = masked(kind, ports);
    let [first, second, third] = &kind.key;
    let (first, second, third) = (load(first), load(second), load(third));
    let here = [
        x86::_mm_clmulepi64_si128::<0x00>(first, source),
        x86::_mm_clmulepi64_si128::<0x11>(first, source),
        x86::_mm_clmulepi64_si128::<0x00>(second, destination),
        x86::_mm_clmulepi64_si128::<0x11>(second, destination),
        x86::_mm_clmulepi64_si128::<0x00>(third, ports),
    ];
    let behind = [
        x86::_mm_clmulepi64_si128::<0x01>(first, source),
        x86::_mm_clmulepi64_si128::<0x10>(second, source),
        x86::_mm_clmulepi64_si128::<0x01>(second, destination),
        x86::_mm_clmulepi64_si128::<0x10>(third, destination),
    ];
    reversed(here, behind)
}

/// Ports as the upper half of a word, if they count.
#[target_feature(enable = "sse2")]
#[inline]
fn masked(kind: &UsualKind, ports: &[u8; 4]) -> __m128i {
    let word = u64::from(u32::from_le_bytes(*ports)).swap_bytes() & kind.ports;
    x86::_mm_cvtsi64_si128(word.cast_signed())
}

/// The hash, its bits in reverse, from the products of words of 64 bits: of each word with the key
/// from its place on (`here`), and with the next 64 bits of it (`behind`). It is bits 64 to 95 of
/// the product with both.
#[target_feature(enable = "sse2")]
#[inline]
fn reversed<const N: usize, const M: usize>(here: [__m128i; N], behind: [__m128i; M]) -> u32 {
    let here = x86::_mm_srli_si128::<8>(sum(here));
    x86::_mm_cvtsi128_si32(x86::_mm_xor_si128(here, sum(behind))).cast_unsigned()
}

#[target_feature(enable = "sse2")]
#[inline]
fn sum<const N: usize>(products: [__m128i; N]) -> __m128i {
    let zero = x86::_mm_setzero_si128();
    products
        .iter()
        .fold(zero, |sum, it| x86::_mm_xor_si128(sum, *it))
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: there are as many bytes, and this is the load without alignment.
    unsafe { x86::_mm_loadu_si128(bytes.as_ptr().cast()) }
}
