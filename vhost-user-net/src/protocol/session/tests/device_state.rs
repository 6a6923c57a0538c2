//! A device that is saved by one session and loaded by another.

use std::io::{PipeReader, Write, pipe};
use std::os::fd::OwnedFd;

use net_device::Lifecycle;
use vhost::vhost_user::message::VhostUserTransferDeviceState as Asked;

use super::*;

const CONTROL: u64 =
    Features::VIRTIO_NET_F_CTRL_VQ.bits() as u64 | Features::VIRTIO_NET_F_CTRL_RX.bits() as u64;
const FEATURES: u64 = VERSION_1 | PROTOCOL | CONTROL;
const CTRL: u32 = 2;

fn ask(direction: u32, phase: u32, fd: impl Into<OwnedFd>) -> Request {
    Request::SetDeviceStateFd(Asked { direction, phase }, fd.into())
}

fn negotiated<'a>(device: &'a mut NetDevice, guest: &FrontEnd) -> Session<'a> {
    let mut session = Session::new(device).unwrap();
    all(
        &mut session,
        [
            Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits()),
            Request::SetFeatures(FEATURES),
            guest.memory_table(),
        ],
    );
    session
}

fn saved(session: &mut Session<'_>) -> Vec<u8> {
    let (mut reader, writer) = pipe().unwrap();
    let began = session.handle(ask(0, 0, writer)).unwrap();
    assert_eq!(began, Answer::Number(1 << 8));
    let mut state = Vec::new();
    reader.read_to_end(&mut state).unwrap();
    let checked = session.handle(Request::CheckDeviceState).unwrap();
    assert_eq!(checked, Answer::Number(0));
    state
}

fn load(session: &mut Session<'_>, state: &[u8]) -> Result<Answer, SessionError> {
    let (reader, mut writer) = pipe().unwrap();
    assert_eq!(
        session.handle(ask(1, 0, reader)).unwrap(),
        Answer::Number(1 << 8)
    );
    writer.write_all(state).unwrap();
    drop(writer);
    session.handle(Request::CheckDeviceState)
}

/// Has the driver switch promiscuous mode off, by a command in the control ring.
fn switch_promiscuous_off(guest: &FrontEnd, session: &mut Session<'_>) {
    let (ring, command) = (FrontEnd::ring(CTRL), 0x7_0000u64);
    let write = |bytes: &[u8], at| guest.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    // Class RX, command PROMISC, off; the answer behind it.
    write(&[0, 0, 0, 0xff], command);
    for (slot, len, flags, next) in [(0u64, 3u32, 1u16, 1u16), (1, 1, 2, 0)] {
        let desc = ring + 16 * slot;
        write(&(command + 3 * slot).to_le_bytes(), desc);
        write(&len.to_le_bytes(), desc + 8);
        write(&flags.to_le_bytes(), desc + 12);
        write(&next.to_le_bytes(), desc + 14);
    }
    write(&0u16.to_le_bytes(), ring + 0x1004);
    write(&1u16.to_le_bytes(), ring + 0x1002);
    all(session, guest.set_up(CTRL, 0));
    all(session, [Request::SetVringEnable(CTRL, true)]);
}

#[test]
fn a_loaded_device_filters_as_the_saved_one_did_and_its_rings_go_on() {
    let (mut source, wires) = device(1);
    let mut guest = FrontEnd::new();
    let mut session = negotiated(&mut source, &guest);
    switch_promiscuous_off(&guest, &mut session);
    guest.wait_for(CTRL, 1);
    all(&mut session, guest.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    guest.send();
    guest.wait();
    all(&mut session, [CTRL, TX].map(Request::GetVringBase));
    let state = saved(&mut session);
    drop(session);
    assert_eq!(payloads(&wires[0]), [0]);

    let (mut target, wires) = device(1);
    for order in ["features first", "state first"] {
        let mut session = Session::new(&mut target).unwrap();
        let features = Request::SetFeatures(FEATURES);
        if order == "features first" {
            all(&mut session, [features]);
            load(&mut session, &state).unwrap();
        } else {
            load(&mut session, &state).unwrap();
            all(&mut session, [features]);
        }
        all(&mut session, [guest.memory_table()]);
        guest.set_used(RX, 0);
        guest.provide(SIZE);
        all(&mut session, guest.set_up(RX, 0));
        all(&mut session, guest.set_up(TX, u32::from(guest.sent)));
        all(
            &mut session,
            [RX, TX].map(|ring| Request::SetVringEnable(ring, true)),
        );
        guest.send();
        guest.wait();
        // The device announces itself besides, to everybody.
        let mut sent = payloads(&wires[0]);
        sent.retain(|byte| *byte != 0xff);
        assert_eq!(sent, [(guest.sent - 1) as u8], "{order}");
        // For another address: only the saved state has a filter that keeps it out.
        let frame = |mac: [u8; 6]| [&[0; HEADER][..], &mac, &[7; FRAME - 6]].concat();
        wires[0].inject(frame([2, 0, 0, 0, 0, 9]));
        wires[0].inject(frame([2, 0, 0, 0, 0, 1]));
        guest.wait_for(RX, 1);
        let filtered = session
            .device()
            .counters()
            .into_iter()
            .find(|(name, _)| name.contains("filtered"));
        assert!(filtered.is_some_and(|(_, count)| count > 0), "{order}");
    }
    assert_eq!(target.lifecycle(), Lifecycle::Inactive);
}

#[test]
fn a_state_is_transferred_while_no_ring_runs() {
    let (mut device, _wires) = device(1);
    let guest = FrontEnd::new();
    let mut session = running(&mut device, &guest);
    for direction in [0, 1] {
        let (reader, writer) = pipe().unwrap();
        let fd: OwnedFd = if direction == 0 {
            writer.into()
        } else {
            reader.into()
        };
        let refused = session.handle(ask(direction, 0, fd));
        assert!(matches!(refused, Err(SessionError::StateInUse)));
    }
    all(&mut session, [Request::GetVringBase(TX)]);
    let (reader, mut writer) = pipe().unwrap();
    all(&mut session, [ask(1, 0, reader)]);
    writer.write_all(&[0; 100]).unwrap();
    drop(writer);
    // It has to be so at the end as well.
    all(&mut session, guest.set_up(TX, 0));
    let refused = session.handle(Request::CheckDeviceState);
    assert!(matches!(refused, Err(SessionError::StateInUse)));
    assert_eq!(session.rings[TX as usize].state(), State::Running);
}

#[test]
fn other_directions_phases_and_a_check_of_nothing_are_refused() {
    let (mut device, _wires) = device(1);
    let mut session = Session::new(&mut device).unwrap();
    for (direction, phase) in [(2, 0), (0, 1), (u32::MAX, u32::MAX)] {
        let (_reader, writer) = pipe().unwrap();
        let refused = session.handle(ask(direction, phase, writer));
        assert!(matches!(refused, Err(SessionError::NoTransfer { .. })));
    }
    let refused = session.handle(Request::CheckDeviceState);
    assert!(matches!(
        refused,
        Err(SessionError::Transfer(TransferError::Nothing))
    ));
}

#[test]
fn a_state_that_is_cut_or_changed_anywhere_is_refused_and_nothing_of_it_stays() {
    let (mut device, wires) = device(1);
    let mut guest = FrontEnd::new();
    let mut session = negotiated(&mut device, &guest);
    let state = saved(&mut session);
    for len in 0..state.len() {
        assert!(load(&mut session, &state[..len]).is_err(), "{len} bytes");
    }
    for at in 0..state.len() {
        let mut changed = state.clone();
        changed[at] ^= 0x10;
        assert!(load(&mut session, &changed).is_err(), "byte {at}");
    }
    assert!(!session.restored);
    all(&mut session, guest.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    guest.send();
    guest.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn a_transfer_ends_with_its_session_or_with_the_next_one() {
    let (mut device, _wires) = device(1);
    let closed = |reader: &PipeReader| (&*reader).read(&mut [0; 8]).unwrap() == 0;
    let mut session = Session::new(&mut device).unwrap();
    let (reader, mut writer) = pipe().unwrap();
    all(&mut session, [ask(1, 0, reader)]);
    let (second, rest) = pipe().unwrap();
    all(&mut session, [ask(1, 0, second)]);
    assert!(writer.write_all(&[0]).is_err());
    drop((session, rest));

    // A state that was loaded is nothing for the next front-end.
    let mut session = Session::new(&mut device).unwrap();
    let state = saved(&mut session);
    load(&mut session, &state).unwrap();
    let (reader, writer) = pipe().unwrap();
    all(&mut session, [ask(0, 0, writer)]);
    drop(session);
    while !closed(&reader) {}
    assert_eq!(device.lifecycle(), Lifecycle::Inactive);
}
