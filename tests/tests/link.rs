//! A link that is set down and up by the VMM.

use net_device::{Features, NetConfig, VirtioDevice};
use tests::testbed::{HOUR_MS, RINGS, Rig, body, frame, frame_limit, pause, resume};

type F = Features;

/// Lets the workers of `rig` do all that there is to do.
fn run(rig: &mut Rig) {
    pause(rig);
    resume(rig);
    pause(rig);
    resume(rig);
}

#[test]
fn no_frame_passes_while_the_link_is_down_net_cfg_05() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(2));
        rig.start(without);
        assert_eq!(rig.command(4, 0, &[2, 0]), 0);
        for pair in 0..2 {
            rig.post(pair, &[2048; 8]);
        }
        rig.device.set_link(false);
        assert_eq!(rig.status() & 1, 0);
        for pair in 0..2 {
            for number in 0..5 {
                rig.send(pair, &frame(60, number));
                rig.networks[usize::from(pair)]
                    .wire
                    .inject(frame(60, number));
            }
            rig.networks[usize::from(pair)].wait_drained();
            let mut back = 0;
            while back < 5 {
                back += rig.wait_used(2 * pair + 1, 1).len();
            }
        }
        assert_eq!(rig.command(0, 1, &[0]), 0, "commands are answered");
        run(&mut rig);
        for pair in 0..2 {
            assert!(rig.queue(2 * pair).ring.poll_all().is_empty());
            let network = &rig.networks[usize::from(pair)];
            assert!(network.wire.take_sent().is_empty());
        }
        assert_eq!(rig.counter("tx_drop_link_down"), 10);
        assert_eq!(rig.counter("rx_drop_link_down"), 10);
        assert_eq!(rig.counter("tx_frames") + rig.counter("rx_frames"), 0);
        assert!(!rig.device.needs_reset());
        rig.device.set_link(true);
        for pair in 0..2 {
            let network = &rig.networks[usize::from(pair)];
            network.wire.inject(frame(90, 7));
            let seen = rig.receive(pair, 1);
            assert_eq!(body(&seen[0]), body(&frame(90, 7)), "nothing stale");
            rig.send(pair, &frame(80, 8));
            let sent = rig.networks[usize::from(pair)].wait_sent(1);
            assert_eq!(body(&sent[0]), body(&frame(80, 8)));
        }
    }
}

#[test]
fn frames_that_nobody_posted_buffers_for_are_dropped_while_the_link_is_down() {
    let mut rig = Rig::running(F::empty());
    rig.networks[0].wire.inject(frame(60, 1));
    run(&mut rig);
    assert_eq!(rig.networks[0].wire.waiting(), 1, "there is no buffer");
    rig.device.set_link(false);
    rig.networks[0].wait_drained();
    rig.device.set_link(true);
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(60, 2));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(60, 2)));
}

#[test]
fn a_link_that_is_down_before_activation_or_during_a_pause_passes_nothing() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        rig.device.set_link(false);
        rig.start(without);
        rig.send(0, &frame(60, 1));
        rig.wait_used(1, 1);
        assert_eq!(rig.counter("tx_drop_link_down"), 1);
        pause(&mut rig);
        rig.device.set_link(true);
        rig.device.set_link(false);
        rig.device.set_link(true);
        resume(&mut rig);
        rig.send(0, &frame(60, 2));
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(60, 2)));
        rig.wait_used(1, 1);
        pause(&mut rig);
        rig.device.set_link(false);
        rig.send(0, &frame(60, 3));
        assert!(rig.queue(1).ring.poll_all().is_empty(), "it is paused");
        resume(&mut rig);
        rig.wait_used(1, 1);
        assert!(rig.networks[0].wire.take_sent().is_empty());
        // A reset leaves the link as it is.
        rig.device.reset();
        rig.queues.clear();
        rig.start(without);
        rig.send(0, &frame(60, 4));
        rig.wait_used(1, 1);
        assert_eq!(rig.counter("tx_drop_link_down"), 3);
    }
}

#[test]
fn what_waits_for_a_limit_is_dropped_when_the_link_goes_down() {
    let config = NetConfig {
        tx_limit: frame_limit(1, HOUR_MS),
        rx_limit: frame_limit(1, HOUR_MS),
        ..Rig::config(1)
    };
    for without in RINGS {
        let mut rig = Rig::new(config.clone());
        rig.start(without);
        for number in 0..3 {
            rig.send(0, &frame(60, number));
        }
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        let mut back = rig.wait_used(1, 1).len();
        rig.device.set_link(false);
        while back < 3 {
            back += rig.wait_used(1, 1).len();
        }
        assert_eq!(rig.counter("tx_drop_link_down"), 2);
        assert!(rig.networks[0].wire.take_sent().is_empty());
    }
}

#[test]
fn a_link_nobody_can_see_goes_down_all_the_same() {
    let mut rig = Rig::running(F::empty());
    rig.device.reset();
    rig.queues.clear();
    rig.start(F::VIRTIO_NET_F_STATUS);
    let told = rig.irq.config();
    rig.device.set_link(false);
    rig.device.set_link(false);
    assert!(rig.irq.config() <= told + 1);
    rig.send(0, &frame(60, 1));
    rig.wait_used(1, 1);
    assert_eq!(rig.counter("tx_drop_link_down"), 1);
}
