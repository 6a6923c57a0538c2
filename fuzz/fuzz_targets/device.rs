//! See `fuzz::device`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::device::TARGET);
