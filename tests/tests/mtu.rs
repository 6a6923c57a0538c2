//! The MTU that a driver is told, and what happens when the interface's changes.

use net_device::net_queue::Caps;
use net_device::{Features, NetConfig, NetDevice, Snapshottable, TapConfig, VirtioDevice};
use tests::testbed::{
    Host, RINGS, Rig, all_caps, body, frame, ip, isolated, pause, resume, without_ipv6,
};

type F = Features;

/// Switch that lets a backend deliver frames beyond its MTU.
const SEGMENTS: Features = F::VIRTIO_NET_F_GUEST_TSO4
    .union(F::VIRTIO_NET_F_GUEST_TSO6)
    .union(F::VIRTIO_NET_F_GUEST_UFO)
    .union(F::VIRTIO_NET_F_GUEST_USO4)
    .union(F::VIRTIO_NET_F_GUEST_USO6);

fn mtu(rig: &Rig) -> u16 {
    u16::from_le_bytes(rig.read(10))
}

fn caps(mtu: u16) -> Caps {
    Caps {
        mtu: Some(mtu),
        ..all_caps()
    }
}

fn on_tap(name: &str, config: NetConfig) -> (Rig, Host) {
    without_ipv6();
    let tap = TapConfig {
        name: Some(name.to_owned()),
        ..TapConfig::default()
    };
    let device = NetDevice::from_tap_name(config, &tap).expect("a namespace of its own");
    (Rig::over(device), Host::on(name))
}

/// A packet of `len` bytes beyond its Ethernet header passes in both directions.
fn check_packet(rig: &mut Rig, host: &Host, len: usize) {
    let payload: Vec<u8> = (0..len - 28).map(|at| at as u8).collect();
    rig.send(0, &host.datagram(&payload));
    assert_eq!(host.receive(), payload);
    rig.post(0, &[12 + 14 + len]);
    host.send(&payload);
    let seen = rig.receive(0, 1);
    assert_eq!(Host::payload(&seen[0]), Some(&payload[..]));
}

#[test]
fn the_next_driver_is_told_what_the_interface_has_by_then_net_cfg_07() {
    isolated(|| {
        let (mut rig, host) = on_tap("mt0", Rig::config(1));
        for without in [F::empty(), SEGMENTS] {
            rig.start(without);
            assert_eq!(mtu(&rig), 1500);
            check_packet(&mut rig, &host, 1500);
            ip("link set mt0 mtu 4000");
            assert_eq!(mtu(&rig), 1500, "not under a driver");
            rig.device.reset();
            assert_eq!(mtu(&rig), 4000);
            rig.start(without);
            check_packet(&mut rig, &host, 4000);
            ip("link set mt0 mtu 900");
            rig.device.reset();
            assert_eq!(mtu(&rig), 900);
            rig.start(without);
            assert_eq!(mtu(&rig), 900);
            check_packet(&mut rig, &host, 900);
            ip("link set mt0 mtu 1500");
            rig.device.reset();
        }
    });
}

#[test]
fn the_first_driver_is_told_what_changed_since_the_device_was_made() {
    isolated(|| {
        for without in [F::empty(), SEGMENTS] {
            let (mut rig, host) = on_tap("mt1", Rig::config(1));
            ip("link set mt1 mtu 4000");
            rig.start(without);
            assert_eq!(mtu(&rig), 4000);
            check_packet(&mut rig, &host, 4000);
        }
    });
}

#[test]
fn a_configured_mtu_stays_what_it_is() {
    isolated(|| {
        let config = NetConfig {
            mtu: Some(1400),
            ..Rig::config(1)
        };
        let (mut rig, host) = on_tap("mt2", config);
        ip("link set mt2 mtu 4000");
        rig.start(F::empty());
        assert_eq!(mtu(&rig), 1400);
        check_packet(&mut rig, &host, 1400);
        rig.device.reset();
        assert_eq!(mtu(&rig), 1400);
        // Room is there for what the interface lets through, and a driver that did not negotiate an
        // MTU gets it.
        rig.start(SEGMENTS | F::VIRTIO_NET_F_MTU);
        check_packet(&mut rig, &host, 4000);
    });
}

#[test]
fn room_and_limit_follow_the_interface_in_every_kind_of_ring_net_cfg_08() {
    for rings in RINGS {
        let mut rig = Rig::with_caps(Rig::config(1), caps(1500));
        for len in [9000, 1500, 600, 3000] {
            rig.networks[0].wire.set_caps(caps(len));
            rig.device.reset();
            assert_eq!(mtu(&rig), len);
            rig.start(rings | SEGMENTS);
            let most = usize::from(len) + 14;
            rig.post(0, &[12 + most; 2]);
            for bytes in [most + 1, most] {
                rig.networks[0].wire.inject(frame(bytes, len.into()));
            }
            assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(most, len.into())));
        }
        assert_eq!(rig.counter("rx_drop_mtu"), 4);
    }
}

#[test]
fn an_mtu_that_cannot_be_told_is_not_offered_until_it_can_net_cfg_07() {
    let mut rig = Rig::with_caps(Rig::config(1), caps(67));
    assert!(!rig.offered().contains(F::VIRTIO_NET_F_MTU));
    for (now, told) in [(1500, 1500), (60, 0), (68, 68)] {
        rig.networks[0].wire.set_caps(caps(now));
        rig.device.reset();
        assert_eq!(rig.offered().contains(F::VIRTIO_NET_F_MTU), told != 0);
        assert_eq!(mtu(&rig), told);
    }
}

#[test]
fn a_driver_that_moved_here_keeps_the_mtu_that_it_negotiated() {
    for rings in RINGS {
        let mut rig = Rig::with_caps(Rig::config(1), caps(4000));
        rig.start(rings);
        pause(&mut rig);
        let snapshot = rig.device.snapshot().expect("it is paused");
        // Made when the interface had another one.
        let mut next = Rig::with_caps(Rig::config(1), caps(1500));
        next.networks[0].wire.set_caps(caps(4000));
        next.device.restore(snapshot).expect("the same by now");
        let mut next = rig.move_to(next);
        next.networks[0].wire.set_caps(caps(1500));
        next.activate();
        resume(&mut next);
        assert_eq!(mtu(&next), 4000);
        next.device.reset();
        assert_eq!(mtu(&next), 1500);
    }
}
