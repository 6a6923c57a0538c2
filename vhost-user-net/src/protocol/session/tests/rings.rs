//! Rings that start, stop, wait and go on.

use super::*;

#[test]
fn frames_move_in_the_order_of_user_mode_linux() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let _session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn frames_move_in_the_order_of_qemu() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    all(
        &mut session,
        [
            Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits()),
            Request::SetOwner,
            Request::SetVringEnable(0, true),
            Request::SetVringEnable(TX, true),
            Request::SetFeatures(VERSION_1 | PROTOCOL),
            Request::AddMemReg(front_end.region(), own(&front_end.file)),
            Request::AddMemReg(front_end.region(), own(&front_end.file)),
        ],
    );
    all(&mut session, front_end.set_up(TX, 0));
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn a_ring_needs_no_enabling_without_protocol_features() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [front_end.memory_table()]);
    assert_eq!(session.rings[TX as usize].state(), State::Held);
    all(&mut session, [Request::SetFeatures(VERSION_1)]);
    front_end.send();
    front_end.wait();
}

#[test]
fn a_stopped_ring_says_where_it_stands_and_goes_on_from_there() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for _ in 0..3 {
        front_end.send();
        front_end.wait();
    }
    let stopped = session.handle(Request::GetVringBase(TX)).unwrap();
    assert_eq!(stopped, Answer::RingBase(RingValue { ring: TX, value: 3 }));
    front_end.send();
    assert_eq!(payloads(&wires[0]), [0, 1, 2]);
    all(&mut session, front_end.set_up(TX, 3));
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [3]);
}

/// User-mode Linux frees the memory of a ring that it has disabled, and does not stop it.
#[test]
fn a_disabled_ring_is_not_touched() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    all(&mut session, [Request::SetVringEnable(TX, false)]);
    assert_eq!(session.rings[TX as usize].state(), State::Held);
    let at = GuestAddress(FrontEnd::ring(TX));
    let others = vec![0xff; 0x3000];
    front_end.memory.write_slice(&others, at).unwrap();
    crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    all(&mut session, [front_end.memory_table()]);
    let mut left = vec![0; 0x3000];
    front_end.memory.read_slice(&mut left, at).unwrap();
    assert_eq!(left, others);
    assert!(!session.device.needs_reset());
    // The next driver sets its ring up in fresh memory.
    front_end.memory.write_slice(&vec![0; 0x3000], at).unwrap();
    front_end.sent = 0;
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 0]);
}

#[test]
fn a_transmit_ring_that_was_never_enabled_keeps_its_frames() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL),
            front_end.memory_table(),
        ],
    );
    front_end.send();
    all(&mut session, front_end.set_up(TX, 0));
    assert_eq!(session.rings[TX as usize].state(), State::Held);
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn a_disabled_receive_ring_keeps_its_buffers() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    all(&mut session, front_end.set_up(0, 0));
    front_end.provide(2);
    all(&mut session, [Request::SetVringEnable(0, false)]);
    assert_eq!(session.rings[0].state(), State::Held);
    wires[0].inject([0; HEADER + FRAME]);
    // A frame of the other ring goes through the same worker afterwards.
    front_end.send();
    front_end.wait();
    assert_eq!(front_end.used(0), 0);
    all(&mut session, [Request::SetVringEnable(0, true)]);
    front_end.wait_for(0, 1);
}

#[test]
fn features_change_and_rings_are_said_anew_while_one_is_disabled() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    all(&mut session, [Request::SetVringEnable(TX, false)]);
    front_end.send();
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL | 1 << 15),
            Request::NetSetMtu(9000),
            Request::SetVringNum(RingValue {
                ring: TX,
                value: u32::from(SIZE),
            }),
            Request::SetVringBase(RingValue { ring: TX, value: 0 }),
        ],
    );
    front_end.send();
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1, 2]);
}

#[test]
fn starting_twice_changes_descriptors_and_nothing_else() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    front_end.kick = crate::sys::event().unwrap();
    front_end.call = crate::sys::event().unwrap();
    let call = RingFd {
        ring: TX,
        fd: Some(own(&front_end.call)),
    };
    all(
        &mut session,
        [
            front_end.kick_of(TX),
            front_end.kick_of(TX),
            Request::SetVringCall(call),
        ],
    );
    all(
        &mut session,
        [
            Request::SetVringEnable(TX, true),
            front_end.addresses(TX, 0),
        ],
    );
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
}

#[test]
fn before_anything_else_a_ring_stands_at_its_start() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let answer = session.handle(Request::GetVringBase(0)).unwrap();
    assert_eq!(answer, Answer::RingBase(RingValue { ring: 0, value: 0 }));
}

#[test]
fn rings_that_are_not_there_are_refused() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    for ring in [3, 255, 0x1_0000, 0x1_0001, u32::MAX] {
        let mut requests = front_end.set_up(ring, 0);
        requests.extend([
            Request::GetVringBase(ring),
            Request::SetVringEnable(ring, true),
            Request::SetVringErr(RingFd { ring, fd: None }),
        ]);
        for request in requests {
            assert!(matches!(
                session.handle(request),
                Err(SessionError::NoRing { last: 2, .. })
            ));
        }
    }
}

#[test]
fn sizes_and_addresses_that_no_ring_has_are_refused() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for value in [0, 257, 0x1_0008, u32::MAX] {
        assert!(
            session
                .handle(Request::SetVringNum(RingValue { ring: 0, value }))
                .is_err()
        );
    }
    let requests = || {
        let mut requests = front_end.set_up(0, 0);
        requests.truncate(2);
        requests
    };
    for base in [0, USER - 0x1000, USER + MEMORY, !0xfff] {
        all(&mut session, requests());
        let addrs = VhostUserVringAddr {
            index: 0,
            descriptor: base,
            used: base,
            available: base,
            ..Default::default()
        };
        all(
            &mut session,
            [
                Request::SetVringEnable(0, true),
                Request::SetVringAddr(addrs),
            ],
        );
        assert!(session.handle(front_end.kick_of(0)).is_err(), "{base:#x}");
        assert_eq!(session.rings[0].state(), State::Stopped);
    }
    assert_eq!(session.rings[TX as usize].state(), State::Running);
}

#[test]
fn what_a_running_ring_is_made_of_cannot_change() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    assert!(
        session
            .handle(Request::SetVringNum(RingValue { ring: TX, value: 4 }))
            .is_err()
    );
    assert!(
        session
            .handle(Request::SetVringBase(RingValue { ring: TX, value: 4 }))
            .is_err()
    );
    let polling = session.handle(Request::SetVringKick(RingFd { ring: TX, fd: None }));
    assert!(matches!(
        polling,
        Err(SessionError::Ring(TX, RingError::Polling))
    ));
}

#[test]
fn rings_beyond_what_messages_can_number_are_told_at_once() {
    let (mut device, _wires) = device(128);
    let mut session = Session::new(&mut device).unwrap();
    let count = session.handle(Request::GetQueueNum);
    assert!(matches!(count, Ok(Answer::Number(256))), "{count:?}");
    let size = |ring| Request::SetVringNum(RingValue { ring, value: 8 });
    session.handle(size(255)).unwrap();
    let error = session.handle(size(256)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no ring 256; with --queue-pairs 128 the last one is ring 255"
    );
}
