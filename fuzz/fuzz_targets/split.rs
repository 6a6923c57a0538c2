//! See `fuzz::split`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::split::TARGET);
