//! Devices made from a name, taps, descriptors, each on real interfaces.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};

use net_device::config::Cidr;
use net_device::net_queue::Caps;
use net_device::tap::{Tap, TapOptions};
use net_device::{
    Features, NetConfig, NetDevice, NewError, Snapshottable, TapConfig, VirtioDevice,
};
use tests::testbed::{
    Host, OtherNamespace, RINGS, Rig, all_caps, body, chain, frame, ip, isolated, pause, process,
    resume, without_ipv6,
};

type F = Features;

fn named(name: &str) -> TapConfig {
    TapConfig {
        name: Some(name.to_owned()),
        ..TapConfig::default()
    }
}

/// Report of `ip` about an interface.
fn show(name: &str) -> String {
    let output = std::process::Command::new("ip")
        .args(["addr", "show", name])
        .output()
        .expect("these tests need `ip`: install iproute2");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn check_traffic(device: NetDevice, name: &str) -> Rig {
    let host = Host::on(name);
    let mut rig = Rig::over(device);
    rig.start(F::empty());
    rig.send(0, &host.datagram(b"from the guest"));
    assert_eq!(host.receive(), b"from the guest");
    rig.post(0, &[2048; 8]);
    host.send(b"from the host");
    loop {
        let seen = rig.receive(0, 1).remove(0);
        if Host::payload(&seen) == Some(b"from the host") {
            return rig;
        }
        rig.post(0, &[2048]);
    }
}

#[test]
fn a_name_makes_a_new_interface_with_what_was_asked_for() {
    isolated(|| {
        without_ipv6();
        let config = NetConfig {
            mtu: Some(1400),
            ..Rig::config(1)
        };
        let tap = TapConfig {
            host_mac: Some([0x02, 0, 0, 0, 0, 0x77].into()),
            ipv4: Some("10.9.0.1/16".parse::<Cidr<Ipv4Addr>>().expect("an address")),
            ..named("new0")
        };
        let device = NetDevice::from_tap_name(config, &tap).expect("it can be made");
        let shown = show("new0");
        for part in ["mtu 1400", "02:00:00:00:00:77", "10.9.0.1/16", "UP"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let rig = check_traffic(device, "new0");
        assert_eq!(u16::from_le_bytes(rig.read(10)), 1400);
        drop(rig);
        assert!(show("new0").is_empty(), "it ends with its device");
    });
}

#[test]
fn an_interface_that_exists_keeps_mac_mtu_and_addresses() {
    isolated(|| {
        without_ipv6();
        ip("tuntap add dev old0 mode tap vnet_hdr");
        ip("link set old0 address 02:00:00:00:00:88 mtu 1300");
        ip("addr add 10.8.0.1/24 dev old0");
        let config = NetConfig {
            mtu: None,
            ..Rig::config(1)
        };
        let tap = TapConfig {
            host_mac: Some([0x02, 0, 0, 0, 0, 0x77].into()),
            ipv4: Some("10.9.0.1/16".parse::<Cidr<Ipv4Addr>>().expect("an address")),
            ..named("old0")
        };
        let device = NetDevice::from_tap_name(config, &tap).expect("it can be opened");
        let shown = show("old0");
        for part in ["mtu 1300", "02:00:00:00:00:88", "10.8.0.1/24", "UP"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains("10.9.0.1"), "{shown}");
        assert_eq!(
            device.config().mtu,
            Some(1300),
            "the driver is told the tap's"
        );
        drop(check_traffic(device, "old0"));
        assert!(show("old0").contains("old0"), "it stays");
    });
}

#[test]
fn a_template_takes_the_first_free_name() {
    isolated(|| {
        let first = NetDevice::from_tap_name(Rig::config(1), &named("tmpl%d"));
        let second = NetDevice::from_tap_name(Rig::config(1), &named("tmpl%d"));
        let third = NetDevice::from_tap_name(Rig::config(1), &TapConfig::default());
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        for name in ["tmpl0", "tmpl1", "vmtap0"] {
            assert!(show(name).contains(name));
        }
    });
}

#[test]
fn a_name_opens_a_queue_for_each_pair() {
    isolated(|| {
        without_ipv6();
        let device = NetDevice::from_tap_name(Rig::config(3), &named("mq0"));
        let rig = check_traffic(device.expect("it can be made"), "mq0");
        assert_eq!(u16::from_le_bytes(rig.read(8)), 3);
    });
}

#[test]
fn names_that_cannot_be_used_say_why() {
    isolated(|| {
        let refused = |config: NetConfig, name: &str| {
            let error = NetDevice::from_tap_name(config, &named(name));
            chain(&error.expect_err("it cannot be used"))
        };
        for name in ["", "a/b", "a-name-that-is-too-long"] {
            println!("{}", refused(Rig::config(1), name));
        }
        ip("tuntap add dev tun0 mode tun");
        println!("{}", refused(Rig::config(1), "tun0"));
        println!("{}", refused(Rig::config(1), "lo"));
        ip("tuntap add dev one0 mode tap vnet_hdr");
        println!("{}", refused(Rig::config(2), "one0"));
        let _busy = NetDevice::from_tap_name(Rig::config(1), &named("one0")).expect("free");
        assert!(refused(Rig::config(1), "one0").contains("in use"));
        let bad = NetConfig {
            queue_size: 100,
            ..Rig::config(1)
        };
        println!("{}", refused(bad, "two0"));
        assert!(show("two0").is_empty(), "nothing was made");
    });
}

fn open(name: &str, queues: usize) -> Vec<Tap> {
    let options = TapOptions::new(name).queues(queues).up();
    options.open().expect("a namespace of its own")
}

fn fds(taps: &[Tap]) -> Vec<BorrowedFd<'_>> {
    taps.iter().map(AsFd::as_fd).collect()
}

#[test]
fn taps_that_are_open_make_a_device() {
    isolated(|| {
        without_ipv6();
        let device = NetDevice::from_taps(Rig::config(2), open("two0", 2));
        drop(check_traffic(device.expect("they fit"), "two0"));
        for (pairs, taps) in [(1, 2), (3, 2), (2, 1)] {
            let device = NetDevice::from_taps(Rig::config(pairs), open("bad%d", taps));
            let counted = matches!(device, Err(NewError::Ports { .. }));
            assert!(counted, "{pairs} pairs, {taps} taps");
        }
    });
}

#[test]
fn descriptors_are_duplicated_and_stay_the_callers_over_many_devices() {
    isolated(|| {
        without_ipv6();
        let taps = open("fd0", 2);
        let before = process::open_fds();
        let host = Host::on("fd0");
        for round in 0..3 {
            let device = NetDevice::from_tap_fds(Rig::config(2), &fds(&taps));
            let mut rig = Rig::over(device.expect("they fit"));
            rig.start(F::empty());
            assert_eq!(rig.command(4, 0, &[1 + round % 2, 0]), 0);
            rig.send(0, &host.datagram(&[round]));
            assert_eq!(host.receive(), [round]);
            drop(rig);
            // The host's socket is the one that is new.
            assert_eq!(process::open_fds(), before + 1);
            assert_eq!(taps[0].name().expect("it is open"), "fd0");
            assert!(taps[1].write(&host.datagram(b"the caller")).is_ok());
            assert_eq!(host.receive(), b"the caller");
        }
    });
}

#[test]
fn descriptors_that_do_not_fit_say_what_differs() {
    isolated(|| {
        let refused = |pairs, fds: &[BorrowedFd<'_>]| {
            let error = NetDevice::from_tap_fds(Rig::config(pairs), fds);
            let text = chain(&error.expect_err("it cannot be used"));
            println!("{text}");
            text
        };
        let null = File::open("/dev/null").expect("it is there");
        assert!(refused(1, &[null.as_fd()]).contains("not a tap"));
        let bare = File::options().read(true).write(true).open("/dev/net/tun");
        let bare = bare.expect("it is there");
        assert!(refused(1, &[bare.as_fd()]).contains("not a tap"));

        let (one, two) = (open("one0", 1), open("two0", 2));
        refused(1, &[]);
        refused(2, &fds(&one));
        assert!(refused(1, &fds(&two)).contains("pairs"));
        assert!(refused(2, &[two[0].as_fd(), one[0].as_fd()]).contains("one0"));
        assert!(refused(2, &[one[0].as_fd(), one[0].as_fd()]).contains("single-queue"));

        let plain = tests::testbed::plain_tap("plain0");
        let text = refused(1, &[plain.as_fd()]);
        assert!(text.contains("virtio-net header"), "{text}");
    });
}

#[test]
fn a_device_on_a_tap_whose_interface_is_deleted_fails_and_can_be_dropped() {
    isolated(|| {
        without_ipv6();
        let device = NetDevice::from_tap_name(Rig::config(2), &named("gone0"));
        let mut rig = check_traffic(device.expect("it can be made"), "gone0");
        ip("link delete gone0");
        rig.irq.wait_config(1);
        assert!(rig.device.needs_reset());
        assert_eq!(rig.status() & 1, 0);
        assert_eq!(body(&[0; 12]).len(), 0);
        // Its commands are answered; those that need the link fail.
        assert_eq!(rig.command(4, 0, &[2, 0]), 1);
        assert_eq!(rig.command(5, 0, &[0; 8]), 1);
        assert_eq!(rig.command(0, 0, &[1]), 0);
        rig.device.reset();
        rig.negotiate(F::empty());
        rig.lay_out(16);
        assert!(rig.try_activate(rig.setups()).is_err());
    });
}

#[test]
fn an_idle_device_without_buffers_notices_that_its_interface_is_deleted() {
    isolated(|| {
        without_ipv6();
        for pairs in [1, 2] {
            for without in RINGS {
                let device = NetDevice::from_tap_name(Rig::config(pairs), &named("idle0"));
                let mut rig = Rig::over(device.expect("it can be made"));
                rig.start(without);
                // Each worker has nothing to do but to wait, and has asked for kicks.
                pause(&mut rig);
                resume(&mut rig);
                ip("link delete idle0");
                rig.irq.wait_config(1);
                assert!(rig.device.needs_reset());
                assert_eq!(rig.status() & 1, 0);
                assert_eq!(rig.command(0, 0, &[1]), 0);
            }
        }
    });
}

#[test]
fn a_deleted_interface_fails_the_device_and_not_the_call_that_resumes_it() {
    isolated(|| {
        without_ipv6();
        for pairs in [1, 2] {
            let device = NetDevice::from_tap_name(Rig::config(pairs), &named("paused0"));
            let mut rig = check_traffic(device.expect("it can be made"), "paused0");
            pause(&mut rig);
            ip("link delete paused0");
            resume(&mut rig);
            rig.irq.wait_config(1);
            assert!(rig.device.needs_reset());
            assert_eq!(rig.status() & 1, 0);
            // It can be paused, saved and resumed like any other.
            pause(&mut rig);
            rig.device.snapshot().expect("it is paused");
            resume(&mut rig);
            assert_eq!(rig.command(0, 0, &[1]), 0);
            rig.device.reset();
        }
    });
}

#[test]
fn an_interface_that_is_set_down_or_moves_to_another_namespace_is_not_gone() {
    isolated(|| {
        without_ipv6();
        let device = NetDevice::from_tap_name(Rig::config(2), &named("moved0"));
        let mut rig = Rig::over(device.expect("it can be made"));
        rig.start(F::empty());
        let other = OtherNamespace::start();
        for change in [
            "link set moved0 down".to_owned(),
            "link set moved0 up".to_owned(),
            format!("link set moved0 netns {}", other.id()),
        ] {
            ip(&change);
            pause(&mut rig);
            resume(&mut rig);
            assert_eq!(rig.command(0, 0, &[1]), 0);
            assert!(!rig.device.needs_reset(), "{change}");
            assert_eq!(rig.status() & 1, 1, "{change}");
        }
        // It ends with its namespace.
        drop(other);
        rig.irq.wait_config(1);
        assert!(rig.device.needs_reset());
    });
}

#[test]
fn an_mtu_too_small_to_be_told_is_not_offered_net_cfg_07() {
    for (mtu, told) in [(0, None), (67, None), (68, Some(68)), (1280, Some(1280))] {
        let caps = Caps {
            mtu: Some(mtu),
            ..all_caps()
        };
        let mut rig = Rig::with_caps(Rig::config(1), caps);
        assert_eq!(rig.offered().contains(F::VIRTIO_NET_F_MTU), told.is_some());
        assert_eq!(rig.device.config().mtu, told);
        let shown = u16::from_le_bytes(rig.read(10));
        assert_eq!(shown, told.unwrap_or(0));
        rig.start(F::empty());
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(60, 1));
        assert_eq!(rig.receive(0, 1).len(), 1);
    }
}
