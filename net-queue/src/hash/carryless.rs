//! The Toeplitz hash by carry-less multiplication, as processors have it for checksums and ciphers.
//!
//! To add up windows of a key, one for each bit that is set, is to multiply without carries: bit
//! `n` of a word, counted from its most significant one, contributes bits `n` to `n + 31` of the
//! key that begins with it. With the bits of the key in reverse these are its lowest 32 bits after
//! a shift by `n` to the right. So the hash in reverse is bits 31 to 62 of the product of a word of
//! 32 bits with the 64 bits of the key from its place on; of a word of 64 bits, with a key that
//! begins one bit later, bits 64 to 95.

#[cfg(not(target_arch = "x86_64"))]
mod other;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use other::Multiplier;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::Multiplier;
