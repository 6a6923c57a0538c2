//! Transmit rings that are disabled while they run.

use net_device::rate_limiter::{RateLimiterConfig, TokenBucketConfig};

use super::*;

/// Waits for a kick as a daemon does, and has the session look.
fn kicked(session: &mut Session<'_>) {
    let (_, [_, kicks]) = session.device_and_events();
    let (kicks, interest) = kicks.unwrap();
    assert!(crate::sys::is_ready(kicks, interest, Some(30_000)).unwrap());
    session.discard_kicked();
}

fn has_kick(session: &mut Session<'_>) -> bool {
    let (_, [_, kicks]) = session.device_and_events();
    let ready = kicks.map(|(kicks, interest)| crate::sys::is_ready(kicks, interest, Some(0)));
    ready.is_some_and(Result::unwrap)
}

fn discarded(session: &mut Session<'_>) -> u64 {
    let counters = session.device().counters();
    let mut counters = counters.into_iter();
    let (_, count) = counters
        .find(|(name, _)| name == "tx_drop_stopped")
        .unwrap();
    count
}

/// Has a frame sent, and disables its ring.
fn send_and_disable(session: &mut Session<'_>, front_end: &mut FrontEnd) {
    front_end.send();
    front_end.wait();
    disable(session);
}

fn disable(session: &mut Session<'_>) {
    all(session, [Request::SetVringEnable(TX, false)]);
    assert_eq!(session.rings[TX as usize].state(), State::Held);
}

fn enable(session: &mut Session<'_>) {
    all(session, [Request::SetVringEnable(TX, true)]);
    assert_eq!(session.rings[TX as usize].state(), State::Running);
}

#[test]
fn what_is_posted_in_a_disabled_ring_comes_back_unsent_at_each_kick() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    front_end.send();
    front_end.wait();
    for round in 1..=2 {
        disable(&mut session);
        // Kicks from before are not new ones.
        assert!(!has_kick(&mut session));
        for _ in 0..3 {
            front_end.send();
            front_end.send();
            kicked(&mut session);
            front_end.wait();
        }
        assert_eq!(discarded(&mut session), 6 * round);
        enable(&mut session);
        front_end.send();
        front_end.wait();
        assert_eq!(payloads(&wires[0]).last(), Some(&(7 * round as u8)));
    }
    assert!(payloads(&wires[0]).is_empty());
}

#[test]
fn what_waits_in_a_ring_when_it_is_disabled_comes_back_unsent() {
    // Two frames go, the next ones in an hour.
    let bucket = TokenBucketConfig {
        size: 2,
        one_time_burst: None,
        refill_time: 3_600_000,
    };
    let mut config = NetConfig::builder()
        .mac([2, 0, 0, 0, 0, 1])
        .build()
        .unwrap();
    config.tx_limit = Some(RateLimiterConfig {
        ops: Some(bucket),
        ..RateLimiterConfig::default()
    });
    let (device, ports, wires) = from_config(config);
    let mut device = device.build_on_ports(ports).unwrap();
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for _ in 0..SIZE {
        front_end.send();
    }
    front_end.wait_for(TX, 2);
    disable(&mut session);
    front_end.wait();
    assert_eq!(discarded(&mut session), u64::from(SIZE) - 2);
    assert_eq!(payloads(&wires[0]), [0, 1]);
}

#[test]
fn a_disabled_ring_is_told_where_it_stands_with_what_was_discarded() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    disable(&mut session);
    front_end.send();
    front_end.send();
    kicked(&mut session);
    let stopped = session.handle(Request::GetVringBase(TX)).unwrap();
    assert_eq!(stopped, Answer::RingBase(RingValue { ring: TX, value: 2 }));
    // Nor is it looked at any more.
    front_end.send();
    assert!(!has_kick(&mut session));
    session.discard_kicked();
    assert_eq!(front_end.used(TX), 2);
    all(&mut session, front_end.set_up(TX, 2));
    enable(&mut session);
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [2]);
}

/// User-mode Linux frees the memory of a ring that it has disabled, and does not stop it.
#[test]
fn a_disabled_ring_is_not_looked_at_without_a_kick() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    send_and_disable(&mut session, &mut front_end);
    front_end.post();
    session.discard_kicked();
    all(&mut session, [front_end.memory_table()]);
    session.discard_kicked();
    assert!(!has_kick(&mut session));
    assert_eq!((front_end.used(TX), discarded(&mut session)), (1, 0));
}

#[test]
fn a_kick_for_a_disabled_ring_that_makes_no_sense_fails_nothing() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    send_and_disable(&mut session, &mut front_end);
    let at = GuestAddress(FrontEnd::ring(TX));
    let others = vec![0xff; 0x3000];
    front_end.memory.write_slice(&others, at).unwrap();
    crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    kicked(&mut session);
    let mut left = vec![0; 0x3000];
    front_end.memory.read_slice(&mut left, at).unwrap();
    assert_eq!(left, others);
    assert!(!session.device.needs_reset());
    // It is not looked at any more.
    crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    assert!(!has_kick(&mut session));
}

#[test]
fn memory_that_goes_away_takes_a_disabled_ring_along() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    disable(&mut session);
    all(&mut session, [Request::RemMemReg(front_end.region())]);
    front_end.send();
    kicked(&mut session);
    assert_eq!(front_end.used(TX), 0);
    assert!(!session.device.needs_reset());
}
