//! Notifications that are lost on purpose, and the one that follows.

use std::time::{Duration, Instant};

use net_device::WaitsFor;

use super::*;
use crate::protocol::stall::{Missing, RingGauges, RingWatch};

const PACKED: u64 = 1 << 34;
const EVENT_IDX: u64 = 1 << 29;

/// Looks at the rings, at times that pass as fast as the test likes.
struct Watch {
    now: Instant,
    watches: Vec<RingWatch>,
    gauges: Vec<RingGauges>,
}

impl Watch {
    fn new(session: &Session<'_>) -> Self {
        let rings = 0..session.rings.len();
        Self {
            now: Instant::now(),
            watches: rings.clone().map(|_| RingWatch::default()).collect(),
            gauges: rings.map(|_| RingGauges::default()).collect(),
        }
    }

    fn look(&mut self, session: &mut Session<'_>) {
        self.now += Duration::from_secs(1);
        session
            .watch_rings("test", self.now, &mut self.watches, &self.gauges)
            .unwrap();
    }

    /// Stalls of `ring` for want of a kick and of an interrupt.
    fn stalls(&self, ring: u32) -> [u64; 2] {
        let gauges = &self.gauges[ring as usize];
        [Missing::Kick, Missing::Interrupt].map(|missing| gauges.stalls(missing))
    }
}

/// Waits until the worker sleeps with `ring` waiting for this event.
fn wait_until(session: &mut Session<'_>, ring: u32, event: WaitsFor) {
    let handle = session.device().handle();
    while handle.queue_states()[ring as usize].waits_for != event {
        std::thread::yield_now();
    }
}

#[test]
fn a_lost_kick_is_found_and_made_up_for_once() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    let mut watch = Watch::new(&session);
    front_end.send();
    front_end.wait();
    watch.look(&mut session);
    wait_until(&mut session, TX, WaitsFor::Driver);
    for _ in 0..9 {
        watch.look(&mut session);
    }
    assert_eq!(watch.stalls(TX), [0, 0], "there is nothing to do");
    front_end.post();
    for _ in 0..2 {
        watch.look(&mut session);
        assert_eq!(watch.gauges[TX as usize].depth(), 1);
        assert_eq!(front_end.used(TX), 1, "nobody looked");
    }
    watch.look(&mut session);
    assert_eq!(watch.stalls(TX), [1, 0]);
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);
    wait_until(&mut session, TX, WaitsFor::Driver);
    watch.look(&mut session);
    assert_eq!(watch.gauges[TX as usize].depth(), 0);
    assert_eq!(watch.gauges[TX as usize].idle_s(), 0);
    // It may happen again.
    front_end.post();
    for _ in 0..4 {
        watch.look(&mut session);
    }
    front_end.wait();
    assert_eq!(watch.stalls(TX), [2, 0]);
}

#[test]
fn a_kick_of_a_packed_ring_that_is_lost_is_found() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    let features = VERSION_1 | PROTOCOL | PACKED;
    all(
        &mut session,
        [Request::SetFeatures(features), front_end.memory_table()],
    );
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    wait_until(&mut session, TX, WaitsFor::Driver);
    // One descriptor, available in the first lap.
    let write = |bytes: &[u8], at| {
        front_end
            .memory
            .write_slice(bytes, GuestAddress(at))
            .unwrap()
    };
    let desc = FrontEnd::ring(TX);
    write(&0x8_0000u64.to_le_bytes(), desc);
    write(&((HEADER + FRAME) as u32).to_le_bytes(), desc + 8);
    write(&[0, 0, 0x80, 0], desc + 12);
    let mut watch = Watch::new(&session);
    for _ in 0..3 {
        assert_eq!(watch.stalls(TX), [0, 0]);
        watch.look(&mut session);
    }
    assert_eq!(watch.stalls(TX), [1, 0]);
    let ready = crate::sys::is_ready(&front_end.call, Interest::Readable, Some(10_000));
    assert!(ready.unwrap());
    let _ = front_end.call.read(&mut [0; 8]);
    while wires[0].take_sent().is_empty() {
        std::thread::yield_now();
    }
}

/// A device that has received two frames of which its driver was told, and does not know.
fn with_an_interrupt_lost(features: u64, buffers: u16, event: WaitsFor) {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    let features = VERSION_1 | PROTOCOL | features;
    all(
        &mut session,
        [Request::SetFeatures(features), front_end.memory_table()],
    );
    all(&mut session, front_end.set_up(RX, 0));
    all(&mut session, [Request::SetVringEnable(RX, true)]);
    let mut watch = Watch::new(&session);
    watch.look(&mut session);
    front_end.provide(buffers);
    let frame = || vec![0; HEADER + FRAME];
    wires[0].inject(frame());
    wires[0].inject(frame());
    front_end.wait_for(RX, 2);
    wait_until(&mut session, RX, event);
    // The interrupt goes to nobody.
    let _ = front_end.call.read(&mut [0; 8]);
    for _ in 0..3 {
        watch.look(&mut session);
        assert_eq!(watch.stalls(RX), [0, 0]);
    }
    watch.look(&mut session);
    assert_eq!(watch.stalls(RX), [0, 1]);
    let ready = crate::sys::is_ready(&front_end.call, Interest::Readable, Some(10_000));
    assert!(ready.unwrap(), "interrupted once more");
    for _ in 0..9 {
        watch.look(&mut session);
    }
    assert_eq!(watch.stalls(RX), [0, 1], "once");
}

#[test]
fn a_driver_that_has_no_buffers_left_is_interrupted_once_more() {
    with_an_interrupt_lost(0, 2, WaitsFor::Driver);
}

#[test]
fn a_driver_that_has_not_taken_what_it_asked_to_be_told_of_is_interrupted_once_more() {
    with_an_interrupt_lost(EVENT_IDX, 4, WaitsFor::Network);
}

#[test]
fn a_driver_that_has_taken_everything_is_left_alone() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = Session::new(&mut device).unwrap();
    let features = VERSION_1 | PROTOCOL | EVENT_IDX;
    all(
        &mut session,
        [Request::SetFeatures(features), front_end.memory_table()],
    );
    all(&mut session, front_end.set_up(TX, 0));
    all(&mut session, [Request::SetVringEnable(TX, true)]);
    let mut watch = Watch::new(&session);
    watch.look(&mut session);
    front_end.send();
    front_end.wait();
    // `used_event` is the index of the next one that it wants to be told of.
    let event = GuestAddress(FrontEnd::ring(TX) + 0x1000 + 4 + 2 * u64::from(SIZE));
    front_end.memory.write_obj(1u16, event).unwrap();
    for _ in 0..9 {
        watch.look(&mut session);
    }
    assert_eq!(watch.stalls(TX), [0, 0]);
}
