//! Memory that changes under a ring, and pages that are marked.

use super::*;

#[test]
fn memory_is_replaced_under_a_running_ring() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for round in 1..=8u64 {
        front_end.send();
        let more = tempfile::tempfile_in("/dev/shm").unwrap();
        more.set_len(round << 12).unwrap();
        let region = VhostUserMemoryRegion::new(1 << 30, round << 12, USER << 1, 0);
        let table = vec![
            (front_end.region(), own(&front_end.file)),
            (region, own(&more)),
        ];
        all(&mut session, [Request::SetMemTable(table)]);
    }
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_ring_moves_with_its_memory() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    // The same file is guest memory at two places; the ring is now in the second.
    let second = VhostUserMemoryRegion::new(1 << 30, MEMORY, USER, 0);
    let first = VhostUserMemoryRegion::new(0, MEMORY, USER << 1, 0);
    let table = vec![
        (first, own(&front_end.file)),
        (second, own(&front_end.file)),
    ];
    all(&mut session, [Request::SetMemTable(table)]);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
}

#[test]
fn memory_of_a_running_ring_stays() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let removed = session.handle(Request::RemMemReg(front_end.region()));
    assert!(matches!(removed, Err(SessionError::MemoryInUse)));
    assert!(session.handle(Request::SetMemTable(Vec::new())).is_err());
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
    all(
        &mut session,
        [
            Request::GetVringBase(TX),
            Request::RemMemReg(front_end.region()),
        ],
    );
}

#[test]
fn written_pages_are_marked_while_logging_is_on() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let mut log = tempfile::tempfile_in("/dev/shm").unwrap();
    log.set_len(0x1000).unwrap();
    let answer = session
        .handle(Request::SetLogBase(VhostUserLog::new(0x1000, 0), own(&log)))
        .unwrap();
    assert_eq!(
        answer,
        Answer::Log {
            size: 0x1000,
            offset: 0
        }
    );
    let mut dirty = |clear: bool| {
        use std::io::{Seek, SeekFrom, Write};
        let mut bytes = Vec::new();
        log.seek(SeekFrom::Start(0)).unwrap();
        log.read_to_end(&mut bytes).unwrap();
        if clear {
            log.seek(SeekFrom::Start(0)).unwrap();
            log.write_all(&[0; 0x1000]).unwrap();
        }
        (0..bytes.len() * 8)
            .filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1)
            .collect::<Vec<_>>()
    };
    let used_page = ((FrontEnd::ring(TX) + 0x2000) >> 12) as usize;

    front_end.send();
    front_end.wait();
    assert!(dirty(true).is_empty());
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL | LOG_ALL),
            front_end.addresses(TX, 1),
        ],
    );
    let _ = dirty(true);
    front_end.send();
    front_end.wait();
    assert_eq!(dirty(true), [used_page]);
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL),
            front_end.addresses(TX, 0),
        ],
    );
    let _ = dirty(true);
    front_end.send();
    front_end.wait();
    assert!(dirty(true).is_empty());
}

/// The front-end shortens the file of its memory: its ring breaks and says so, the process and
/// another device's front-end notice nothing, and the next front-end is served.
#[test]
fn memory_that_is_taken_away_ends_its_own_ring_alone() {
    let (mut device, wires) = super::device(1);
    let (mut other_device, other_wires) = super::device(1);
    let mut front_end = FrontEnd::new();
    let mut other = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let other_session = running(&mut other_device, &other);
    let broken = crate::sys::event().unwrap();
    let error = RingFd {
        ring: TX,
        fd: Some(own(&broken)),
    };
    all(&mut session, [Request::SetVringErr(error)]);
    front_end.send();
    front_end.wait();
    front_end.file.set_len(0).unwrap();
    crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    let event = session.interrupts().config_event().as_fd();
    let told = crate::sys::is_ready(event, Interest::Readable, Some(10_000)).unwrap();
    assert!(told, "the session is told");
    session.config_changed().unwrap();
    let told = crate::sys::is_ready(broken.as_fd(), Interest::Readable, Some(10_000)).unwrap();
    assert!(told, "and so is the front-end");
    other.send();
    other.wait();
    assert_eq!(payloads(&other_wires[0]), [0]);
    drop((session, other_session));
    let mut next = FrontEnd::new();
    let _session = running(&mut device, &next);
    next.send();
    next.wait();
    assert_eq!(payloads(&wires[0]), [0, 0]);
}

/// A dirty log that is taken away ends the session that it belongs to.
#[test]
fn a_log_that_is_taken_away_ends_its_session() {
    let (mut device, wires) = super::device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let log = tempfile::tempfile_in("/dev/shm").unwrap();
    log.set_len(0x1000).unwrap();
    all(
        &mut session,
        [
            Request::SetLogBase(VhostUserLog::new(0x1000, 0), own(&log)),
            Request::SetFeatures(VERSION_1 | PROTOCOL | LOG_ALL),
        ],
    );
    log.set_len(0).unwrap();
    front_end.send();
    front_end.wait();
    let event = session.interrupts().config_event().as_fd();
    let told = crate::sys::is_ready(event, Interest::Readable, Some(10_000)).unwrap();
    assert!(told, "the session is told");
    assert!(matches!(
        session.config_changed(),
        Err(SessionError::LogLost)
    ));
    assert_eq!(payloads(&wires[0]), [0]);
}
