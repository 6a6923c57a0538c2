//! The in-flight region: who gets one, and rings that go on from it.

use std::os::unix::fs::FileExt;

use super::resume::{negotiated, signalled, start};
use super::*;
use crate::protocol::wire::InflightArea;

/// A region for both rings of a pair, as the front-end keeps it.
fn region(session: &mut Session<'_>) -> (InflightArea, File) {
    let answer = session.handle(Request::GetInflightFd(2, SIZE)).unwrap();
    let Answer::Inflight(area) = answer else {
        panic!("{answer:?}");
    };
    (area, session.take_reply_fd().unwrap().into())
}

fn set((area, file): &(InflightArea, File)) -> Request {
    Request::SetInflightFd(*area, own(file))
}

/// Offset of the transmit ring's part.
fn part((area, _): &(InflightArea, File)) -> u64 {
    area.size / 2
}

/// The version in the transmit ring's part: 0 while nothing is kept.
fn version(kept: &(InflightArea, File)) -> u8 {
    let mut byte = [0];
    kept.1.read_exact_at(&mut byte, part(kept) + 8).unwrap();
    byte[0]
}

/// A transmit ring that has sent three frames under a region, and its lost session.
fn three_sent(device: &mut NetDevice, guest: &mut FrontEnd) -> (InflightArea, File) {
    let mut session = negotiated(device, guest, 0);
    let kept = region(&mut session);
    all(&mut session, [set(&kept)]);
    start(&mut session, guest, TX, 0);
    for _ in 0..3 {
        guest.send();
        guest.wait();
    }
    kept
}

#[test]
fn a_frame_that_is_marked_used_is_shown_and_not_sent_again() {
    let (mut device, wires) = device(1);
    let mut guest = FrontEnd::new();
    let kept = three_sent(&mut device, &mut guest);
    // As a device leaves it that was killed before it showed the last two.
    guest.set_used(TX, 1);
    let mut session = negotiated(&mut device, &guest, 0);
    all(&mut session, [set(&kept)]);
    start(&mut session, &guest, TX, 0);
    assert_eq!(guest.used(TX), 3);
    guest.send();
    guest.wait();
    assert_eq!(payloads(&wires[0]), [0, 1, 2, 3]);
    // Without a region they are sent once more.
    drop(session);
    guest.set_used(TX, 1);
    let mut session = negotiated(&mut device, &guest, 0);
    start(&mut session, &guest, TX, 0);
    guest.wait();
    assert_eq!(payloads(&wires[0]), [1, 2, 3]);
}

#[test]
fn a_ring_that_was_stopped_or_reset_goes_on_where_the_front_end_says() {
    for stop in [Request::GetVringBase(TX), Request::ResetDevice] {
        let (mut device, _wires) = device(1);
        let mut guest = FrontEnd::new();
        let kept = three_sent(&mut device, &mut guest);
        let mut session = negotiated(&mut device, &guest, 0);
        all(&mut session, [set(&kept)]);
        start(&mut session, &guest, TX, 0);
        assert_eq!(version(&kept), 1);
        all(&mut session, [stop]);
        assert_eq!(version(&kept), 0);
    }
}

#[test]
fn a_region_of_a_device_that_works_out_of_order_stops_its_ring_and_no_other() {
    let (mut device, wires) = device(1);
    let mut guest = FrontEnd::new();
    let kept = three_sent(&mut device, &mut guest);
    // The first entry is marked as in flight.
    kept.1.write_all_at(&[1], part(&kept) + 16).unwrap();
    let mut session = negotiated(&mut device, &guest, 0);
    let error = crate::sys::event().unwrap();
    let fd = Some(own(&error));
    all(
        &mut session,
        [set(&kept), Request::SetVringErr(RingFd { ring: TX, fd })],
    );
    start(&mut session, &guest, TX, 0);
    assert_eq!(session.rings[TX as usize].state(), State::Stopped);
    assert!(signalled(&error));
    guest.provide(1);
    start(&mut session, &guest, RX, 0);
    wires[0].inject([0; HEADER + FRAME]);
    guest.wait_for(RX, 1);
    // The driver begins anew.
    all(&mut session, [Request::GetVringBase(TX)]);
    start(&mut session, &guest, TX, 3);
    assert_eq!(session.rings[TX as usize].state(), State::Running);
}

#[test]
fn a_region_that_shrinks_under_its_ring_harms_nobody() {
    let (mut device, wires) = device(1);
    let mut guest = FrontEnd::new();
    let mut session = negotiated(&mut device, &guest, 0);
    let (area, _) = region(&mut session);
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(area.size).unwrap();
    let kept = (area, file);
    all(&mut session, [set(&kept)]);
    start(&mut session, &guest, TX, 0);
    kept.1.set_len(0).unwrap();
    for _ in 0..3 {
        guest.send();
        guest.wait();
    }
    assert_eq!(payloads(&wires[0]), [0, 1, 2]);
    all(&mut session, [Request::GetVringBase(TX)]);
    // Nor does one that is gone when a ring is to go on from it.
    drop(session);
    kept.1.set_len(area.size).unwrap();
    let mut session = negotiated(&mut device, &guest, 0);
    all(&mut session, [set(&kept)]);
    kept.1.set_len(0).unwrap();
    start(&mut session, &guest, TX, 3);
    assert_eq!(session.rings[TX as usize].state(), State::Stopped);
}

#[test]
fn regions_that_fit_no_device_or_come_too_late_are_refused() {
    let (mut device, _wires) = device(1);
    let guest = FrontEnd::new();
    let mut session = negotiated(&mut device, &guest, 0).requiring_sealed(true);
    // Two queues and the control queue, of 32768 descriptors at most.
    for (queues, size) in [(0, SIZE), (4, SIZE), (2, 0), (2, 0x8001)] {
        let refused = session.handle(Request::GetInflightFd(queues, size));
        assert!(
            matches!(refused, Err(SessionError::NoInflight { .. })),
            "{queues} of {size}: {refused:?}"
        );
    }
    let kept = region(&mut session);
    let open = tempfile::tempfile_in("/dev/shm").unwrap();
    open.set_len(kept.0.size).unwrap();
    let refused = session.handle(set(&(kept.0, open)));
    assert!(matches!(
        refused,
        Err(SessionError::Inflight(MapError::Unsealed))
    ));
    all(&mut session, [set(&kept)]);
    start(&mut session, &guest, TX, 0);
    let refused = session.handle(set(&kept));
    assert!(matches!(refused, Err(SessionError::InflightInUse)));
}
