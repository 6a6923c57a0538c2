//! Fuzz targets as plain functions.
//!
//! A target takes bytes and panics when a promise of the device is broken. Three things call it:
//!
//! * libFuzzer, through `fuzz_targets/<name>.rs`, on nightly:
//!   `./ci.sh fuzz`, which unpacks the archives of `corpus` first; rings take `-max_len=1024` well;
//! * `tests/replay.rs`, on stable: `cargo test --manifest-path fuzz/Cargo.toml`, over every file of
//!   `seeds` and `regressions`, and every input in an archive of `corpus`;
//! * the same binaries on stable, with files as arguments, to look at one input.
//!
//! `seeds/` is written by `SEEDS=write cargo test --manifest-path fuzz/Cargo.toml` from
//! [`Target::seeds`], so that it follows the formats; `regressions/` holds what once failed.

pub mod arena;
pub mod bytes;
pub mod clock;
pub mod ctrl;
pub mod device;
pub mod gso;
pub mod hdr;
pub mod iotlb;
pub mod laps;
pub mod machine;
pub mod packed;
pub mod pair;
pub mod ports;
pub mod ring;
pub mod script;
pub mod segmentation;
pub mod snapshot;
pub mod split;
pub mod target;
pub mod tx_rx;
pub mod vhost_user;

pub use target::{Seed, Target};

/// All targets.
pub const TARGETS: &[Target] = &[
    ctrl::TARGET,
    device::TARGET,
    gso::TARGET,
    hdr::TARGET,
    iotlb::TARGET,
    packed::TARGET,
    snapshot::TARGET,
    split::TARGET,
    tx_rx::TARGET,
    vhost_user::TARGET,
];

/// Entry of a target's binary: libFuzzer under cargo-fuzz, otherwise the files named as arguments.
#[macro_export]
macro_rules! fuzz_main {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| ($target.run)(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay($target)
        }
    };
}

/// Runs `target` on the files named on the command line.
///
/// # Errors
/// A file cannot be read.
pub fn replay(target: Target) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        (target.run)(&std::fs::read(path)?);
    }
    Ok(())
}
