//! The signal handler that lets a guarded access fail.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{c_int, c_void, sigaction, siginfo_t};

use super::fault::GUARDED;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::x86_64;

/// Signals that an access to memory can end in.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Earlier handler of each of [`SIGNALS`] before.
static PREVIOUS: [OnceLock<Action>; 2] = [const { OnceLock::new() }; 2];

static FAULTS: AtomicU64 = AtomicU64::new(0);

/// A disposition that was read from the kernel.
struct Action(sigaction);

// SAFETY: plain values; the handler that they name may be called on any thread.
unsafe impl Send for Action {}
// SAFETY: as above.
unsafe impl Sync for Action {}

/// Puts the handler for SIGSEGV and SIGBUS in place, once in the process.
///
/// It lets guarded accesses fail and passes every other signal to the handler that was there
/// before. To be called before a device runs on memory that can vanish; a device does so itself
/// unless its configuration says otherwise. Without guarded accesses ([`GUARDED`]) it does nothing.
///
/// # Errors
/// The kernel refuses to set the handler.
pub fn install() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed || !GUARDED {
        return Ok(());
    }
    for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
        if previous.get().is_some() {
            continue;
        }
        // SAFETY: all bytes zero are a valid disposition, which the kernel overwrites.
        let mut before: sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: reads the disposition into `before`, which outlives the call.
        check(unsafe { sigaction(signal, ptr::null(), &mut before) })?;
        // First, so that the handler never finds nothing.
        let _ = previous.set(Action(before));
        // SAFETY: as above.
        let mut action: sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction =
            on_fault as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
        // A stack that overflowed has no room for a handler; nothing is blocked that was not
        // before.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: `on_fault` has the signature that SA_SIGINFO asks for and is async-signal-safe.
        check(unsafe { sigaction(signal, &action, ptr::null_mut()) })?;
    }
    *installed = true;
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns how many accesses to guest memory failed in this process.
#[must_use]
pub fn faults() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

/// Lets a guarded access fail, if that is what the signal is about; returns whether it was.
///
/// For programs whose own handlers of SIGSEGV and SIGBUS replaced the one of [`install`]: they call
/// this first, and return at once when it says yes. It is async-signal-safe.
///
/// # Safety
/// `info` and `context` are the second and third argument of a handler that was set with
/// `SA_SIGINFO` for SIGSEGV or SIGBUS, and the call is made in that handler.
#[must_use]
pub unsafe fn recover(info: *const siginfo_t, context: *mut c_void) -> bool {
    // SAFETY: the caller's promise. A code above 0 tells that the kernel noticed a fault; what
    // another process or thread sent says nothing about the instruction that was interrupted.
    if unsafe { (*info).si_code } <= 0 {
        return false;
    }
    // SAFETY: the caller's promise.
    let recovered = unsafe { resume(context) };
    if recovered {
        FAULTS.fetch_add(1, Ordering::Relaxed);
    }
    recovered
}

/// # Safety
/// `context` is the third argument of a signal handler.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn resume(context: *mut c_void) -> bool {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the caller's promise; the handler's thread alone has this context.
    let at = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
    match x86_64::resume_after(at.cast_unsigned()) {
        Some(resume) => {
            *at = resume.cast_signed();
            true
        }
        None => false,
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn resume(_context: *mut c_void) -> bool {
    false
}

extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments, in the handler.
    if unsafe { recover(info, context) } {
        return;
    }
    let previous = SIGNALS.iter().position(|known| *known == signal);
    let previous = previous.and_then(|at| PREVIOUS[at].get());
    if let Some(previous) = previous {
        // SAFETY: the kernel's arguments, in the handler of this signal.
        unsafe { pass_on(&previous.0, signal, info, context) };
    }
}

/// Does what the disposition `previous` would have done.
///
/// # Safety
/// The other arguments are those of a handler of `signal`.
unsafe fn pass_on(previous: &sigaction, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the caller's promise.
    let sent = unsafe { (*info).si_code } <= 0;
    match previous.sa_sigaction {
        libc::SIG_IGN if sent => {}
        libc::SIG_IGN | libc::SIG_DFL => {
            // A fault happens again when this returns, and a signal that was sent is sent again:
            // the process ends as it would have, its state as it was. SAFETY: all bytes zero but
            // the handler are the default disposition.
            unsafe {
                let mut default: sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                sigaction(signal, &default, ptr::null_mut());
                if sent {
                    libc::raise(signal);
                }
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: who set SA_SIGINFO gave a handler of this signature, and these are the
            // arguments that the kernel would call it with.
            unsafe {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
        }
        handler => {
            // SAFETY: as above, for a handler that was set without SA_SIGINFO.
            unsafe {
                let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
