//! See `fuzz::vhost_user`.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_main!(fuzz::vhost_user::TARGET);
