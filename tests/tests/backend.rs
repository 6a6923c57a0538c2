//! A network that is slow, refuses frames, or dies.

use net_device::{Features, NetDevice, VirtioDevice};
use net_queue::testing::Answer;
use tests::testbed::{Rig, body, frame, pause, socket_port, wait_readable};

type F = Features;

#[test]
fn a_full_backend_is_waited_for_and_nothing_is_lost() {
    let (port, far) = socket_port();
    let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("one port");
    let mut rig = Rig::over(device);
    rig.start(F::empty());
    for number in 0..60 {
        rig.send(0, &frame(100, number));
    }
    let mut buffer = [0; 4096];
    let mut next = 0;
    while next < 60 {
        match far.recv(&mut buffer) {
            Ok(len) => {
                assert_eq!(body(&buffer[..len]), body(&frame(100, next)));
                next += 1;
            }
            Err(_) => wait_readable(&far, "the next frame"),
        }
    }
}

#[test]
fn a_backend_that_would_block_is_asked_again() {
    let mut rig = Rig::running(F::empty());
    rig.networks[0].wire.script_send([Answer::WouldBlock; 3]);
    for number in 0..5 {
        rig.send(0, &frame(60, number));
    }
    let sent = rig.networks[0].wait_sent(5);
    for (number, bytes) in (0..).zip(&sent) {
        assert_eq!(body(bytes), body(&frame(60, number)));
    }
}

#[test]
fn a_backend_that_refuses_frames_loses_only_those_net_tx_14() {
    let mut rig = Rig::running(F::empty());
    let script = [Answer::Refused, Answer::Pass, Answer::Refused];
    rig.networks[0].wire.script_send(script);
    for number in 0..5 {
        rig.send(0, &frame(60, number));
    }
    assert_eq!(rig.networks[0].wait_sent(3).len(), 3);
    pause(&mut rig);
    assert_eq!(rig.queue(1).ring.poll_all().len(), 5);
    assert_eq!(rig.counter("tx_drop_refused"), 2);
    assert!(!rig.device.needs_reset());
}

fn dies(kill: impl FnOnce(&mut Rig)) {
    let mut rig = Rig::new(Rig::config(2));
    rig.start(F::empty());
    kill(&mut rig);
    rig.irq.wait_config(1);
    assert!(rig.device.needs_reset(), "DEV-LIFE-04");
    assert_eq!(rig.status() & 1, 0, "the link is down");
    // The other pair and the control queue go on; the worker can be stopped.
    rig.send(1, &frame(60, 2));
    assert_eq!(rig.networks[1].wait_sent(1).len(), 1);
    assert_eq!(rig.command(0, 0, &[1]), 0);
    pause(&mut rig);
    rig.device.reset();
    assert!(!rig.device.needs_reset());
}

#[test]
fn a_dead_backend_fails_the_device_when_sending_dev_life_05() {
    dies(|rig| {
        rig.networks[0].wire.script_send([Answer::Dead]);
        rig.send(0, &frame(60, 1));
    });
}

#[test]
fn a_dead_backend_fails_the_device_when_receiving_dev_life_05() {
    dies(|rig| {
        rig.networks[0].wire.script_recv([Answer::Dead; 2]);
        rig.post(0, &[2048]);
    });
}
