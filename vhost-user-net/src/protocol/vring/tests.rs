//! Targets in any order of what is said, and positions of both layouts.

use std::fs::File;

use super::*;
use crate::sys;

const OPEN: Gate = Gate {
    open: true,
    enabled_by_default: false,
};

fn event() -> Option<OwnedFd> {
    Some(sys::event().unwrap().into())
}

fn addrs() -> VhostUserVringAddr {
    VhostUserVringAddr {
        descriptor: 0x1000,
        available: 0x2000,
        used: 0x3000,
        ..Default::default()
    }
}

/// Each thing that has to be said.
fn say(ring: &mut Vring, what: usize) {
    match what {
        0 => ring.set_size(8).unwrap(),
        1 => drop(ring.set_addrs(&addrs())),
        2 => ring.set_kick(event()).unwrap(),
        _ => ring.set_enabled(true),
    }
}

#[test]
fn a_ring_runs_once_all_is_said_in_whatever_order() {
    for first in 0..4 {
        for second in (0..4).filter(|it| *it != first) {
            for third in (0..4).filter(|it| ![first, second].contains(it)) {
                let last = 6 - first - second - third;
                let mut ring = Vring::new(256);
                for what in [first, second, third] {
                    say(&mut ring, what);
                    assert_ne!(ring.target(OPEN), State::Running);
                }
                say(&mut ring, last);
                assert_eq!(ring.target(OPEN), State::Running);
            }
        }
    }
}

#[test]
fn the_gate_holds_a_ring_that_is_ready() {
    let mut ring = Vring::new(256);
    (0..3).for_each(|what| say(&mut ring, what));
    assert_eq!(ring.target(OPEN), State::Held);
    assert_eq!(
        ring.target(Gate {
            enabled_by_default: true,
            ..OPEN
        }),
        State::Running
    );
    ring.set_enabled(false);
    assert_eq!(
        ring.target(Gate {
            enabled_by_default: true,
            ..OPEN
        }),
        State::Held
    );
    ring.set_enabled(true);
    assert_eq!(
        ring.target(Gate {
            open: false,
            ..OPEN
        }),
        State::Held
    );
    ring.forget_kick();
    assert_eq!(ring.target(OPEN), State::Stopped);
}

#[test]
fn a_running_ring_keeps_its_size_and_base() {
    let mut ring = Vring::new(256);
    ring.entered(State::Running);
    assert!(matches!(ring.set_size(8), Err(RingError::Running(_))));
    assert!(matches!(ring.set_base(8), Err(RingError::Running(_))));
}

#[test]
fn the_same_addresses_with_another_log_do_not_move_a_ring() {
    let mut ring = Vring::new(256);
    assert_eq!(ring.set_addrs(&addrs()), (true, false));
    assert_eq!(
        ring.set_addrs(&VhostUserVringAddr {
            flags: 1,
            log: 0x9000,
            ..addrs()
        }),
        (false, true)
    );
    assert_eq!(
        ring.set_addrs(&VhostUserVringAddr {
            flags: 1,
            log: 0x9000,
            ..addrs()
        }),
        (false, false)
    );
    assert_eq!(
        ring.set_addrs(&VhostUserVringAddr {
            used: 0x4000,
            ..addrs()
        }),
        (true, true)
    );
}

#[test]
fn a_split_base_is_an_index() {
    let cursor = decode_base(Layout::Split, 0xffff).unwrap();
    assert_eq!((cursor.avail, cursor.used), (0xffff, None));
    assert_eq!(encode_base(Layout::Split, &cursor), 0xffff);
    assert!(matches!(
        decode_base(Layout::Split, 0x1_0000),
        Err(RingError::Base(_))
    ));
}

#[test]
fn a_packed_base_is_two_positions() {
    for base in [0x8000_8000, 0x0005_8003, 0x8005_0007, 0xffff_ffff] {
        let cursor = decode_base(Layout::Packed, base).unwrap();
        assert_eq!(encode_base(Layout::Packed, &cursor), base);
    }
    assert_eq!(
        decode_base(Layout::Packed, 0x8000_8000).unwrap(),
        Cursor::default()
    );
}

#[test]
fn half_a_packed_base_is_both_positions() {
    let cursor = decode_base(Layout::Packed, 0x8007).unwrap();
    assert_eq!((cursor.avail, cursor.avail_wrap), (7, true));
    assert_eq!((cursor.used, cursor.used_wrap), (Some(7), true));
}

/// A ring at the start of a file whose first descriptor has `flags`.
fn packed(flags: u16) -> (Vring, MemoryTable) {
    use std::os::unix::fs::FileExt;
    let file: File = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(0x4000).unwrap();
    file.write_at(&flags.to_le_bytes(), 0x100e).unwrap();
    let region = vhost::vhost_user::message::VhostUserMemoryRegion::new(0, 0x4000, 0, 0);
    let mut ring = Vring::new(256);
    (0..3).for_each(|what| say(&mut ring, what));
    (ring, MemoryTable::new(vec![(region, file.into())]).unwrap())
}

#[test]
fn a_packed_ring_that_was_never_round_starts_anew_at_zero() {
    for (flags, fresh) in [
        (0, true),
        (1 << 7, true),
        (1 << 7 | 1 << 15, false),
        (1 << 15, false),
    ] {
        let (ring, memory) = packed(flags);
        let setup = ring
            .setup(
                1,
                Layout::Packed,
                false,
                &memory,
                None,
                &LogLimit::default(),
            )
            .unwrap();
        assert_eq!(setup.cursor == Cursor::default(), fresh, "{flags:#x}");
        let split = ring
            .setup(1, Layout::Split, false, &memory, None, &LogLimit::default())
            .unwrap();
        assert_eq!(split.cursor, Cursor::default());
    }
}
