//! System calls that the standard library does not have. The `unsafe` of this crate is in
//! children of it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

pub(crate) mod foreign;
pub(crate) mod fork;
pub(crate) mod interruptible;
pub(crate) mod mapping;
mod process;
mod socket;

pub use self::mapping::MappedMemory;
pub use self::process::{
    Termination, UserAndGroup, duplicate, group_id, ignore_file_size_signal,
    raise_open_files_limit, user_and_group,
};
pub(crate) use self::process::{is_shortage, shortage_advice};
pub use self::socket::{SocketKind, connect, unix_stream_kind};
pub(crate) use self::socket::{accept, bind, is_unix_stream_pair, listen};

/// Most file descriptors that one message may carry.
pub const MAX_FDS: usize = 32;

/// Receives at most `buf.len()` bytes without blocking, and appends the descriptors that came along
/// to `fds`.
///
/// # Errors
/// `WouldBlock` when nothing waits, `InvalidData` when more than [`MAX_FDS`] descriptors came,
/// `EMFILE` when this process may have no more of them (in both cases those that fitted are in
/// `fds`, the kernel dropped the others), or what the kernel says.
pub fn recv_with_fds(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = retry(|| {
        let mut buf = [IoSliceMut::new(buf)];
        recvmsg(socket, &mut buf, &mut control, flags)
    })?;
    let before = fds.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let truncated = received.flags.contains(ReturnFlags::CTRUNC);
    if truncated && fds.len() - before < MAX_FDS {
        return Err(withheld(socket));
    }
    if truncated || fds.len() > MAX_FDS {
        return Err(too_many_fds());
    }
    Ok(received.bytes)
}

/// Sends `parts` as one packet, and `fds` with it.
///
/// # Errors
/// `InvalidData` for more than [`MAX_FDS`] descriptors, or what the kernel says.
pub(crate) fn send_with_fds(
    socket: BorrowedFd<'_>,
    parts: &[&[u8]],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(too_many_fds());
    }
    let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    retry(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The error of a message with more than [`MAX_FDS`] descriptors.
pub(crate) fn too_many_fds() -> io::Error {
    let what = "too many file descriptors in one message";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The error of a message whose descriptors the kernel keeps although there is room for them.
pub(crate) fn withheld_fds() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the kernel withheld file descriptors of a message, as a security module makes it do",
    )
}

/// Makes a system call again when a signal interrupted it.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// The reason why the kernel dropped descriptors that there was room for. It does not say, but
/// answers a request for one more descriptor likewise.
fn withheld(socket: BorrowedFd<'_>) -> io::Error {
    match socket.try_clone_to_owned() {
        Err(error) => error,
        Ok(_) => withheld_fds(),
    }
}

/// Makes reads and writes on `fd` return instead of waiting.
///
/// # Errors
/// The kernel's error.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// The file that takes everything and has nothing.
///
/// # Errors
/// It cannot be opened.
pub(crate) fn open_null() -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).open("/dev/null")
}

/// A new event counter that does not block.
///
/// # Errors
/// The kernel's error.
pub fn event() -> io::Result<File> {
    Ok(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?.into())
}

/// Event to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, a connection to accept, or the peer's end.
    Readable,
    /// Room to write, or the peer's end.
    Writable,
}

/// A descriptor, and the event to wait for on it.
pub type Wanted<'a> = (BorrowedFd<'a>, Interest);

/// Milliseconds until `time`, rounded up, so that it is past when they are.
pub(crate) fn ms_until(time: Instant) -> u16 {
    ms_of(time.saturating_duration_since(Instant::now()))
}

/// Milliseconds of `time`, rounded up.
pub(crate) fn ms_of(time: Duration) -> u16 {
    u16::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u16::MAX)
}

/// Waits until one of `wanted` is ready (errors and hang-ups count), and returns for each whether
/// it is.
///
/// `timeout_ms` of `None` waits for ever; when time is up, nothing is ready.
///
/// # Errors
/// The kernel's error; an interruption by a signal is not an error.
pub fn wait(wanted: &[Wanted<'_>], timeout_ms: Option<u16>) -> io::Result<Vec<bool>> {
    let flags = |interest| match interest {
        Interest::Readable => PollFlags::IN,
        Interest::Writable => PollFlags::OUT,
    };
    let mut fds: Vec<_> = wanted
        .iter()
        .map(|&(fd, interest)| PollFd::from_borrowed_fd(fd, flags(interest)))
        .collect();
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    });
    retry(|| poll(&mut fds, timeout.as_ref()))?;
    Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Waits for one descriptor, as [`wait`].
///
/// # Errors
/// As for [`wait`].
pub fn is_ready(fd: impl AsFd, interest: Interest, timeout_ms: Option<u16>) -> io::Result<bool> {
    Ok(wait(&[(fd.as_fd(), interest)], timeout_ms)?[0])
}
