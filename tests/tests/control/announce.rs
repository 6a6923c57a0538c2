//! Announcements: by the driver where it can, by the device where it cannot, round after round.

use std::sync::Arc;
use std::time::Duration;

use net_device::{Announcer, Features, NetConfig, Snapshottable, VirtioDevice};
use tests::testbed::{GUEST_MAC, ManualClock, RINGS, Rig, body, frame, pause, resume};

use crate::{OK, OTHER, table};

type F = Features;

const ANNOUNCE: F = F::VIRTIO_NET_F_GUEST_ANNOUNCE;
/// Milliseconds between the rounds.
const INTERVALS: [u64; 4] = [50, 150, 250, 350];

/// A RARP request of `mac`, with the tag of `vlan`.
fn rarp(mac: [u8; 6], vlan: Option<u16>) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    for _ in 0..2 {
        frame.extend(mac);
        frame.extend([0; 4]);
    }
    frame.resize(if vlan.is_some() { 64 } else { 60 }, 0);
    frame
}

/// Frames that were sent since the last call.
fn sent(rig: &Rig) -> Vec<Vec<u8>> {
    let sent = rig.networks[0].wire.take_sent();
    sent.iter().map(|bytes| body(bytes).to_vec()).collect()
}

fn on_clock(config: NetConfig, without: F) -> (Rig, Arc<ManualClock>) {
    let clock = Arc::<ManualClock>::default();
    let mut rig = Rig::built(config, |builder| builder.clock(clock.clone()));
    rig.start(without);
    (rig, clock)
}

/// Lets the rounds come that are left, each at its time and not before, and has `round` look.
fn for_each_round(rig: &mut Rig, clock: &ManualClock, mut round: impl FnMut(&mut Rig)) {
    for interval in INTERVALS {
        let wait = rig.device.next_announcement();
        assert_eq!(wait, Some(Duration::from_millis(interval)));
        clock.advance(interval * 1_000_000 - 1);
        rig.device.continue_announcement();
        assert_eq!(
            rig.device.next_announcement(),
            Some(Duration::from_nanos(1))
        );
        clock.advance(1);
        rig.device.continue_announcement();
        round(rig);
    }
    assert_eq!(rig.device.next_announcement(), None);
}

#[test]
fn a_driver_that_can_announces_itself_in_every_round_net_cvq_18() {
    let (mut rig, clock) = on_clock(Rig::config(1), F::empty());
    assert_eq!(rig.device.announce(), Announcer::Driver);
    assert_eq!(rig.status(), 3);
    for_each_round(&mut rig, &clock, |rig| {
        assert_eq!(rig.status(), 3);
        let interrupts = rig.irq.config();
        assert_eq!(rig.command(3, 0, &[]), OK);
        assert_eq!(rig.status(), 1);
        assert_eq!(rig.irq.config(), interrupts);
    });
    // One for the first round, which was never answered, and one after each answer.
    assert_eq!(rig.irq.config(), 4);
    assert!(sent(&rig).is_empty(), "the device is quiet");
}

#[test]
fn for_a_driver_that_cannot_the_device_sends_for_each_address_and_vlan() {
    for without in [ANNOUNCE, F::VIRTIO_NET_F_STATUS, F::VIRTIO_NET_F_CTRL_VQ] {
        for rings in RINGS {
            let (mut rig, clock) = on_clock(Rig::config(1), without | rings);
            let mut expected = vec![rarp(GUEST_MAC, None)];
            if without != F::VIRTIO_NET_F_CTRL_VQ {
                assert_eq!(rig.command(1, 0, &table(&[OTHER], &[])), OK);
                for vlan in [0u16, 5, 4094, 4095] {
                    assert_eq!(rig.command(2, 0, &vlan.to_le_bytes()), OK);
                }
                expected.push(rarp(OTHER, None));
                expected.push(rarp(GUEST_MAC, Some(5)));
                expected.push(rarp(GUEST_MAC, Some(4094)));
            }
            assert_eq!(rig.device.announce(), Announcer::Device);
            assert_eq!(sent(&rig), expected);
            for_each_round(&mut rig, &clock, |rig| assert_eq!(sent(rig), expected));
            // The worker goes on.
            rig.send(0, &frame(60, 1));
            assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(60, 1)));
            assert_eq!(rig.irq.config(), 0);
        }
    }
}

#[test]
fn a_round_is_bounded_whatever_the_driver_has_set() {
    let (mut rig, _) = on_clock(
        NetConfig {
            control_limit: None,
            ..Rig::config(1)
        },
        ANNOUNCE,
    );
    for vlan in 1..400u16 {
        assert_eq!(rig.command(2, 0, &vlan.to_le_bytes()), OK);
    }
    rig.device.announce();
    assert_eq!(sent(&rig).len(), 128);
}

#[test]
fn nothing_is_sent_while_the_link_is_down_after_a_reset_or_for_nobody() {
    let (mut rig, clock) = on_clock(Rig::config(1), ANNOUNCE);
    rig.device.set_link(false);
    assert_eq!(rig.device.announce(), Announcer::Device);
    assert!(sent(&rig).is_empty());
    rig.device.set_link(true);
    clock.advance(50_000_000);
    rig.device.continue_announcement();
    assert_eq!(sent(&rig).len(), 1);
    rig.device.reset();
    assert_eq!(rig.device.next_announcement(), None);

    let nameless = NetConfig {
        mac: None,
        ..Rig::config(1)
    };
    let (mut rig, _) = on_clock(nameless, ANNOUNCE);
    assert_eq!(rig.device.announce(), Announcer::Nobody);
    assert!(sent(&rig).is_empty());
}

#[test]
fn a_restored_device_is_announced_when_it_resumes() {
    for without in [F::empty(), ANNOUNCE] {
        let mut rig = Rig::running(without);
        pause(&mut rig);
        let snapshot = rig.device.snapshot().expect("it is paused");
        resume(&mut rig);
        assert_eq!((rig.status(), sent(&rig).len()), (1, 0), "it has not moved");
        pause(&mut rig);
        let mut next = Rig::new(Rig::config(1));
        next.device.restore(snapshot).expect("it was just sealed");
        let mut rig = rig.move_to(next);
        rig.activate();
        assert_eq!((rig.status(), sent(&rig).len()), (1, 0), "not yet");
        resume(&mut rig);
        let by_device = without == ANNOUNCE;
        let expected = if by_device { (1, 1) } else { (3, 0) };
        assert_eq!((rig.status(), sent(&rig).len()), expected);
        assert!(rig.device.next_announcement().is_some());
    }
}

#[test]
fn requests_of_a_vmm_are_within_the_limit_for_control_commands() {
    let (mut rig, clock) = on_clock(Rig::config(1), F::empty());
    for _ in 0..1000 {
        rig.device.send_rarp(OTHER.into());
    }
    let first = sent(&rig);
    assert_eq!(first.len(), 200, "CONTROL_LIMIT at once");
    assert!(first.iter().all(|frame| *frame == rarp(OTHER, None)));
    clock.advance(10_000_000);
    rig.device.send_rarp(OTHER.into());
    rig.device.send_rarp(OTHER.into());
    assert_eq!(sent(&rig).len(), 1);
}

#[test]
fn a_device_that_was_paused_announces_no_further_round_before_it_resumes() {
    for without in [F::empty(), ANNOUNCE] {
        let (mut rig, clock) = on_clock(Rig::config(1), without);
        rig.device.announce();
        let (before, told) = (sent(&rig).len(), rig.irq.config());
        pause(&mut rig);
        clock.advance(10_000_000_000);
        assert_eq!(rig.device.next_announcement(), None);
        rig.device.continue_announcement();
        assert_eq!((sent(&rig).len(), rig.irq.config()), (0, told));
        resume(&mut rig);
        assert_eq!(rig.device.next_announcement(), Some(Duration::ZERO));
        rig.device.continue_announcement();
        assert_eq!(sent(&rig).len(), before);
    }
}

#[test]
fn a_device_that_another_driver_took_over_is_not_announced_by_its_next_resumption() {
    let mut rig = Rig::running(ANNOUNCE);
    pause(&mut rig);
    let snapshot = rig.device.snapshot().expect("it is paused");
    let mut next = Rig::new(Rig::config(1));
    next.device.restore(snapshot).expect("it was just sealed");
    // Firmware, say, with other features.
    next.start(ANNOUNCE | F::VIRTIO_NET_F_MRG_RXBUF);
    pause(&mut next);
    resume(&mut next);
    assert!(sent(&next).is_empty());
    assert_eq!(next.device.next_announcement(), None);
}
