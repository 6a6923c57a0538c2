//! Limits that are changed while the device runs, that are each queue's own, and that devices
//! share.

use net_device::rate_limiter::{Group, RateLimiterConfig};
use net_device::{Features, LimitScope, NetConfig, VirtioDevice};
use tests::testbed::{HOUR_MS, Interrupting, Rig, body, frame, frame_limit, pause, resume};

fn limited(pairs: u16, scope: LimitScope, tx: Option<RateLimiterConfig>) -> NetConfig {
    NetConfig {
        tx_limit: tx,
        limit_scope: scope,
        ..Rig::config(pairs)
    }
}

fn running(config: NetConfig) -> Rig {
    let mut rig = Rig::new(config);
    rig.start(Features::empty());
    rig
}

/// A device within the budget for frames that it sends.
fn within(group: &Group, config: NetConfig) -> Rig {
    let mut rig = Rig::built(config, |builder| {
        builder.limit_groups(None, Some(group.clone()))
    });
    rig.start(Features::empty());
    rig
}

fn send(rig: &mut Rig, pair: u16, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| rig.send(pair, &frame(60, number)));
}

/// Waits until `count` of the chains that were sent on all queues are used.
fn wait_used(rig: &mut Rig, pairs: u16, count: usize) {
    let irq = rig.irq.clone();
    irq.wait_until("the limit to be used up", || {
        let mut used = 0;
        for index in (0..pairs).map(|pair| 2 * pair + 1) {
            rig.queue(index).look(usize::MAX, Interrupting::Yes);
            used += rig.queue(index).used.len();
        }
        used >= count
    });
}

/// Number of frames that left, once nothing moves any more.
fn settled(rig: &mut Rig) -> usize {
    pause(rig);
    let sent = rig.networks.iter().map(|it| it.wire.take_sent().len());
    sent.sum()
}

/// Ten frames to send, of which three passed.
fn blocked() -> Rig {
    let mut rig = running(limited(1, LimitScope::Device, frame_limit(3, HOUR_MS)));
    send(&mut rig, 0, 0..10);
    assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
    rig
}

#[test]
fn a_blocked_queue_goes_on_when_its_limit_is_lifted() {
    let mut rig = blocked();
    rig.device.set_limits(None, None).expect("it runs");
    let sent = rig.networks[0].wait_sent(7);
    for (number, sent) in (3..).zip(&sent) {
        assert_eq!(body(sent), body(&frame(60, number)));
    }
    assert_eq!(rig.device.config().tx_limit, None);
}

#[test]
fn zeros_lift_a_limit_too() {
    let mut rig = blocked();
    rig.device
        .set_limits(None, frame_limit(0, 0))
        .expect("it runs");
    assert_eq!(rig.networks[0].wait_sent(7).len(), 7);
}

#[test]
fn a_blocked_queue_goes_on_at_a_higher_rate() {
    let mut rig = blocked();
    rig.device
        .set_limits(None, frame_limit(3, 2))
        .expect("it runs");
    assert_eq!(rig.networks[0].wait_sent(7).len(), 7);
    assert_eq!(rig.device.config().tx_limit, frame_limit(3, 2));
}

#[test]
fn a_change_brings_no_tokens() {
    let mut rig = blocked();
    for size in [5, 2, 3] {
        let limit = frame_limit(size, HOUR_MS);
        rig.device.set_limits(None, limit).expect("it runs");
    }
    assert_eq!(settled(&mut rig), 0);
}

#[test]
fn a_limit_can_be_set_on_a_device_that_had_none() {
    let mut rig = running(limited(2, LimitScope::Device, None));
    send(&mut rig, 0, 0..10);
    assert_eq!(rig.networks[0].wait_sent(10).len(), 10);
    rig.device
        .set_limits(None, frame_limit(4, HOUR_MS))
        .expect("it runs");
    send(&mut rig, 0, 10..20);
    send(&mut rig, 1, 10..20);
    wait_used(&mut rig, 2, 14);
    assert_eq!(settled(&mut rig), 4);
}

#[test]
fn a_receive_limit_is_changed_as_well() {
    let mut rig = running(Rig::config(1));
    rig.device
        .set_limits(frame_limit(3, HOUR_MS), None)
        .expect("it runs");
    rig.post(0, &[2048; 20]);
    for number in 0..10 {
        rig.networks[0].wire.inject(frame(60, number));
    }
    assert!(rig.receive(0, 3).len() >= 3);
    pause(&mut rig);
    // One more at most was taken off the wire before the limit held it.
    assert!(rig.networks[0].wire.waiting() >= 6);
    resume(&mut rig);
    rig.device.set_limits(None, None).expect("it runs");
    rig.networks[0].wait_drained();
}

#[test]
fn limits_change_in_every_state() {
    let mut rig = Rig::new(limited(1, LimitScope::Device, frame_limit(3, HOUR_MS)));
    rig.device
        .set_limits(None, frame_limit(5, HOUR_MS))
        .expect("it is inactive");
    rig.start(Features::empty());
    pause(&mut rig);
    send(&mut rig, 0, 0..10);
    rig.device.set_limits(None, None).expect("it is paused");
    rig.device
        .set_limits(None, frame_limit(2, HOUR_MS))
        .expect("it is paused");
    resume(&mut rig);
    assert_eq!(rig.networks[0].wait_sent(2).len(), 2);
    rig.device.reset();
    rig.device.set_limits(None, None).expect("it was reset");
    rig.start(Features::empty());
    send(&mut rig, 0, 0..10);
    assert_eq!(rig.networks[0].wait_sent(10).len(), 10);
}

#[test]
fn unusable_limits_change_nothing() {
    let mut rig = blocked();
    let unusable = frame_limit(u64::MAX, 1);
    assert!(rig.device.set_limits(None, unusable).is_err());
    assert!(rig.device.set_limits(unusable, None).is_err());
    assert_eq!(rig.device.config().tx_limit, frame_limit(3, HOUR_MS));
    assert_eq!(settled(&mut rig), 0);
}

#[test]
fn each_queue_may_have_a_budget_of_its_own() {
    let mut rig = running(limited(2, LimitScope::Queue, frame_limit(3, HOUR_MS)));
    send(&mut rig, 0, 0..10);
    send(&mut rig, 1, 0..10);
    wait_used(&mut rig, 2, 6);
    pause(&mut rig);
    for network in &rig.networks {
        assert_eq!(network.wire.take_sent().len(), 3);
    }
}

#[test]
fn queues_that_share_a_budget_keep_their_debt_over_a_change() {
    let mut rig = running(limited(2, LimitScope::Device, frame_limit(3, HOUR_MS)));
    send(&mut rig, 0, 0..10);
    send(&mut rig, 1, 0..10);
    wait_used(&mut rig, 2, 3);
    rig.device
        .set_limits(None, frame_limit(2, HOUR_MS))
        .expect("it runs");
    assert_eq!(settled(&mut rig), 3);
    resume(&mut rig);
    rig.device.set_limits(None, None).expect("it runs");
    wait_used(&mut rig, 2, 20);
    assert_eq!(settled(&mut rig), 17);
}

#[test]
fn two_devices_share_a_budget() {
    for scope in [LimitScope::Device, LimitScope::Queue] {
        let group = Group::new(&frame_limit(6, HOUR_MS).expect("a limit")).expect("a usable one");
        let mut one = within(&group, limited(1, scope, None));
        let mut two = within(&group, limited(2, scope, frame_limit(2, HOUR_MS)));
        // The inner limit first: two of each device or queue, then what is left of the six.
        send(&mut two, 0, 0..10);
        wait_used(&mut two, 2, 2);
        send(&mut one, 0, 0..10);
        wait_used(&mut one, 1, 4);
        assert_eq!((settled(&mut one), settled(&mut two)), (4, 2));
    }
}

#[test]
fn a_device_waits_for_its_group_and_goes_on_when_that_is_lifted() {
    let group = Group::new(&frame_limit(2, HOUR_MS).expect("a limit")).expect("a usable one");
    let mut rig = within(
        &group,
        limited(1, LimitScope::Device, frame_limit(5, HOUR_MS)),
    );
    send(&mut rig, 0, 0..10);
    assert_eq!(rig.networks[0].wait_sent(2).len(), 2);
    // No thread of this device is told; the group wakes who waits.
    group
        .update(0, &RateLimiterConfig::default())
        .expect("usable limits");
    assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
    rig.device.set_limits(None, None).expect("it runs");
    assert_eq!(rig.networks[0].wait_sent(5).len(), 5);
}
