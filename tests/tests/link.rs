//! A link that is set down and up by the VMM, or by what becomes of the host's interface.

use net_device::{Carrier, Features, NetConfig, NetDevice, TapConfig, VirtioDevice};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::testbed::{
    HOUR_MS, Host, OtherNamespace, RINGS, Rig, body, frame, frame_limit, ip, isolated, pause,
    resume, wait_readable, without_ipv6,
};

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

/// A device on the tap `name`, whose interface it follows.
fn on_tap(name: &str, config: NetConfig) -> (Rig, Host) {
    without_ipv6();
    let tap = TapConfig {
        name: Some(name.to_owned()),
        ..TapConfig::default()
    };
    let device = NetDevice::from_tap_name(config, &tap).expect("a namespace of its own");
    let mut rig = Rig::over(device);
    rig.device.follow_host_link();
    (rig, Host::on(name))
}

/// Waits until the kernel has told of a change, and has the device look.
fn look(rig: &mut Rig) {
    let fd = rig.device.host_link_fd().expect("it is on a tap");
    wait_readable(&fd, "news of the interface");
    rig.device.follow_host_link();
}

/// The same until the link is as it should be: one command of `ip` may be several changes.
fn look_until(rig: &mut Rig, up: bool) {
    while rig.status() & 1 != u16::from(up) {
        look(rig);
    }
}

#[test]
fn the_driver_sees_the_carrier_of_the_interface_net_cfg_05_15() {
    isolated(|| {
        for without in RINGS {
            let (mut rig, host) = on_tap("lk0", Rig::config(1));
            rig.start(without);
            for _ in 0..3 {
                let told = rig.irq.config();
                host.check_traffic(&mut rig);
                assert_eq!(rig.irq.config(), told, "for frames alone");
                let (told, generation) = (rig.irq.config(), rig.device.config_generation());
                let refused = rig.counter("tx_drop_refused");
                let of_queues = [0, 1].map(|index| rig.irq.queue(index));
                ip("link set lk0 down");
                look_until(&mut rig, false);
                assert_eq!(rig.irq.config(), told + 1);
                // The queues are not interrupted for a change of the configuration.
                assert_eq!([0, 1].map(|index| rig.irq.queue(index)), of_queues);
                assert_ne!(rig.device.config_generation(), generation);
                rig.send(0, &host.datagram(b"nobody is there"));
                rig.wait_used(1, 2);
                assert_eq!(rig.counter("tx_drop_refused"), refused + 1);
                Host::take_up("lk0");
                look_until(&mut rig, true);
                assert_eq!(rig.irq.config(), told + 2);
            }
            assert!(!rig.device.needs_reset());
            drop(rig);
        }
    });
}

#[test]
fn a_link_is_up_if_both_vmm_and_host_have_it_up() {
    isolated(|| {
        let (mut rig, _host) = on_tap("lk1", Rig::config(1));
        rig.start(F::empty());
        rig.device.set_link(false);
        ip("link set lk1 down");
        look(&mut rig);
        rig.device.set_link(true);
        assert_eq!(rig.status() & 1, 0);
        rig.device.set_link(false);
        ip("link set lk1 up");
        look(&mut rig);
        assert_eq!(rig.status() & 1, 0);
        rig.device.set_link(true);
        look_until(&mut rig, true);
        // A new driver finds what is there.
        ip("link set lk1 down");
        look_until(&mut rig, false);
        rig.device.reset();
        rig.start(F::empty());
        assert_eq!(rig.status() & 1, 0);
    });
}

#[test]
fn a_carrier_that_is_not_to_be_followed_is_up() {
    isolated(|| {
        let config = NetConfig {
            carrier: Carrier::Up,
            ..Rig::config(1)
        };
        let (mut rig, host) = on_tap("lk2", config);
        rig.start(F::empty());
        ip("link set lk2 down");
        look(&mut rig);
        assert_eq!((rig.status(), rig.irq.config()), (1, 0));
        Host::take_up("lk2");
        look(&mut rig);
        host.check_traffic(&mut rig);
    });
}

#[test]
fn an_interface_that_is_renamed_or_gets_another_mtu_is_followed() {
    isolated(|| {
        let (mut rig, _host) = on_tap("lk3", Rig::config(1));
        let mtu = |rig: &Rig| u16::from_le_bytes(rig.read(10));
        ip("link set lk3 mtu 4000");
        look(&mut rig);
        assert_eq!(mtu(&rig), 4000, "there is no driver");
        rig.start(F::empty());
        ip("link set lk3 mtu 900");
        look(&mut rig);
        assert_eq!(mtu(&rig), 4000, "NET-CFG-07");
        ip("link set lk3 down");
        ip("link set lk3 name lk4");
        ip("link set lk4 up");
        while rig.device.host_interface().expect("it has one").name != "lk4" {
            look(&mut rig);
        }
        look_until(&mut rig, true);
        rig.device.reset();
        assert_eq!(mtu(&rig), 900);
        // Others are nobody's business.
        ip("tuntap add dev other0 mode tap");
        look(&mut rig);
        assert_eq!(rig.status() & 1, 1);
        ip("link delete lk4");
        look_until(&mut rig, false);
        assert!(rig.device.is_port_lost());
    });
}

#[test]
fn an_interface_that_moves_to_another_namespace_has_a_carrier_for_ever() {
    isolated(|| {
        let (mut rig, _host) = on_tap("lk5", Rig::config(1));
        rig.start(F::empty());
        ip("link set lk5 down");
        look_until(&mut rig, false);
        let other = OtherNamespace::start();
        ip(&format!("link set lk5 netns {}", other.id()));
        look_until(&mut rig, true);
        assert!(!rig.device.is_port_lost() && !rig.device.needs_reset());
    });
}

#[test]
fn a_link_without_an_interface_has_nothing_to_follow() {
    let mut rig = Rig::running(F::empty());
    assert!(rig.device.host_link_fd().is_none());
    rig.device.follow_host_link();
    assert_eq!(rig.status(), 1);
}

#[test]
fn a_change_that_cannot_be_looked_at_is_seen_with_the_next_one() {
    isolated(|| {
        let (mut rig, _host) = on_tap("lk9", Rig::config(1));
        rig.start(F::empty());
        ip("link set lk9 down");
        let limit = getrlimit(Resource::Nofile);
        let none = Rlimit {
            current: Some(0),
            ..limit
        };
        let news = rig.device.host_link_fd().expect("it is on a tap");
        wait_readable(&news, "news of the interface");
        setrlimit(Resource::Nofile, none).expect("it is lowered");
        rig.device.follow_host_link();
        setrlimit(Resource::Nofile, limit).expect("it is as it was");
        assert_eq!(rig.status() & 1, 1, "what was known stays");
        // The kernel need not tell anew.
        rig.device.follow_host_link();
        assert_eq!(rig.status() & 1, 0);
    });
}
