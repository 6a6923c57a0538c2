//! Front-ends that exist: what they send, what they wait for, and how they are refused.

use std::time::Duration;

use net_device::Features;
use vhost::VhostBackend;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostUserDirtyLogRegion, vhost_user};

use super::*;
use crate::daemon::requests::{Broken, step};
use crate::protocol::connection::{Connection, ConnectionError};

/// Serves one front-end of the `vhost` crate with a session, to the end of what it does.
fn served<T: Send>(
    session: &mut Session<'_>,
    front_end: impl FnOnce(Frontend) -> T + Send,
) -> (T, Broken) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    // A front-end that waits for more than it gets fails instead.
    theirs
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut connection = Connection::new(ours).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| front_end(Frontend::from_stream(theirs, 8)));
        let mut refusals = 0;
        let end = loop {
            let interest = connection.interest();
            assert!(crate::sys::is_ready(&connection, interest, Some(60_000)).unwrap());
            if let Err(end) = step("test", &mut connection, session, &mut refusals) {
                break end;
            }
        };
        drop(connection);
        (thread.join().unwrap(), end)
    })
}

/// Negotiates all that there is, with an answer to each request.
fn negotiated(front_end: &mut Frontend, features: u64) {
    front_end.set_owner().unwrap();
    front_end.get_features().unwrap();
    let protocol = front_end.get_protocol_features().unwrap();
    front_end.set_protocol_features(protocol).unwrap();
    front_end.set_hdr_flags(vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
    front_end
        .set_features(features | VERSION_1 | PROTOCOL)
        .unwrap();
}

fn log_of(file: &File, size: u64) -> Option<VhostUserDirtyLogRegion> {
    Some(VhostUserDirtyLogRegion {
        mmap_size: size,
        mmap_offset: 0,
        mmap_handle: std::os::fd::AsRawFd::as_raw_fd(file),
    })
}

#[test]
fn a_log_is_answered_so_that_every_front_end_goes_on() {
    let (mut device, _wires) = device(1);
    let guest = FrontEnd::new();
    let mut session = running(&mut device, &guest);
    let log = tempfile::tempfile_in("/dev/shm").unwrap();
    log.set_len(0x1000).unwrap();
    let (end, _) = served(&mut session, |mut front_end| {
        negotiated(&mut front_end, 0);
        front_end.set_log_base(0, log_of(&log, 0x1000)).unwrap();
        // The answer left nothing behind that would be taken for the next one.
        front_end
            .set_features(VERSION_1 | PROTOCOL | LOG_ALL)
            .unwrap();
        front_end.get_queue_num().unwrap()
    });
    assert_eq!(end, 3);
    assert!(session.logging().is_some());
}

#[test]
fn a_log_that_ends_before_the_memory_is_refused() {
    let (mut device, _wires) = device(1);
    let guest = FrontEnd::new();
    let mut session = running(&mut device, &guest);
    let log = tempfile::tempfile_in("/dev/shm").unwrap();
    log.set_len(0x1000).unwrap();
    let needed = MEMORY / 0x1000 / 8;
    let (refused, _) = served(&mut session, |mut front_end| {
        negotiated(&mut front_end, 0);
        let refused = front_end.set_log_base(0, log_of(&log, needed - 1)).is_err();
        front_end.set_log_base(0, log_of(&log, needed)).unwrap();
        refused
    });
    assert!(refused);
    // Memory beyond the log is not added under running rings either.
    all(
        &mut session,
        [Request::SetFeatures(VERSION_1 | PROTOCOL | LOG_ALL)],
    );
    let more = VhostUserMemoryRegion::new(1 << 30, 0x1000, USER << 1, 0);
    let refused = session.handle(Request::AddMemReg(more, own(&guest.file)));
    assert!(matches!(refused, Err(SessionError::ShortLog(_))));
}

#[test]
fn a_missing_ring_has_no_base_that_looks_like_one() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let (base, end) = served(&mut session, |mut front_end| {
        negotiated(&mut front_end, 0);
        front_end.get_vring_base(7)
    });
    assert!(base.is_err(), "{base:?}");
    assert!(matches!(
        end,
        Broken::Refused(_, SessionError::NoRing { ring: 7, .. })
    ));
}

#[test]
fn a_front_end_that_wants_more_pairs_than_there_are_is_told_at_once() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let call = vmm_sys_util::eventfd::EventFd::new(0).unwrap();
    let (told, _) = served(&mut session, |mut front_end| {
        negotiated(&mut front_end, 0);
        // As QEMU does for each ring before its guest runs.
        let told = front_end.set_vring_call(3, &call).is_err();
        front_end.set_vring_call(2, &call).unwrap();
        told
    });
    assert!(told);
    let error = session
        .handle(Request::SetVringCall(RingFd { ring: 3, fd: None }))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no ring 3; with --queue-pairs 1 the last one is ring 2"
    );
}

#[test]
fn a_write_to_the_configuration_is_refused_but_ends_nothing() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let before = session.device.config_generation();
    let (refused, end) = served(&mut session, |mut front_end| {
        let flags = vhost_user::message::VhostUserConfigFlags::WRITABLE;
        negotiated(&mut front_end, 0);
        let refused = front_end.set_config(0, flags, &[2; 6]).is_err();
        front_end.set_hdr_flags(vhost_user::message::VhostUserHeaderFlag::empty());
        front_end.set_config(0, flags, &[2; 6]).unwrap();
        front_end.get_features().unwrap();
        refused
    });
    assert!(refused);
    assert!(matches!(end, Broken::Connection(ConnectionError::Closed)));
    assert_eq!(session.device.config_generation(), before);
}

#[test]
fn a_front_end_that_passes_its_own_socket_is_seen_to_go() {
    use std::os::fd::AsRawFd;
    use vmm_sys_util::sock_ctrl_msg::ScmSocket;
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    let (theirs, ours) = UnixStream::pair().unwrap();
    let mut connection = Connection::new(ours).unwrap();
    let set_channel = [21u32, 1, 0].map(u32::to_ne_bytes);
    theirs
        .send_with_fd(set_channel.as_flattened(), theirs.as_raw_fd())
        .unwrap();
    drop(theirs);
    let interest = connection.interest();
    assert!(crate::sys::is_ready(&connection, interest, Some(10_000)).unwrap());
    let end = step("test", &mut connection, &mut session, &mut 0);
    assert!(matches!(
        end,
        Err(Broken::Connection(ConnectionError::Closed))
    ));
}

#[test]
fn the_mtu_that_the_front_end_tells_the_driver_is_the_one_in_force() {
    const MTU: u64 = Features::VIRTIO_NET_F_MTU.bits() as u64;
    for (negotiated, told, arrives) in [
        (0, None, true),
        (MTU, None, false),
        (MTU, Some(9000), true),
        (MTU, Some(2000), false),
    ] {
        let (mut device, wires) = device_with_mtu(1500);
        let mut guest = FrontEnd::new();
        let mut session = Session::new(&mut device).unwrap();
        all(
            &mut session,
            [Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits())],
        );
        all(&mut session, told.map(Request::NetSetMtu));
        all(
            &mut session,
            [
                Request::SetFeatures(VERSION_1 | PROTOCOL | negotiated),
                guest.memory_table(),
            ],
        );
        all(&mut session, guest.set_up(RX, 0));
        all(&mut session, [Request::SetVringEnable(RX, true)]);
        guest.provide(2);
        // A long frame, and a short one that always arrives.
        wires[0].inject([&[0; HEADER][..], &[1; 3000]].concat());
        wires[0].inject([&[0; HEADER][..], &[2; FRAME]].concat());
        guest.wait_for(RX, if arrives { 2 } else { 1 });
        assert_eq!(
            guest.written(0),
            HEADER as u32 + if arrives { 3000 } else { FRAME as u32 }
        );
    }
}

#[test]
fn an_mtu_that_is_none_or_comes_too_late_is_refused() {
    let (mut device, _wires) = device(1);
    let guest = FrontEnd::new();
    let mut session = running(&mut device, &guest);
    for mtu in [0, 67, 65_536, u64::MAX, 9000] {
        assert!(session.handle(Request::NetSetMtu(mtu)).is_err(), "{mtu}");
    }
    all(
        &mut session,
        [
            Request::GetVringBase(TX),
            Request::NetSetMtu(9000),
            Request::NetSetMtu(9000),
        ],
    );
    drop(session);
    assert_eq!(device.driver_mtu(), None);
}
