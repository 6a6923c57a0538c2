//! See `fuzz::packed`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::packed::TARGET);
