//! Memory that changes under a ring, and pages that are marked.

use super::*;

#[test]
fn memory_is_replaced_under_a_running_ring() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for round in 1..=8u64 {
        front_end.send();
        let more = tempfile::tempfile().unwrap();
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
    let mut log = tempfile::tempfile().unwrap();
    log.set_len(0x1000).unwrap();
    let answer = session
        .handle(Request::SetLogBase(VhostUserLog::new(0x1000, 0), own(&log)))
        .unwrap();
    assert_eq!(answer, Answer::Number(0));
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
