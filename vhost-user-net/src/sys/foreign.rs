//! Descriptors that a front-end passed: what they are, found out by calls that ask nobody, and what
//! they are used for.
//!
//! A file may be anybody's. Of a file in a FUSE mount, `fstat`, `fstatfs`, `poll`, `read` and the
//! first access to a mapping are requests to the process that serves the mount, and whoever waits
//! for its answer cannot be killed. So two questions come before any use, and the kernel answers
//! both of them by itself:
//!
//! * `F_GET_SEALS` knows only files in tmpfs and hugetlbfs, and fails with all others.
//! * The name under `/proc/self/fd` of an event counter and of a pipe is none that a file can have:
//!   that of a file begins with `/`.
//!
//! Flags such as `O_NONBLOCK` belong to the open file, which the front-end has as well and may
//! change. So what is sent over a socket of its own says with each call that it must not wait.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fcntl_get_seals, openat, readlinkat, statat};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};

/// Returns whether `fd` is a file in tmpfs or hugetlbfs, anonymous ones (`memfd_create`) included.
pub(crate) fn is_memory_file(fd: BorrowedFd<'_>) -> bool {
    fcntl_get_seals(fd).is_ok()
}

/// Returns whether `fd` is an event counter or a pipe without a name.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_event(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(name(fd)? == b"anon_inode:[eventfd]" || is_pipe(fd)?)
}

/// Returns whether `fd` is a pipe without a name.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_pipe(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(name(fd)?.starts_with(b"pipe:["))
}

/// Returns whether `fd` is a socket.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_socket(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(name(fd)?.starts_with(b"socket:["))
}

fn name(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let path = format!("self/fd/{}", fd.as_raw_fd());
    Ok(readlinkat(proc()?, path, Vec::new())?.into_bytes())
}

/// The folder `/proc`, whatever is at this path by now: it can be asked where no file can be
/// opened, once this was called.
///
/// # Errors
/// There is none.
pub(crate) fn proc() -> io::Result<BorrowedFd<'static>> {
    static PROC: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(folder) = PROC.get() {
        return Ok(folder.as_fd());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, "/proc", flags, Mode::empty())?;
    Ok(PROC.get_or_init(|| folder).as_fd())
}

/// The state of an entry of this process' own folder in `/proc`.
pub(super) fn stat_own(entry: &str) -> io::Result<Stat> {
    Ok(statat(proc()?, format!("self/{entry}"), AtFlags::empty())?)
}

/// Sends all of `bytes` over the stream socket `fd`, or as much as it takes without a wait; returns
/// how much.
///
/// # Errors
/// `WouldBlock` when it takes nothing, or what the kernel says.
pub(crate) fn send_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// As [`send_at_once`], with the descriptor `passed`.
///
/// # Errors
/// As for [`send_at_once`].
pub(crate) fn send_at_once_with_fd(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    passed: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [passed];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(sendmsg(fd, &[IoSlice::new(bytes)], &mut control, flags)?)
}
