//! Two devices of one process, within one budget.

use std::sync::Arc;

use net_device::VirtioDevice;

use super::*;
use crate::daemon::groups::{Membership, Shared, form};

/// Ten frames, and one byte more in a quarter of an hour.
const BUDGET: &str = "tenant:tx=0.001B,burst=600";
const FRAMES: u16 = 10;

/// The device within the group's budget, with its wire.
fn members<const N: usize>() -> [(NetDevice, Vec<Wire>); N] {
    shared().0
}

/// The same, and what they share.
fn shared<const N: usize>() -> ([(NetDevice, Vec<Wire>); N], Arc<Shared>) {
    let place: Membership = BUDGET.parse().unwrap();
    let groups = form(&[Some(&place); N]).unwrap();
    let group = groups[0].clone().unwrap();
    let devices = std::array::from_fn(|_| {
        let (device, ports, wires) = unbuilt(1, None);
        let device = group.with(device).build_on_ports(ports);
        (device.unwrap(), wires)
    });
    (devices, group)
}

/// Stops the transmit ring; number of chains that it had used.
fn stop(session: &mut Session<'_>) -> u32 {
    match session.handle(Request::GetVringBase(TX)).unwrap() {
        Answer::RingBase(base) => base.value,
        other => panic!("{other:?}"),
    }
}

/// Waits until the limit has held a frame back.
fn wait_limited(session: &mut Session<'_>) {
    let limited = |(name, count): &(String, u64)| name == "tx_limited" && *count > 0;
    while !session.device().counters().iter().any(limited) {
        std::thread::yield_now();
    }
}

#[test]
fn all_devices_together_send_what_the_group_may() {
    let [(mut one, one_wires), (mut other, other_wires)] = members();
    let (mut here, mut there) = (FrontEnd::new(), FrontEnd::new());
    let mut first = running(&mut one, &here);
    let mut second = running(&mut other, &there);
    for _ in 0..SIZE {
        here.post();
        there.post();
    }
    for front_end in [&here, &there] {
        crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    }
    // Until the budget is spent, in whatever parts.
    while here.used(TX) + there.used(TX) < FRAMES {
        let calls = [&here.call, &there.call].map(|call| (call.as_fd(), Interest::Readable));
        let ready = crate::sys::wait(&calls, Some(10_000)).unwrap();
        assert!(ready.contains(&true), "the budget is not used up");
        for (mut call, ready) in [&here.call, &there.call].into_iter().zip(ready) {
            if ready {
                let _ = call.read(&mut [0; 8]);
            }
        }
    }
    let sent = stop(&mut first) + stop(&mut second);
    assert_eq!(sent, u32::from(FRAMES));
    let arrived = payloads(&one_wires[0]).len() + payloads(&other_wires[0]).len();
    assert_eq!(arrived, usize::from(FRAMES));
}

#[test]
fn a_devices_own_limit_stays_inside_the_groups() {
    let [(mut device, wires)] = members();
    let own = crate::daemon::rate_limits::Limits::default();
    let own = own.with("tx=0.001B burst=180").unwrap();
    device
        .set_limits(own.rx().unwrap(), own.tx().unwrap())
        .unwrap();
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for _ in 0..SIZE {
        front_end.post();
    }
    crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    wait_limited(&mut session);
    assert_eq!(stop(&mut session), 3);
    assert_eq!(payloads(&wires[0]).len(), 3);
}

#[test]
fn devices_that_wait_go_on_when_their_groups_limit_is_lifted() {
    let ([(mut device, wires)], group) = shared();
    group.change("burst=180").unwrap();
    let mut front_end = FrontEnd::new();
    let mut session = running(&mut device, &front_end);
    for _ in 0..SIZE {
        front_end.post();
    }
    crate::protocol::interrupts::signal(Some(&front_end.kick)).unwrap();
    wait_limited(&mut session);
    assert_eq!(wires[0].take_sent().len(), 3);
    group.change("tx=off").unwrap();
    front_end.wait();
    assert_eq!(payloads(&wires[0]).len(), usize::from(SIZE) - 3);
}
