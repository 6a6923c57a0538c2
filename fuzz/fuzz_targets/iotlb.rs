//! See `fuzz::iotlb`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::iotlb::TARGET);
