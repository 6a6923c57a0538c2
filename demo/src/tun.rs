//! The file that taps are opened by.

use std::fs::OpenOptions;
use std::io;

use thiserror::Error;

const TUN: &str = "/dev/net/tun";

/// Reason why no tap can be had.
#[derive(Debug, Error)]
pub enum TapError {
    /// The kernel has no tap.
    #[error(
        "{TUN} does not exist; load the module (modprobe tun) or give the container the device"
    )]
    Missing(#[source] io::Error),
    /// The file is not for everyone.
    #[error("{TUN} may not be opened; let everyone open it, as usual (chmod 0666 {TUN})")]
    Denied(#[source] io::Error),
    /// Something else.
    #[error("{TUN} cannot be opened")]
    Open(#[source] io::Error),
}

/// Says what to do before anything else fails on it.
pub(super) fn check_tun() -> Result<(), TapError> {
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => TapError::Missing(error),
            io::ErrorKind::PermissionDenied => TapError::Denied(error),
            _ => TapError::Open(error),
        }),
    }
}
