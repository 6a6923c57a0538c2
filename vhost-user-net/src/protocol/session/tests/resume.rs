//! Positions at which rings go on, their interrupts, and faults that come again.

use super::*;

const PACKED: u64 = RING_PACKED;
/// A packed ring's start: both positions in the first lap.
const PACKED_START: u32 = 0x8000_8000;

pub(super) fn negotiated<'a>(
    device: &'a mut NetDevice,
    guest: &FrontEnd,
    features: u64,
) -> Session<'a> {
    let mut session = Session::new(device).unwrap();
    all(
        &mut session,
        [
            Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits()),
            Request::SetFeatures(VERSION_1 | PROTOCOL | features),
            guest.memory_table(),
        ],
    );
    session
}

pub(super) fn start(session: &mut Session<'_>, guest: &FrontEnd, ring: u32, base: u32) {
    all(session, guest.set_up(ring, base));
    all(session, [Request::SetVringEnable(ring, true)]);
}

/// Returns whether `event` was signalled since the last look.
pub(super) fn signalled(mut event: &File) -> bool {
    event.read(&mut [0; 8]).is_ok()
}

#[test]
fn a_split_ring_goes_on_at_its_used_index_whatever_the_base() {
    for (base, posted) in [(3, 3), (8, 8), (0, 4), (0xfff0, 2)] {
        let (mut device, wires) = device(1);
        let mut guest = FrontEnd::new();
        let mut session = negotiated(&mut device, &guest, 0);
        start(&mut session, &guest, TX, 0);
        guest.send();
        guest.wait();
        // The device, or the guest, comes from elsewhere; the driver had gone on.
        drop(session);
        for _ in 0..posted {
            guest.post();
        }
        let mut session = negotiated(&mut device, &guest, 0);
        start(&mut session, &guest, TX, base);
        guest.wait();
        assert_eq!(payloads(&wires[0]).len(), 1 + posted, "base {base}");
        let stopped = session.handle(Request::GetVringBase(TX)).unwrap();
        let value = 1 + posted as u32;
        assert_eq!(stopped, Answer::RingBase(RingValue { ring: TX, value }));
    }
}

#[test]
fn receiving_goes_on_when_the_base_is_the_drivers_available_index() {
    let (mut device, wires) = device(1);
    let mut guest = FrontEnd::new();
    let mut session = negotiated(&mut device, &guest, 0);
    guest.provide(SIZE);
    start(&mut session, &guest, RX, u32::from(SIZE));
    for number in 0..SIZE {
        wires[0].inject([&[0; HEADER][..], &[number as u8; FRAME]].concat());
    }
    guest.wait_for(RX, SIZE);
}

#[test]
fn a_fresh_ring_is_not_interrupted_and_one_that_goes_on_is() {
    for (layout, begin, later) in [(0, 0, 5), (PACKED, PACKED_START, 0x8005_8005)] {
        for ring in [RX, TX, 2] {
            let (mut device, _wires) = device(1);
            let guest = FrontEnd::new();
            let control = Features::VIRTIO_NET_F_CTRL_VQ.bits() as u64;
            let mut session = negotiated(&mut device, &guest, layout | control);
            start(&mut session, &guest, ring, begin);
            // A stop waits for whatever the worker does first.
            all(&mut session, [Request::GetVringBase(ring)]);
            assert!(!signalled(&guest.call), "{layout:#x}, ring {ring}");
            // Again, by the same front-end: its driver may have missed an interrupt.
            start(&mut session, &guest, ring, begin);
            assert!(signalled(&guest.call), "{layout:#x}, ring {ring}");
            drop(session);

            guest.set_used(ring, 5);
            let mut session = negotiated(&mut device, &guest, layout | control);
            start(&mut session, &guest, ring, later);
            assert!(signalled(&guest.call), "{layout:#x}, ring {ring}");
        }
    }
}

#[test]
fn a_fresh_ring_is_not_interrupted_for_the_other_one_of_its_pair() {
    let (mut device, _wires) = device(1);
    let mut guest = FrontEnd::new();
    let mut session = negotiated(&mut device, &guest, 0);
    guest.set_used(TX, 5);
    start(&mut session, &guest, TX, 5);
    assert!(signalled(&guest.call));
    let transmit = std::mem::replace(&mut guest.call, crate::sys::event().unwrap());
    start(&mut session, &guest, RX, 0);
    all(&mut session, [Request::GetVringBase(RX)]);
    assert!(!signalled(&guest.call));
    drop(transmit);
}

/// Sends a frame from `slot` of a packed transmit ring in the first lap, and waits until it was
/// used.
fn send_packed(guest: &mut FrontEnd, slot: u16, value: u8) {
    let desc = FrontEnd::ring(TX) + 16 * u64::from(slot);
    let frame = [&[0; HEADER][..], &[value; FRAME]].concat();
    let memory = &guest.memory;
    memory.write_slice(&frame, GuestAddress(0x8_0000)).unwrap();
    memory.write_obj(0x8_0000u64, GuestAddress(desc)).unwrap();
    memory
        .write_obj(frame.len() as u32, GuestAddress(desc + 8))
        .unwrap();
    memory.write_obj(slot, GuestAddress(desc + 12)).unwrap();
    memory
        .write_obj(1u16 << 7, GuestAddress(desc + 14))
        .unwrap();
    crate::protocol::interrupts::signal(Some(&guest.kick)).unwrap();
}

fn wait_packed(guest: &mut FrontEnd, slot: u16) {
    let flags = GuestAddress(FrontEnd::ring(TX) + 16 * u64::from(slot) + 14);
    while guest.memory.read_obj::<u16>(flags).unwrap() & 1 << 15 == 0 {
        let ready = crate::sys::is_ready(&guest.call, Interest::Readable, Some(10_000)).unwrap();
        assert!(ready, "slot {slot} was not used");
        let _ = guest.call.read(&mut [0; 8]);
    }
}

#[test]
fn a_packed_ring_that_comes_as_fresh_goes_on_where_the_lost_device_stood() {
    for base in [PACKED_START, 0x8000] {
        let (mut device, wires) = device(1);
        let mut guest = FrontEnd::new();
        let mut session = negotiated(&mut device, &guest, PACKED);
        start(&mut session, &guest, TX, base);
        for slot in 0..3 {
            send_packed(&mut guest, slot, slot as u8);
            wait_packed(&mut guest, slot);
        }
        drop(session);
        send_packed(&mut guest, 3, 3);
        let mut session = negotiated(&mut device, &guest, PACKED);
        start(&mut session, &guest, TX, base);
        wait_packed(&mut guest, 3);
        assert_eq!(payloads(&wires[0]), [0, 1, 2, 3]);
    }
}

#[test]
fn a_packed_ring_whose_place_is_lost_is_told_to_the_front_end_and_stays_stopped() {
    let (mut device, wires) = device(1);
    let mut guest = FrontEnd::new();
    let mut session = negotiated(&mut device, &guest, PACKED);
    start(&mut session, &guest, TX, PACKED_START);
    send_packed(&mut guest, 0, 0);
    wait_packed(&mut guest, 0);
    drop(session);
    // A chain of the id that was used last: or the rest of the last one.
    send_packed(&mut guest, 1, 1);
    let id = GuestAddress(FrontEnd::ring(TX) + 16 + 12);
    guest.memory.write_obj(0u16, id).unwrap();
    let mut session = negotiated(&mut device, &guest, PACKED);
    let error = crate::sys::event().unwrap();
    let fd = Some(own(&error));
    all(
        &mut session,
        [Request::SetVringErr(RingFd { ring: TX, fd })],
    );
    start(&mut session, &guest, TX, PACKED_START);
    assert!(signalled(&error));
    assert_eq!(session.rings[TX as usize].state(), State::Stopped);
    assert_eq!(payloads(&wires[0]), [0]);
}

/// Breaks the transmit ring of either layout.
fn break_ring(guest: &FrontEnd, layout: u64) {
    let ring = GuestAddress(FrontEnd::ring(TX));
    if layout == PACKED {
        // A list without an end: next and available, in every slot.
        for slot in 0..u64::from(SIZE) {
            let flags = GuestAddress(ring.0 + 16 * slot + 14);
            guest.memory.write_obj(1u16 | 1 << 7, flags).unwrap();
        }
    } else {
        let index = GuestAddress(ring.0 + 0x1002);
        guest.memory.write_obj(0x7fffu16, index).unwrap();
    }
    crate::protocol::interrupts::signal(Some(&guest.kick)).unwrap();
}

fn wait_for_change(session: &mut Session<'_>) {
    let event = session.interrupts().config_event().as_fd();
    let ready = crate::sys::is_ready(event, Interest::Readable, Some(10_000)).unwrap();
    assert!(ready, "no fault was told");
    session.config_changed().unwrap();
}

#[test]
fn a_fault_of_each_life_is_told_without_a_request_to_reset() {
    for (layout, begin) in [(0, 0), (PACKED, PACKED_START)] {
        let (mut device, _wires) = device(1);
        let guest = FrontEnd::new();
        let mut session = negotiated(&mut device, &guest, layout);
        let error = crate::sys::event().unwrap();
        let fd = Some(own(&error));
        all(
            &mut session,
            [Request::SetVringErr(RingFd { ring: TX, fd })],
        );
        for _life in 0..3 {
            start(&mut session, &guest, RX, begin);
            start(&mut session, &guest, TX, begin);
            break_ring(&guest, layout);
            wait_for_change(&mut session);
            assert!(signalled(&error));
            assert!(session.device.needs_reset());
            // As an older QEMU does when the driver resets the device.
            all(&mut session, [Request::GetVringBase(TX)]);
            assert!(session.device.needs_reset(), "one ring still runs");
            all(&mut session, [Request::GetVringBase(RX)]);
            assert!(!session.device.needs_reset());
            guest
                .memory
                .write_slice(&[0; 0x3000], GuestAddress(FrontEnd::ring(TX)))
                .unwrap();
        }
    }
}
