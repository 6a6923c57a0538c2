//! Agreement, changes, and the end of a session.

use super::*;

#[test]
fn features_come_again_and_cannot_change_under_a_ring() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    all(&mut session, [Request::SetFeatures(VERSION_1 | PROTOCOL)]);
    let changed = session.handle(Request::SetFeatures(VERSION_1 | PROTOCOL | 1 << 15));
    assert!(matches!(changed, Err(SessionError::FeaturesInUse)));
    all(
        &mut session,
        [
            Request::GetVringBase(TX),
            Request::SetFeatures(VERSION_1 | PROTOCOL | 1 << 15),
        ],
    );
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    assert!(
        session
            .handle(Request::SetFeatures(VERSION_1 | 1 << 60))
            .is_err()
    );
    assert!(
        session.handle(Request::SetFeatures(0)).is_err(),
        "a legacy driver"
    );
    assert!(
        session
            .handle(Request::SetProtocolFeatures(1 << 7))
            .is_err()
    );
}

#[test]
fn a_front_end_may_keep_the_control_queue_to_itself() {
    let (mut device, wires) = device(2);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    let mq = Features::VIRTIO_NET_F_MQ.bits() as u64;
    assert_eq!(
        session.handle(Request::GetQueueNum).unwrap(),
        Answer::Number(5)
    );
    assert_ne!(session.offered_features() & mq, 0);
    all(
        &mut session,
        [
            Request::SetFeatures(VERSION_1 | PROTOCOL | mq),
            front_end.memory_table(),
        ],
    );
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.send();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn the_configuration_reads_the_same_in_any_pieces() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let mut read = |offset, size| {
        let config = VhostUserConfig::new(offset, size, VhostUserConfigFlags::empty());
        match session.handle(Request::GetConfig(config)).unwrap() {
            Answer::Config(at, data) if at == offset => data,
            other => panic!("{other:?}"),
        }
    };
    let whole = read(0, 24);
    assert_eq!(whole[..6], [2, 0, 0, 0, 0, 1]);
    let bytes: Vec<u8> = (0..24).flat_map(|offset| read(offset, 1)).collect();
    assert_eq!(bytes, whole);
    assert_eq!(read(0xff0, 16), [0; 16]);
}

#[test]
fn the_front_end_hears_of_a_changed_configuration() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    all(&mut session, [Request::SetBackendReqFd(ours.into())]);
    session.device.set_link(false);
    let event = session.interrupts().config_event().as_fd();
    let ready = crate::sys::is_ready(event, Interest::Readable, Some(10_000)).unwrap();
    assert!(ready);
    session.config_changed().unwrap();
    let mut message = [0; 12];
    theirs.read_exact(&mut message).unwrap();
    assert_eq!(
        message.as_slice(),
        [2u32, 1, 0].map(u32::to_ne_bytes).as_flattened()
    );
}

#[test]
fn a_front_end_announces_a_guest_that_cannot() {
    let (mut device, wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let mac = [2, 0, 0, 0, 0, 9];
    all(&mut session, [Request::SendRarp(mac)]);
    let sent = wires[0].take_sent();
    assert_eq!(sent.len(), 1);
    let frame = &sent[0][HEADER..];
    assert_eq!((frame.len(), &frame[6..12]), (60, &mac[..]));
    assert_eq!(frame[12..14], [0x80, 0x35]);
}

#[test]
fn a_front_end_that_never_hears_does_no_harm() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let (theirs, ours) = UnixStream::pair().unwrap();
    all(&mut session, [Request::SetBackendReqFd(ours.into())]);
    for _ in 0..10_000 {
        session.config_changed().unwrap();
    }
    assert!(session.channel.is_some());
    drop(theirs);
    session.config_changed().unwrap();
    assert!(session.channel.is_none());
}

#[test]
fn what_is_no_socket_is_no_channel() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let file = own(&tempfile::tempfile_in("/dev/shm").unwrap());
    assert!(matches!(
        session.handle(Request::SetBackendReqFd(file)),
        Err(SessionError::Channel)
    ));
}

#[test]
fn the_end_of_a_session_closes_what_came_with_it() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let session = running(&mut device, &front_end);
    let (mut reader, writer) = io::pipe().unwrap();
    let mut session = session;
    for ring in 0..3 {
        let fd = || Some(writer.try_clone().unwrap().into());
        all(
            &mut session,
            [
                Request::SetVringKick(RingFd { ring, fd: fd() }),
                Request::SetVringCall(RingFd { ring, fd: fd() }),
                Request::SetVringErr(RingFd { ring, fd: fd() }),
            ],
        );
    }
    drop(writer);
    drop(session);
    // Ends when the last writer is closed, or never.
    reader.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn one_session_follows_another_on_the_same_device() {
    let (mut device, wires) = device(1);
    for _ in 0..5 {
        let mut front_end = FrontEnd::new();
        let session = running(&mut device, &front_end);
        front_end.send();
        front_end.wait();
        drop(session);
    }
    assert_eq!(payloads(&wires[0]).len(), 5);
}

#[test]
fn after_a_reset_everything_is_said_anew() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    all(&mut session, [Request::ResetDevice]);
    assert_eq!(session.rings[TX as usize].state(), State::Stopped);
    front_end.send();
    all(&mut session, [Request::SetFeatures(VERSION_1 | PROTOCOL)]);
    all(&mut session, front_end.set_up(TX, 1));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
}
