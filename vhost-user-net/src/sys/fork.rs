//! Processes that go on with this program's memory, without a start of a program.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Longest wait for threads that are about to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a child process that runs `child`, and nothing else, with all that this process has open.
///
/// # Errors
/// This process has other threads, whose locks nobody would give back in the child, or the kernel's
/// error.
pub(crate) fn fork(child: impl FnOnce() -> io::Result<()>) -> io::Result<Pid> {
    // The trial of the kernel's segmentation may still wait for its own child.
    let deadline = Instant::now() + PATIENCE;
    while !is_single_threaded()? {
        if Instant::now() >= deadline {
            return Err(io::Error::other("a process of several threads cannot fork"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: no memory is passed. There is no other thread, so all that the child finds is whole.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // A panic must not reach frames that are the parent's.
            let result = catch_unwind(AssertUnwindSafe(child));
            let status = i32::from(!matches!(result, Ok(Ok(()))));
            // SAFETY: ends the process at once. What its parent wants done at an end is the
            // parent's affair.
            unsafe { libc::_exit(status) }
        }
        id => Pid::from_raw(id).ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// Returns whether no other thread is in this process.
fn is_single_threaded() -> io::Result<bool> {
    // A folder has two links, and one for each folder in it.
    let links = super::foreign::stat_own("task")?.st_nlink;
    Ok(links == 3)
}

/// Closes all descriptors but standard ones and those in `kept`.
///
/// # Errors
/// The kernel's error; those before Linux 5.9 cannot do it.
pub(crate) fn close_all_but(kept: &mut [RawFd]) -> io::Result<()> {
    kept.sort_unstable();
    let mut first = 3;
    for &mut fd in kept {
        let fd = fd.unsigned_abs();
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: no memory is passed. This is a child that uses none of what it closes: values that
    // own such a descriptor are left behind in frames that it never returns to.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives this thread namespaces of its own.
///
/// # Errors
/// The kernel's error.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    // A table of descriptors that is shared stays so.
    let namespaces = namespaces - UnshareFlags::FILES;
    // SAFETY: the one flag that the contract is about is not set.
    unsafe { unshare_unsafe(namespaces) }?;
    Ok(())
}

/// Has children of this process go without being waited for.
pub(crate) fn ignore_ends_of_children() {
    // SAFETY: to ignore a signal installs no handler, and this process waits for no child.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}
