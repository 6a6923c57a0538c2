//! A child process in a network namespace of its own, for a moment.
//!
//! The child shares the caller's memory and the caller waits for its end, as in `vfork`: that costs
//! the same whatever memory the process has, and results need no pipe. `unshare` would not do. A
//! process of several threads cannot enter a user namespace by it, and a change of credentials
//! would take the dumpable flag from memory that the whole process uses, which `clone` does not do.
#![allow(unsafe_code)]

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void};

use super::{Refused, check};

/// Bytes of the child's stack; a page that cannot be accessed lies below it.
const STACK: usize = 256 << 10;
const GUARD: usize = 64 << 10;

/// Work of a child, and what it works on.
struct Task<'a, T> {
    run: fn(&mut T),
    job: &'a mut T,
}

/// Runs `run` on `job` in a child process in a new network namespace, and waits for its end. The
/// child has descriptors of its own, starting with those of the caller; what it opens ends with it.
///
/// The child gets no signal, sends none, and no `wait` without `__WALL` sees it.
///
/// # Safety
///
/// `run` neither allocates, nor panics, nor takes a lock: the child is not a thread that the C
/// library or an allocator knows. The calling thread ends after this call without needing its
/// signals.
pub(crate) unsafe fn run_in_new_network<T: Send>(
    job: &mut T,
    run: fn(&mut T),
) -> Result<(), Refused> {
    block_signals()?;
    let stack = Stack::new()?;
    let mut task = Task { run, job };
    let mut start = |namespaces| {
        // No exit signal in the lowest byte.
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | namespaces;
        // SAFETY: the stack is private, writable, aligned and larger than `run` needs, and lives
        // until the child has ended. `task` does, too: with CLONE_VFORK this call returns when the
        // child has given up this memory, and only a signal that ends the process returns it
        // earlier. So nothing here runs beside the child, although it uses this thread's
        // thread-local storage (`errno`). `T: Send` and the exclusive borrow make it as sound as
        // handing `job` to a scoped thread. That the child calls nothing that has to know its
        // thread is the caller's promise.
        let child = unsafe { libc::clone(enter::<T>, stack.top(), flags, (&raw mut task).cast()) };
        check(child, "clone")
    };
    let child = match start(libc::CLONE_NEWNET) {
        // A user namespace of its own gives the child all rights over its network namespace.
        Err(refused) if refused.errno() == Some(libc::EPERM) => {
            start(libc::CLONE_NEWNET | libc::CLONE_NEWUSER)
        }
        child => child,
    };
    wait(child?)
}

/// First function of the child.
extern "C" fn enter<T>(task: *mut c_void) -> c_int {
    // SAFETY: `task` is the `Task<T>` that `run_in_new_network` borrows exclusively and does not
    // touch before this child has ended.
    let task = unsafe { &mut *task.cast::<Task<'_, T>>() };
    (task.run)(task.job);
    0
}

fn wait(child: c_int) -> Result<(), Refused> {
    loop {
        // SAFETY: no status is asked for, so no memory is passed. `child` was not waited for: no
        // other wait of this process sees a child without an exit signal unless it asks for every
        // kind.
        let ended = unsafe { libc::waitpid(child, ptr::null_mut(), libc::__WALL) };
        match check(ended, "waitpid") {
            Err(refused) if refused.errno() == Some(libc::EINTR) => {}
            // Somebody who waits for every kind has been faster.
            Err(refused) if refused.errno() == Some(libc::ECHILD) => return Ok(()),
            ended => return ended.map(drop),
        }
    }
}

/// Keeps signals from the calling thread and from children that it makes: a handler of the process
/// would run in a child that is not the process.
fn block_signals() -> Result<(), Refused> {
    // SAFETY: a set is plain integers, for which zero is a value; `sigfillset` writes it. The old
    // mask is not asked for.
    let error = unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut())
    };
    match error {
        0 => Ok(()),
        error => Err(Refused {
            request: "pthread_sigmask",
            source: std::io::Error::from_raw_os_error(error),
        }),
    }
}

/// Memory for a stack, above a guard.
struct Stack(*mut c_void);

impl Stack {
    fn new() -> Result<Self, Refused> {
        let (read_write, private) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
        );
        // SAFETY: asks for new memory at any place, and refers to none.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, read_write, private, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Refused::last("mmap"));
        }
        let stack = Self(start);
        // SAFETY: the lowest part of the memory that was just made, to which nothing refers.
        let guarded = unsafe { libc::mprotect(start, GUARD, libc::PROT_NONE) };
        check(guarded, "mprotect")?;
        Ok(stack)
    }

    /// The end, from which a stack grows down; a multiple of the page.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.0.byte_add(GUARD + STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the whole mapping of `new`, on which no child runs any more. There is nothing to
        // do about a failure, which would only leave it mapped.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

/// Waits until `fd` is readable, at most so long; whole milliseconds, rounded up.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, time: Duration) -> bool {
    let millis = time.as_micros().div_ceil(1000);
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one live, exclusive `pollfd`.
    unsafe {
        libc::poll(
            &raw mut poll,
            1,
            c_int::try_from(millis).unwrap_or(c_int::MAX),
        ) > 0
    }
}
