//! System calls that may wait although they should not, and the end of that wait by another thread.
//!
//! A call that waits for an event counter or a pipe returns with `EINTR` when a signal comes whose
//! handler does not ask for a restart. The signal is one of the real-time signals that nobody in
//! this process has a use for; its handler does nothing.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use std::{process, ptr};

#[cfg(test)]
mod tests;

/// Time that a call has before it is interrupted, again and again.
const PATIENCE: Duration = Duration::from_millis(10);

/// The signal, once it is claimed; `None` if all have their uses.
static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();

extern "C" fn do_nothing(_signal: libc::c_int) {}

/// Lets calls of this thread, and of those that it starts from now on, be interrupted.
///
/// # Errors
/// No real-time signal is left, or the kernel's error.
pub(crate) fn prepare_thread() -> io::Result<()> {
    let Some(signal) = *SIGNAL.get_or_init(claim) else {
        return Err(io::Error::other("every real-time signal has a handler"));
    };
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is initialised by sigemptyset before anyone reads it, and lives through the
    // calls.
    let error = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut())
    };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Gives the last real-time signal without a handler one.
fn claim() -> Option<libc::c_int> {
    let mut signals = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev();
    signals.find(|&signal| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: no new action is given, and the present one is written to `action`, of which
        // all-zero bytes are a value already.
        let mut action = unsafe {
            libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        if action.sa_sigaction != libc::SIG_DFL {
            return false;
        }
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // Without SA_RESTART the call ends.
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: the handler touches nothing, so it may run anywhere; `action` is whole.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) == 0 }
    })
}

/// This thread's number for the kernel.
fn thread_id() -> i32 {
    thread_local!(static ID: Cell<i32> = const { Cell::new(0) });
    if ID.get() == 0 {
        // SAFETY: it takes nothing and cannot fail.
        ID.set(unsafe { libc::syscall(libc::SYS_gettid) } as i32);
    }
    ID.get()
}

/// A place in which one thread at a time makes a call.
#[derive(Debug, Default)]
pub(crate) struct Interruptible(AtomicI32);

impl Interruptible {
    /// Makes a call that others may interrupt.
    pub(crate) fn run<T>(&self, call: impl FnOnce() -> T) -> T {
        self.0.store(thread_id(), Ordering::Relaxed);
        let result = call();
        self.0.store(0, Ordering::Relaxed);
        result
    }

    /// Interrupts the call that is made, if there is one and it waits. One that is about to be made
    /// is not: this is to be called again until the thread has gone on.
    pub(crate) fn interrupt(&self) {
        let thread = self.0.load(Ordering::Relaxed);
        let Some(Some(signal)) = SIGNAL.get().filter(|_| thread != 0) else {
            return;
        };
        // SAFETY: no memory is passed. A thread that has gone on gets a signal that does nothing.
        unsafe { libc::syscall(libc::SYS_tgkill, process::id(), thread, *signal) };
    }
}

/// Makes a call that is interrupted when it waits for longer than a moment.
///
/// # Errors
/// That of the call, `Interrupted` among them, or there is no thread to make it.
pub(crate) fn in_time(call: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let place = Interruptible::default();
    let (done, result) = channel();
    thread::scope(|scope| {
        let make = || drop(done.send(place.run(call)));
        thread::Builder::new().spawn_scoped(scope, make)?;
        loop {
            match result.recv_timeout(PATIENCE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => place.interrupt(),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("a call ended in a panic"));
                }
            }
        }
    })
}
