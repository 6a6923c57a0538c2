//! See `fuzz::tx_rx`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::tx_rx::TARGET);
