//! See `fuzz::hdr`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::hdr::TARGET);
