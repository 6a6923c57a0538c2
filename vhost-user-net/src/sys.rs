//! The system calls that the standard library has no safe door to: the only `unsafe` of this crate
//! is in this module and its children.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use vm_memory::MmapRegion;

pub(crate) mod foreign;
mod process;
mod socket;

pub use self::process::{Termination, group_id, ignore_file_size_signal, raise_open_files_limit};
pub(crate) use self::process::{is_shortage, shortage_advice};
pub use self::socket::{SocketKind, connect, unix_stream_kind};
pub(crate) use self::socket::{bind, listen};

/// Most file descriptors that one message may carry.
pub const MAX_FDS: usize = 32;

/// Control bytes for `MAX_FDS` descriptors, aligned as the kernel's `cmsghdr` has to be.
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_LEN]);

/// Two headers' worth of room: more than `CMSG_SPACE` asks for on any target.
const CONTROL_LEN: usize = 2 * size_of::<libc::cmsghdr>() + MAX_FDS * size_of::<RawFd>();

/// `true` when a `-1` from the kernel has to be tried again.
fn interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Receives at most `buf.len()` bytes without blocking, and appends the descriptors that came along to `fds`.
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
    let mut control = ControlBuffer([0; CONTROL_LEN]);
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: all-zero bytes are a valid msghdr (null pointers, zero lengths).
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &raw mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.0.as_mut_ptr().cast();
    msg.msg_controllen = CONTROL_LEN as _;
    let received = loop {
        // SAFETY: `msg` points at `iov` (which covers `buf`) and at `control`; all three outlive the call and nobody
        // else uses them during it.
        let n = unsafe {
            libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut msg,
                libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
            )
        };
        if n >= 0 {
            break n as usize;
        }
        let error = io::Error::last_os_error();
        if !interrupted(&error) {
            return Err(error);
        }
    };
    let before = fds.len();
    take_rights(&msg, fds);
    let truncated = msg.msg_flags & libc::MSG_CTRUNC != 0;
    if truncated && fds.len() - before < MAX_FDS {
        return Err(withheld(socket));
    }
    if truncated || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "too many file descriptors in one message",
        ));
    }
    Ok(received)
}

/// The reason why the kernel dropped descriptors that there was room for. It does not say, but
/// answers a request for one more descriptor likewise.
fn withheld(socket: BorrowedFd<'_>) -> io::Error {
    match socket.try_clone_to_owned() {
        Err(error) => error,
        Ok(_) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the kernel withheld file descriptors of a message, as a security module makes it do",
        ),
    }
}

/// Moves every descriptor of `msg`'s control data into `fds`.
fn take_rights(msg: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: `msg` was filled by recvmsg, and its control buffer is alive and aligned in the caller's frame.
    let mut cmsg = unsafe { libc::CMSG_FIRSTHDR(msg) };
    while !cmsg.is_null() {
        // SAFETY: the CMSG_* walk stays within `msg_controllen` bytes, and hands out whole headers only.
        let header = unsafe { &*cmsg };
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data of an SCM_RIGHTS header follows it within the control buffer.
            let data = unsafe { libc::CMSG_DATA(cmsg) };
            let bytes = header.cmsg_len as usize - (data as usize - cmsg as usize);
            for i in 0..bytes / size_of::<RawFd>() {
                // SAFETY: `i` counts the whole descriptors within the header's length; the data need not be aligned.
                // The kernel has just installed each of them for this process, and this is their only owner.
                fds.push(unsafe {
                    OwnedFd::from_raw_fd(ptr::read_unaligned(data.cast::<RawFd>().add(i)))
                });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR; `cmsg` came from the same walk.
        cmsg = unsafe { libc::CMSG_NXTHDR(msg, cmsg) };
    }
}

/// Makes reads and writes on `fd` return instead of waiting.
///
/// # Errors
/// What the kernel says.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETFL takes an int and touches no memory.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// An own descriptor for the file behind number `fd`, which came from the command line.
///
/// # Errors
/// `EBADF` when no such descriptor is open.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an int and touches no memory; a number that is not open is an error.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `new`, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// A new event counter that does not block.
///
/// # Errors
/// What the kernel says.
pub fn event() -> io::Result<File> {
    // SAFETY: eventfd takes two ints and touches no memory.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made `fd`, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, a connection to accept, or the peer's end.
    Readable,
    /// Room to write, or the peer's end.
    Writable,
}

/// What to wait for, and where.
pub type Wanted<'a> = (BorrowedFd<'a>, Interest);

/// Waits until one of `wanted` is ready (errors and hang-ups count), and says which.
///
/// `timeout_ms` of `None` waits for ever; when time is up, nothing is ready.
///
/// # Errors
/// What the kernel says; an interruption by a signal is not an error.
pub fn wait<const N: usize>(
    wanted: [Wanted<'_>; N],
    timeout_ms: Option<u16>,
) -> io::Result<[bool; N]> {
    wait_with(wanted, &[], timeout_ms).map(|(ready, _)| ready)
}

/// As [`wait`], for `others` as well; says whether one of these is ready, too.
///
/// # Errors
/// As for [`wait`].
pub fn wait_with<const N: usize>(
    wanted: [Wanted<'_>; N],
    others: &[Wanted<'_>],
    timeout_ms: Option<u16>,
) -> io::Result<([bool; N], bool)> {
    let poll = |(fd, interest): &Wanted<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: match interest {
            Interest::Readable => libc::POLLIN,
            Interest::Writable => libc::POLLOUT,
        },
        revents: 0,
    };
    let mut fds: Vec<_> = wanted.iter().chain(others).map(poll).collect();
    let timeout = timeout_ms.map_or(-1, libc::c_int::from);
    loop {
        // SAFETY: `fds` holds as many pollfds as the call is told, and lives through it.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) } >= 0 {
            let ready = |fd: &libc::pollfd| fd.revents != 0;
            return Ok((
                std::array::from_fn(|at| ready(&fds[at])),
                fds[N..].iter().any(ready),
            ));
        }
        let error = io::Error::last_os_error();
        if !interrupted(&error) {
            return Err(error);
        }
    }
}

/// Leaves `region` out of core dumps of this process, which the guest's memory is no part of.
///
/// # Errors
/// What the kernel says.
pub fn exclude_from_core_dumps(region: &MmapRegion) -> io::Result<()> {
    // SAFETY: the range is the region's own mapping, which its borrow keeps alive; the advice
    // changes no byte of it and no access to it.
    let result =
        unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_DONTDUMP) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
