//! See `fuzz::ctrl`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::ctrl::TARGET);
