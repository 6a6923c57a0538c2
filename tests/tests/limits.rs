//! Limits of the configuration on the data path: they hold frames where they are, and a timer goes
//! on.

use net_device::rate_limiter::RateLimiterConfig;
use net_device::{Features, LimitScope, NetConfig, VirtioDevice};
use tests::testbed::{
    HOUR_MS, Interrupting, RINGS, Rig, body, bounded, frame, frame_limit, pause, resume,
};

type F = Features;

fn bytes(bytes: u64, refill_ms: u64) -> Option<RateLimiterConfig> {
    let ops = frame_limit(bytes, refill_ms).and_then(|limit| limit.ops);
    Some(RateLimiterConfig {
        bandwidth: ops,
        ..RateLimiterConfig::default()
    })
}

fn running(config: NetConfig, without: Features) -> Rig {
    let mut rig = Rig::new(config);
    rig.start(without);
    rig
}

fn tx_limited(limit: Option<RateLimiterConfig>) -> NetConfig {
    NetConfig {
        tx_limit: limit,
        ..Rig::config(1)
    }
}

fn rx_limited(limit: Option<RateLimiterConfig>) -> NetConfig {
    NetConfig {
        rx_limit: limit,
        ..Rig::config(1)
    }
}

/// Sends ten frames of which three pass within the hour; then the device is paused.
fn blocked_tx(without: Features) -> Rig {
    let mut rig = running(tx_limited(frame_limit(3, HOUR_MS)), without);
    // All at once, so that the device meets its limit in the run in which it sends the first.
    for number in 0..10 {
        let piece = rig.memory.filled(&frame(60, number));
        rig.queue(1).ring.add(&[piece]);
    }
    rig.queue(1).publish();
    assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
    rig
}

#[test]
fn a_transmit_limit_leaves_chains_in_the_ring() {
    for without in RINGS {
        let mut rig = blocked_tx(without);
        pause(&mut rig);
        assert!(rig.counter("tx_limited") >= 1);
        assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
        assert_eq!(rig.queue(1).ring.poll_all().len(), 3);
        assert_eq!(rig.queue(1).ring.in_flight(), 7);
    }
}

#[test]
fn a_limit_on_bytes_counts_frames_without_their_headers() {
    let mut rig = running(tx_limited(bytes(3000, HOUR_MS)), F::empty());
    for number in 0..10 {
        rig.send(0, &frame(1000, number));
    }
    assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
    pause(&mut rig);
    assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
}

#[test]
fn a_receive_limit_leaves_frames_in_the_backend() {
    for without in RINGS {
        let mut rig = running(rx_limited(frame_limit(3, HOUR_MS)), without);
        // All frames are there when the first buffer is.
        for number in 0..10 {
            rig.networks[0].wire.inject(frame(60, number));
        }
        rig.post(0, &[2048; 10]);
        let mut seen = rig.receive(0, 3).len();
        pause(&mut rig);
        assert!(rig.counter("rx_limited") >= 1);
        seen += rig.queue(0).used.len() + rig.queue(0).ring.poll_all().len();
        // The one that was taken off the wire already is delivered before the device rests.
        assert!(seen <= 4, "{seen}");
        assert_eq!(rig.networks[0].wire.waiting(), 10 - seen);
    }
}

#[test]
fn the_timer_lets_transmission_go_on() {
    for without in RINGS {
        let mut rig = running(tx_limited(frame_limit(2, 5)), without);
        for number in 0..20 {
            rig.send(0, &frame(60, number));
        }
        let sent = rig.networks[0].wait_sent(20);
        for (number, sent) in (0..).zip(&sent) {
            assert_eq!(body(sent), body(&frame(60, number)));
        }
        assert!(rig.counter("tx_limited") >= 1);
    }
}

#[test]
fn the_timer_lets_reception_go_on() {
    for without in RINGS {
        let mut rig = running(rx_limited(frame_limit(2, 5)), without);
        rig.post(0, &[2048; 20]);
        for number in 0..20 {
            rig.networks[0].wire.inject(frame(60, number));
        }
        let seen = rig.receive(0, 20);
        for (number, seen) in (0..).zip(&seen) {
            assert_eq!(body(seen), body(&frame(60, number)));
        }
        assert!(rig.counter("rx_limited") >= 1);
    }
}

/// Neither when the limit lets it pass nor when the device rests.
#[test]
fn a_frame_that_waits_for_the_limit_is_not_delivered_to_a_pair_that_was_taken_away_net_mq_02() {
    for (without, refill) in RINGS.into_iter().flat_map(|it| [(it, HOUR_MS), (it, 20)]) {
        let config = NetConfig {
            rx_limit: frame_limit(1, refill),
            limit_scope: LimitScope::Queue,
            ..Rig::config(2)
        };
        let mut rig = running(config, without);
        assert_eq!(rig.command(4, 0, &2u16.to_le_bytes()), 0);
        rig.networks[1].wire.inject(frame(60, 1));
        rig.networks[1].wire.inject(frame(60, 2));
        rig.post(1, &[2048; 4]);
        assert_eq!(rig.receive(1, 1).len(), 1);
        rig.networks[1].wait_drained();
        assert_eq!(rig.command(4, 0, &1u16.to_le_bytes()), 0);
        let before = rig.queue(2).used.len() + rig.queue(2).ring.poll_all().len();
        // The other pair has its own limit and goes on.
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(60, 3));
        assert_eq!(rig.receive(0, 1).len(), 1);
        pause(&mut rig);
        let dropped = rig.counter("rx_drop_stopped");
        assert_eq!(rig.queue(2).ring.poll_all().len(), 0);
        // A fast limit may have let it pass before the command.
        assert_eq!(before as u64 + dropped, 1);
        assert!(refill < HOUR_MS || dropped == 1);
    }
}

#[test]
fn one_direction_does_not_limit_the_other_nor_the_control_queue() {
    let mut rig = blocked_tx(F::empty());
    rig.post(0, &[2048; 20]);
    for number in 0..20 {
        rig.networks[0].wire.inject(frame(60, number));
    }
    assert_eq!(rig.receive(0, 20).len(), 20);
    assert_eq!(rig.command(0, 0, &[1]), 0);
}

#[test]
fn pairs_share_the_limit_of_their_device() {
    let config = NetConfig {
        tx_limit: frame_limit(8, HOUR_MS),
        ..Rig::config(2)
    };
    let mut rig = running(config, F::empty());
    for number in 0..10 {
        rig.send(0, &frame(60, number));
        rig.send(1, &frame(60, number));
    }
    let irq = rig.irq.clone();
    irq.wait_until("the limit to be used up", || {
        let mut used = 0;
        for index in [1, 3] {
            rig.queue(index).look(usize::MAX, Interrupting::Yes);
            used += rig.queue(index).used.len();
        }
        used == 8
    });
    pause(&mut rig);
    let sent = rig.networks.iter().map(|it| it.wire.take_sent().len());
    assert_eq!(sent.sum::<usize>(), 8);
}

#[test]
fn pairs_that_share_a_limit_both_go_on_when_it_refills() {
    let config = NetConfig {
        tx_limit: frame_limit(2, 2),
        ..Rig::config(2)
    };
    let mut rig = running(config, F::empty());
    for number in 0..15 {
        rig.send(0, &frame(60, number));
        rig.send(1, &frame(60, number));
    }
    assert_eq!(rig.networks[0].wait_sent(15).len(), 15);
    assert_eq!(rig.networks[1].wait_sent(15).len(), 15);
}

#[test]
fn a_device_that_waits_for_its_limit_can_be_paused_and_resumed() {
    let mut rig = blocked_tx(F::empty());
    for _ in 0..5 {
        pause(&mut rig);
        resume(&mut rig);
    }
    pause(&mut rig);
    assert_eq!(
        rig.networks[0].wire.take_sent().len(),
        0,
        "no tokens come of it"
    );
    assert_eq!(rig.queue(1).ring.poll_all().len(), 3);
}

#[test]
fn a_device_that_waits_for_its_limit_can_be_reset_stopped_and_dropped() {
    let mut rig = blocked_tx(F::empty());
    let cursor = rig.device.stop_queue(1).expect("it runs").expect("it ran");
    let setup = rig.queues[&1].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    rig.device.reset();
    // The limit is the operator's: a reset does not fill it.
    rig.start(F::empty());
    rig.send(0, &frame(60, 1));
    pause(&mut rig);
    assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
    resume(&mut rig);
    bounded("dropping a device that waits", move || drop(rig));
}
