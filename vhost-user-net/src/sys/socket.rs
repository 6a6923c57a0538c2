//! Unix stream sockets, where the standard library would wait or would let others in too early.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Kinds of Unix stream sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Waits for connections.
    Listening,
    /// Has a peer (or will never have one).
    Connected,
}

/// Says which end of a Unix stream socket `fd` is; `None` when it is something else.
pub fn unix_stream_kind(fd: BorrowedFd<'_>) -> Option<SocketKind> {
    let is_unix = sockopt::socket_domain(fd).ok()? == AddressFamily::UNIX;
    let is_stream = sockopt::socket_type(fd).ok()? == SocketType::STREAM;
    if !is_unix || !is_stream {
        return None;
    }
    Some(match sockopt::socket_acceptconn(fd).ok()? {
        false => SocketKind::Connected,
        true => SocketKind::Listening,
    })
}

/// Returns whether `fd` is a Unix stream socket that has, or had, a peer. It will never listen, so
/// nothing comes to it but from that peer.
pub(crate) fn is_unix_stream_pair(fd: BorrowedFd<'_>) -> bool {
    unix_stream_kind(fd) == Some(SocketKind::Connected) && net::getpeername(fd).is_ok()
}

/// A socket that neither blocks nor outlives an `exec`.
fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Longest path of a socket, in bytes; one zero has to follow.
const MAX_PATH: usize = 107;

/// The address of a socket at `path`.
fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_PATH || bytes.contains(&0) {
        let reason = format!(
            "a socket's path has 1 to {MAX_PATH} bytes, this one {}",
            bytes.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(SocketAddrUnix::new(path)?)
}

/// Connects to `path` at once or not at all.
///
/// # Errors
/// `WouldBlock` when somebody listens but has not accepted those who came before, or what the
/// kernel says.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (address, socket) = (address(path)?, socket()?);
    net::connect(&socket, &address)?;
    Ok(socket.into())
}

/// Binds a socket to `path`, which nobody may connect to before [`listen`]. The path has the mode
/// that the umask leaves, or is for this user alone from its first moment on if it is `private`.
///
/// # Errors
/// The kernel's error; `InvalidInput` when the path is too long for a socket.
pub(crate) fn bind(path: &Path, private: bool) -> io::Result<OwnedFd> {
    let address = address(path)?;
    let socket = File::from(socket()?);
    if private {
        // The path gets the mode that the socket has when it is bound.
        socket.set_permissions(Permissions::from_mode(0o600))?;
    }
    net::bind(&socket, &address)?;
    Ok(socket.into())
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8;

/// Lets connections come to a socket that is bound. Accepting them does not block.
///
/// # Errors
/// The kernel's error.
pub(crate) fn listen(socket: OwnedFd) -> io::Result<UnixListener> {
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Accepts one connection from a listening socket. The new socket blocks, whatever the other does.
///
/// # Errors
/// The kernel's error.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(net::accept_with(listener, SocketFlags::CLOEXEC)?)
}
