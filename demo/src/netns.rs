//! A network of one's own, without privileges.

#![allow(unsafe_code)]

use std::{fs, io};

use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use thiserror::Error;

/// Namespaces that make the network private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    /// In a user namespace of its own, as anyone may where user namespaces are permitted.
    UserAndNetwork,
    /// In the user namespace of the host, as root.
    Network,
}

/// Reason why there is no private network.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// Neither kind of namespace is permitted.
    #[error(
        "user namespaces are not permitted here; permit them (sysctl user.max_user_namespaces, \
         kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; \
         in a container its seccomp profile) or run as root"
    )]
    Refused(#[source] io::Error),
    /// The process has threads already.
    #[error("a user namespace is entered before the process starts a thread")]
    Threads(#[source] io::Error),
    /// The ids cannot be mapped.
    #[error("the ids of the user namespace cannot be set in {path}")]
    Map {
        /// The file that was written.
        path: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Moves the process into a new network namespace, where it may make interfaces.
///
/// # Errors
/// When neither a user namespace nor root's own rights allow it.
pub(super) fn enter_private() -> Result<Namespace, NetnsError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    match unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) {
        Ok(()) => {
            map_ids(uid, gid)?;
            Ok(Namespace::UserAndNetwork)
        }
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            Err(NetnsError::Threads(error))
        }
        Err(error) => match unshare(UnshareFlags::NEWNET) {
            Ok(()) => Ok(Namespace::Network),
            Err(_) => Err(NetnsError::Refused(error)),
        },
    }
}

/// Makes the caller root inside: one user and one group are all that the kernel lets anyone map.
fn map_ids(uid: u32, gid: u32) -> Result<(), NetnsError> {
    let write =
        |path, text: &str| fs::write(path, text).map_err(|source| NetnsError::Map { path, source });
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only new namespaces are asked for; the table of descriptors stays shared by all
    // threads.
    Ok(unsafe { unshare_unsafe(flags) }?)
}
