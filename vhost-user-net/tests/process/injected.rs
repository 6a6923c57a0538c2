//! System calls made in a thread of another process, as whoever has taken it over would make them.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_long, pid_t, user_regs_struct};

/// Type of the first argument of `ptrace`.
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;
#[cfg(target_env = "musl")]
type Request = libc::c_int;

/// A thread that stands still between two instructions. It goes on when this is dropped.
pub(crate) struct Stopped {
    thread: pid_t,
    /// Registers to go on with.
    own: user_regs_struct,
}

/// Ends of an injected call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The kernel's answer, an error as a negative number.
    Returned(i64),
    /// The thread gets a signal instead.
    Signal(i32),
}

impl Stopped {
    /// Stops a thread, which has to wait in a system call.
    pub(crate) fn attach(thread: u32) -> Self {
        let thread = thread as pid_t;
        ask(libc::PTRACE_ATTACH, thread, 0, 0).unwrap();
        assert_eq!(wait(thread), libc::SIGSTOP);
        let own = registers(thread);
        Self { thread, own }
    }

    /// Makes system call `number` with these arguments, of which the one `at` is the address of
    /// `text` instead.
    pub(crate) fn call_with(
        &self,
        number: c_long,
        mut arguments: [i64; 3],
        at: usize,
        text: &str,
    ) -> Outcome {
        // Below what the compiler lets functions use without moving the stack pointer.
        let place = (self.own.rsp - 1024) & !7;
        let mut bytes = Vec::from(text);
        bytes.resize(text.len() / 8 * 8 + 8, 0);
        let (words, _) = bytes.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let address = place + 8 * index as u64;
            ask(
                libc::PTRACE_POKEDATA,
                self.thread,
                address,
                u64::from_le_bytes(*word),
            )
            .unwrap();
        }
        arguments[at] = place as i64;
        self.call(number, arguments)
    }

    /// Makes system call `number`.
    pub(crate) fn call(&self, number: c_long, arguments: [i64; 3]) -> Outcome {
        let mut registers = self.own;
        // The call that it waits in is the instruction before.
        registers.rip -= 2;
        registers.rax = number as u64;
        // Nothing to be restarted.
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx] = arguments.map(|argument| argument as u64);
        set_registers(self.thread, &registers);
        ask(libc::PTRACE_SINGLESTEP, self.thread, 0, 0).unwrap();
        match wait(self.thread) {
            libc::SIGTRAP => Outcome::Returned(self::registers(self.thread).rax as i64),
            signal => {
                // Without that signal; the end of the step is still to be told.
                ask(libc::PTRACE_SINGLESTEP, self.thread, 0, 0).unwrap();
                assert_eq!(wait(self.thread), libc::SIGTRAP);
                Outcome::Signal(signal)
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        set_registers(self.thread, &self.own);
        let _ = ask(libc::PTRACE_DETACH, self.thread, 0, 0);
    }
}

fn ask(request: Request, thread: pid_t, address: u64, data: u64) -> io::Result<()> {
    // SAFETY: the requests of this module that come here write to no memory of this process.
    let done = unsafe { libc::ptrace(request, thread, address, data) };
    if done == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until the thread stops, and returns the signal that stopped it.
fn wait(thread: pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is alive and writable for the call.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    assert_eq!(found, thread, "{}", io::Error::last_os_error());
    assert!(libc::WIFSTOPPED(status), "status {status:#x}");
    libc::WSTOPSIG(status)
}

fn registers(thread: pid_t) -> user_regs_struct {
    let mut registers = MaybeUninit::<user_regs_struct>::uninit();
    // SAFETY: the request fills the whole structure, or fails.
    unsafe {
        let nowhere = ptr::null_mut::<libc::c_void>();
        let done = libc::ptrace(
            libc::PTRACE_GETREGS,
            thread,
            nowhere,
            registers.as_mut_ptr(),
        );
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
        registers.assume_init()
    }
}

fn set_registers(thread: pid_t, registers: &user_regs_struct) {
    let nowhere = ptr::null_mut::<libc::c_void>();
    // SAFETY: the request reads the structure, and writes nothing of this process.
    unsafe {
        libc::ptrace(
            libc::PTRACE_SETREGS,
            thread,
            nowhere,
            ptr::from_ref(registers),
        )
    };
}
