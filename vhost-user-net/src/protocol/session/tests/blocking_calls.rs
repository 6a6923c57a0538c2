//! Front-ends that make a descriptor block again after they passed it, and fill it: a worker that
//! writes to it waits, and nobody who needs that worker does.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::*;

/// A descriptor to be interrupted through, to which writes wait from now on. Both ends of it stay.
struct Blocking {
    write: File,
    _read: Option<OwnedFd>,
}

impl Blocking {
    fn all() -> [Self; 2] {
        let (read, write) = io::pipe().unwrap();
        [
            Self {
                write: crate::sys::event().unwrap(),
                _read: None,
            },
            Self {
                write: File::from(OwnedFd::from(write)),
                _read: Some(read.into()),
            },
        ]
    }

    fn passed(&self) -> Option<OwnedFd> {
        Some(own(&self.write))
    }

    fn fill_and_block(&mut self) {
        let set = |flag: fn(OFlags) -> OFlags| {
            let flags = fcntl_getfl(&self.write).unwrap();
            fcntl_setfl(&self.write, flag(flags)).unwrap();
        };
        set(|flags| flags | OFlags::NONBLOCK);
        let most = (u64::MAX - 1).to_ne_bytes();
        while (&self.write).write(&most).is_ok() {}
        set(|flags| flags - OFlags::NONBLOCK);
    }
}

/// Requests and ends after each of which `check` finds a device that goes on, although the worker
/// of the transmit ring waited in a write.
fn with_a_worker_that_waits(check: impl Fn(Session<'_>, &mut FrontEnd, &Wire)) {
    for mut call in Blocking::all() {
        let (mut device, wires) = device(1);
        let mut front_end = FrontEnd::new();
        let mut session = running(&mut device, &front_end);
        let fd = call.passed();
        all(
            &mut session,
            [Request::SetVringCall(RingFd { ring: TX, fd })],
        );
        call.fill_and_block();
        front_end.send();
        // The driver is told next, and it asked for that.
        while front_end.used(TX) != 1 {
            std::thread::yield_now();
        }
        check(session, &mut front_end, &wires[0]);
        let mut next = running(&mut device, &FrontEnd::new());
        all(&mut next, [Request::GetVringBase(TX)]);
    }
}

#[test]
fn get_vring_base_is_answered() {
    with_a_worker_that_waits(|mut session, _, _| {
        let answer = session.handle(Request::GetVringBase(TX)).unwrap();
        assert!(
            matches!(answer, Answer::RingBase(RingValue { value: 1, .. })),
            "{answer:?}"
        );
    });
}

#[test]
fn the_session_ends() {
    with_a_worker_that_waits(|session, _, _| drop(session));
}

#[test]
fn memory_and_logs_change() {
    with_a_worker_that_waits(|mut session, front_end, _| {
        all(&mut session, [front_end.memory_table()]);
    });
}

#[test]
fn a_new_call_descriptor_is_taken_and_the_ring_goes_on() {
    with_a_worker_that_waits(|mut session, front_end, wire| {
        let fd = Some(own(&front_end.call));
        all(
            &mut session,
            [Request::SetVringCall(RingFd { ring: TX, fd })],
        );
        front_end.send();
        front_end.wait();
        assert_eq!(payloads(wire), [0, 1]);
    });
}

#[test]
fn what_the_session_itself_signals_does_not_keep_it() {
    for mut call in Blocking::all() {
        let (mut device, _wires) = device(1);
        let front_end = FrontEnd::new();
        let mut session = running(&mut device, &front_end);
        let ring = |fd| RingFd { ring: TX, fd };
        all(
            &mut session,
            [
                Request::SetVringCall(ring(call.passed())),
                Request::SetVringErr(ring(call.passed())),
            ],
        );
        call.fill_and_block();
        // It goes on where it stood, of which the driver is told.
        all(&mut session, [front_end.kick_of(TX)]);
        all(&mut session, [Request::GetVringBase(TX)]);
        all(&mut session, front_end.set_up(TX, 0));
        // The available index jumps.
        let address = GuestAddress(FrontEnd::ring(TX) + 0x1000 + 2);
        front_end.memory.write_obj(0x7000u16, address).unwrap();
        crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
        let changed = Arc::clone(session.interrupts());
        assert!(crate::sys::is_ready(changed.config_event(), Interest::Readable, None).unwrap());
        session.config_changed().unwrap();
        assert!(session.device().needs_reset());
    }
}
