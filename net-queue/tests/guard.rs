//! Guarded accesses: copies are exact, and the fault handler leaves every other fault to who had it
//! before.
#![allow(unsafe_code)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::ptr;

use libc::{c_int, c_void, siginfo_t};
use net_queue::testing::{Hole, HoledMemory};
use net_queue::{Gather, MemoryFault, Scatter, guard};

/// Names the scene that a child process plays.
const SCENE: &str = "GUARD_TEST_SCENE";
/// Exit status by which the program's own handler ends the process.
const OWN: c_int = 42;

/// Every length around the steps of the copy loops, at every alignment of either side.
#[test]
fn copies_are_exact() {
    let source: Vec<u8> = (0..9000usize).map(|at| (at * 7 % 251) as u8).collect();
    let lens = (0..=300).chain([383, 384, 385, 511, 512, 513, 1500, 4096, 4097, 8192]);
    for len in lens {
        for (from, to) in (0..16).flat_map(|from| [(from, 0), (0, from), (from, 15 - from)]) {
            let mut room = vec![0xee; len + 64];
            let copied = Gather::with_bytes(&source[from..from + len], 0, |frame| {
                frame.copy_to(&mut room[to..to + len])
            });
            assert_eq!(copied, Ok(len));
            assert_eq!(
                room[to..to + len],
                source[from..from + len],
                "{len} {from} {to}"
            );
            assert!(
                room[..to]
                    .iter()
                    .chain(&room[to + len..])
                    .all(|byte| *byte == 0xee)
            );
            let mut room = vec![0xee; len + 64];
            let written = Scatter::with_bytes(&mut room[to..to + len], |scatter| {
                scatter.write_at(0, &source[from..from + len])
            });
            assert_eq!(written, Ok(len));
            assert_eq!(
                room[to..to + len],
                source[from..from + len],
                "{len} {from} {to}"
            );
            assert!(
                room[..to]
                    .iter()
                    .chain(&room[to + len..])
                    .all(|byte| *byte == 0xee)
            );
        }
    }
}

/// A copy that runs into a hole from either side fails, whatever its length, and says so.
#[test]
fn copies_into_a_hole_fail() {
    guard::install().expect("the handler can be set");
    let holed = HoledMemory::new(Hole::NoAccess, tempfile::tempfile).expect("test memory");
    let ram = holed.memory.ram();
    let hole = holed.hole() & !0xfff;
    let before = guard::faults();
    for len in (1..=300).chain([500, 4096, 10_000]) {
        let mut room = vec![0; len];
        assert!(ram.read(hole, &mut room).is_err(), "{len}");
    }
    assert_eq!(guard::faults() - before, 302 + 1);
}

/// Plays `scene` in a process of its own.
fn play(scene: &str) -> ExitStatus {
    let program = std::env::current_exe().expect("a test knows its program");
    let mut child = Command::new(program);
    child
        .args(["--exact", "scenes", "--test-threads", "1"])
        .env(SCENE, scene);
    child.output().expect("a test can run itself").status
}

#[test]
fn a_fault_of_others_ends_the_process_as_before() {
    assert_eq!(play("recovers").code(), Some(0));
    assert_eq!(play("wild").signal(), Some(libc::SIGSEGV));
    assert_eq!(play("sent").signal(), Some(libc::SIGSEGV));
    assert_eq!(play("sent bus").signal(), Some(libc::SIGBUS));
}

#[test]
fn the_handler_that_was_there_gets_what_is_not_ours() {
    assert_eq!(play("own before, recovers").code(), Some(0));
    assert_eq!(play("own before, wild").code(), Some(OWN));
    assert_eq!(play("own before, sent").code(), Some(OWN));
    assert_eq!(play("plain before, wild").code(), Some(OWN));
    assert_eq!(play("ignored before, sent").code(), Some(0));
    // Each signal has a handler of its own.
    assert_eq!(play("own for one before, sent").code(), Some(OWN));
    assert_eq!(
        play("own for one before, sent bus").signal(),
        Some(libc::SIGBUS)
    );
}

#[test]
fn a_handler_that_comes_later_can_ask() {
    assert_eq!(play("own after, recovers").code(), Some(0));
    assert_eq!(play("own after, wild").code(), Some(OWN));
}

extern "C" fn own(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(OWN) }
}

extern "C" fn plain(_: c_int) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(OWN) }
}

extern "C" fn asks(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments, in the handler.
    if unsafe { !guard::recover(info, context) } {
        // SAFETY: ends the process.
        unsafe { libc::_exit(OWN) }
    }
}

fn set_one(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: the handlers of this file have the signature that their flags say.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

fn set(handler: usize, flags: c_int) {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        set_one(signal, handler, flags);
    }
}

/// A handler without a stack of its own could not say that a stack has overflowed, and one that
/// blocks its signal would change what a handler that was there before can do.
fn assert_flags() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all bytes zero are a valid disposition, which is overwritten.
        let flags = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(signal, ptr::null(), &mut action), 0);
            action.sa_flags
        };
        let wanted = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        assert_eq!(flags & wanted, wanted);
    }
}

/// One scene of the tests above; nothing when it is run as a test.
#[test]
fn scenes() {
    let Ok(scene) = std::env::var(SCENE) else {
        return;
    };
    // What the standard library put there says nothing in these scenes.
    set(libc::SIG_DFL, 0);
    match scene.split(',').next().unwrap_or_default() {
        "own before" => set(own as *const () as usize, libc::SA_SIGINFO),
        "own for one before" => {
            set_one(libc::SIGSEGV, own as *const () as usize, libc::SA_SIGINFO);
        }
        "plain before" => set(plain as *const () as usize, 0),
        "ignored before" => set(libc::SIG_IGN, 0),
        _ => {}
    }
    guard::install().expect("the handler can be set");
    assert_flags();
    if scene.starts_with("own after") {
        set(asks as *const () as usize, libc::SA_SIGINFO);
    }
    if scene.ends_with("recovers") {
        for hole in [Hole::NoAccess, Hole::Truncated] {
            let holed = HoledMemory::new(hole, tempfile::tempfile).expect("test memory");
            let read = holed.memory.ram().read(holed.hole(), &mut [0; 100]);
            assert_eq!(read, Err(MemoryFault.into()));
        }
    } else if scene.ends_with("wild") {
        // SAFETY: none: this is the fault that the scene is about.
        unsafe { ptr::without_provenance::<u8>(64).read_volatile() };
    } else {
        let signal = if scene.ends_with("bus") {
            libc::SIGBUS
        } else {
            libc::SIGSEGV
        };
        // SAFETY: sends a signal to this thread.
        unsafe { libc::raise(signal) };
    }
}
