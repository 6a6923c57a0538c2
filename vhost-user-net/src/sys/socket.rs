//! Unix stream sockets, where the standard library would wait or would let others in too early.
#![allow(unsafe_code)]

use std::fs::{File, Permissions};
use std::io;
use std::mem::{MaybeUninit, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// What kind of Unix stream socket a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Waits for connections.
    Listening,
    /// Has a peer (or will never have one).
    Connected,
}

/// Says which end of a Unix stream socket `fd` is; `None` when it is something else.
pub fn unix_stream_kind(fd: BorrowedFd<'_>) -> Option<SocketKind> {
    let is_unix = socket_option(fd, libc::SO_DOMAIN).ok()? == libc::AF_UNIX;
    let is_stream = socket_option(fd, libc::SO_TYPE).ok()? == libc::SOCK_STREAM;
    if !is_unix || !is_stream {
        return None;
    }
    Some(match socket_option(fd, libc::SO_ACCEPTCONN).ok()? {
        0 => SocketKind::Connected,
        _ => SocketKind::Listening,
    })
}

fn socket_option(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` and `len` are alive for the call, and `len` is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// A socket that neither blocks nor outlives an `exec`.
fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes three ints and touches no memory.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `fd`, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address of a socket at `path`.
fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    // SAFETY: all-zero bytes are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    // One zero has to follow, and none may be within.
    let longest = address.sun_path.len() - 1;
    if bytes.is_empty() || bytes.len() > longest || bytes.contains(&0) {
        let reason = format!(
            "a socket's path has 1 to {longest} bytes, this one {}",
            bytes.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

/// Connects to `path` at once or not at all.
///
/// # Errors
/// `WouldBlock` when somebody listens but has not accepted those who came before, or what the
/// kernel says.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = address(path)?;
    let socket = socket()?;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is alive for the call, and `len` is its size.
    if unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}

/// Binds a socket to `path`, which nobody may connect to before [`listen`]. The path has the mode
/// that the umask leaves, or is for this user alone from its first moment on if it is `private`.
///
/// # Errors
/// What the kernel says; `InvalidInput` when the path is too long for a socket.
pub(crate) fn bind(path: &Path, private: bool) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let socket = File::from(socket()?);
    if private {
        // The path gets the mode that the socket has when it is bound.
        socket.set_permissions(Permissions::from_mode(0o600))?;
    }
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is alive for the call, and `len` is its size.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}

/// Connections that may wait to be accepted.
const BACKLOG: libc::c_int = 8;

/// Lets connections come to a socket that is bound. Accepting them does not block.
///
/// # Errors
/// What the kernel says.
pub(crate) fn listen(socket: OwnedFd) -> io::Result<UnixListener> {
    // SAFETY: listen takes two ints and touches no memory.
    if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}
