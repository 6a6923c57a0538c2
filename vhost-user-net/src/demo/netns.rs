//! A network of one's own, without privileges.

#![allow(unsafe_code)]

use std::{fs, io};

use thiserror::Error;

/// How the network was made private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespace {
    /// In a user namespace of its own, as anyone may where user namespaces are permitted.
    UserAndNetwork,
    /// In the user namespace of the host, as root.
    Network,
}

/// Why there is no private network.
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
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Moves the process into a new network namespace, where it may make interfaces.
///
/// # Errors
/// When neither a user namespace nor root's own rights allow it.
pub(super) fn enter_private() -> Result<Namespace, NetnsError> {
    let (uid, gid) = ids();
    match unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) {
        Ok(()) => {
            map_ids(uid, gid)?;
            Ok(Namespace::UserAndNetwork)
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(NetnsError::Threads(error)),
        Err(error) => match unshare(libc::CLONE_NEWNET) {
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

fn ids() -> (u32, u32) {
    // SAFETY: neither call has arguments or can fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the call has no pointers; it changes the namespaces of the caller and nothing in memory.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
