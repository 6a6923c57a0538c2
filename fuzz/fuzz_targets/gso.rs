//! See `fuzz::gso`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::gso::TARGET);
