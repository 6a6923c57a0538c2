//! See `fuzz::snapshot`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::snapshot::TARGET);
