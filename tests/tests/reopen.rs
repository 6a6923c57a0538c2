//! Links that are opened again after their interface was deleted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use net_device::error::ReopenError;
use net_device::net_queue::Caps;
use net_device::port::{Link, Port};
use net_device::{
    ActivateError, DeviceEvent, Features, NetDevice, NewError, Observer, TapConfig, VirtioDevice,
};
use tests::testbed::{Host, RINGS, Rig, chain, ip, isolated, port, without_ipv6};

type F = Features;

fn named(name: &str) -> TapConfig {
    TapConfig {
        name: Some(name.to_owned()),
        ..TapConfig::default()
    }
}

/// A device on a tap that it opens again by its name, but never makes itself a second time; and the
/// number of times that it has tried.
fn on_tap(name: &'static str, pairs: u16) -> (Rig, Arc<AtomicUsize>) {
    without_ipv6();
    let config = Rig::config(pairs);
    let (again, tries) = (config.clone(), Arc::<AtomicUsize>::default());
    let count = tries.clone();
    let builder = NetDevice::builder(config).reopen_with(move |lost| {
        count.fetch_add(1, Ordering::Relaxed);
        assert_eq!(lost.expect("it was on a tap").name, name);
        if std::fs::metadata(format!("/proc/sys/net/ipv4/conf/{name}")).is_err() {
            let missing = NewError::Ports { ports: 0, pairs: 1 };
            return Err(missing);
        }
        Link::on_tap(&again, &named(name))
    });
    let device = builder.build_on_tap(&named(name)).expect("it can be made");
    (Rig::over(device), tries)
}

/// Makes the tap as an operator does before the device is started.
fn make(name: &str, pairs: u16) {
    let kind = if pairs > 1 { "multi_queue" } else { "" };
    ip(&format!("tuntap add dev {name} mode tap vnet_hdr {kind}"));
}

/// Frames pass both ways through every pair that is fed.
fn check_traffic(rig: &mut Rig, name: &str) {
    Host::on(name).check_traffic(rig);
}

#[test]
fn a_driver_that_resets_the_device_has_its_link_back() {
    isolated(|| {
        for pairs in [1, 2] {
            for without in RINGS {
                make("back0", pairs);
                let (mut rig, tries) = on_tap("back0", pairs);
                rig.start(without);
                check_traffic(&mut rig, "back0");
                ip("link delete back0");
                rig.irq.wait_config(1);
                assert!(rig.device.needs_reset() && rig.device.is_port_lost());
                assert_eq!(rig.status() & 1, 0);
                make("back0", pairs);
                assert!(
                    !rig.device.reopen_lost_ports().expect("a driver has it"),
                    "not under a driver"
                );
                rig.device.reset();
                rig.queues.clear();
                assert!(!rig.device.is_port_lost());
                assert_eq!(rig.status() & 1, 1);
                rig.start(without);
                check_traffic(&mut rig, "back0");
                assert_eq!(rig.counter("tx_frames"), 2, "counters go on");
                assert_eq!(tries.load(Ordering::Relaxed), 1);
                drop(rig);
                ip("link delete back0");
            }
        }
    });
}

#[test]
fn an_interface_that_comes_back_later_serves_the_next_activation() {
    isolated(|| {
        make("later0", 1);
        let (mut rig, tries) = on_tap("later0", 1);
        rig.start(F::empty());
        ip("link delete later0");
        rig.irq.wait_config(1);
        rig.device.reset();
        rig.queues.clear();
        assert!(rig.device.is_port_lost());
        rig.negotiate(F::empty());
        rig.lay_out(64);
        let error = rig.try_activate(rig.setups()).expect_err("it is gone");
        assert!(matches!(error, ActivateError::Reopen(_)), "{error}");
        assert!(
            chain(&error).contains("a port is gone"),
            "{}",
            chain(&error)
        );
        assert!(rig.device.needs_reset());
        rig.device.reset();
        rig.queues.clear();
        rig.negotiate(F::empty());
        make("later0", 1);
        rig.lay_out(64);
        rig.try_activate(rig.setups()).expect("it is back");
        assert_eq!(rig.status() & 1, 1);
        check_traffic(&mut rig, "later0");
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn an_interface_that_is_deleted_while_nobody_uses_it_is_missed_before_the_next_driver() {
    isolated(|| {
        make("idle0", 2);
        let (mut rig, tries) = on_tap("idle0", 2);
        assert!(!rig.device.is_port_lost());
        assert!(!rig.device.reopen_lost_ports().expect("it is there"));
        ip("link delete idle0");
        assert!(rig.device.is_port_lost());
        assert_eq!(rig.status() & 1, 0);
        let error = rig.device.reopen_lost_ports().expect_err("it is gone");
        assert!(matches!(error, ReopenError::Open(_)), "{error}");
        make("idle0", 2);
        assert!(rig.device.reopen_lost_ports().expect("it is back"));
        assert_eq!(rig.status() & 1, 1);
        rig.start(F::empty());
        check_traffic(&mut rig, "idle0");
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_link_that_was_set_down_stays_down_when_its_port_comes_back() {
    isolated(|| {
        make("down0", 1);
        let (mut rig, _) = on_tap("down0", 1);
        rig.device.set_link(false);
        ip("link delete down0");
        make("down0", 1);
        assert!(rig.device.reopen_lost_ports().expect("it is back"));
        assert_eq!(rig.status() & 1, 0);
        rig.device.set_link(true);
        rig.start(F::empty());
        check_traffic(&mut rig, "down0");
    });
}

/// A device on a tap for which it has `link` once that is gone.
fn with_next(name: &str, link: impl Fn() -> Link + Send + 'static) -> Rig {
    without_ipv6();
    let builder = NetDevice::builder(Rig::config(1)).reopen_with(move |_| Ok(link()));
    let device = builder.build_on_tap(&named(name));
    Rig::over(device.expect("it can be made"))
}

fn link_of(ports: Vec<Port>) -> Link {
    Link {
        ports,
        host: None,
        monitor: None,
    }
}

#[test]
fn a_link_of_another_number_of_ports_is_not_taken() {
    isolated(|| {
        let mut rig = with_next("count0", || link_of(Vec::new()));
        ip("link delete count0");
        for _ in 0..2 {
            let error = rig.device.reopen_lost_ports().expect_err("it has no port");
            let ReopenError::Open(NewError::Ports { ports: 0, pairs: 1 }) = error else {
                panic!("{error}");
            };
            assert!(rig.device.is_port_lost());
        }
    });
}

#[test]
fn a_driver_that_accepted_more_than_the_next_link_can_do_has_to_negotiate_again() {
    isolated(|| {
        let mut rig = with_next("less0", || link_of(vec![port(Caps::default()).0]));
        rig.negotiate(F::empty());
        assert!(rig.offered().contains(F::VIRTIO_NET_F_GUEST_TSO4));
        ip("link delete less0");
        rig.lay_out(64);
        let error = rig.try_activate(rig.setups()).expect_err("it cannot do it");
        let ActivateError::OtherLink(missing) = error else {
            panic!("{error}");
        };
        assert!(missing.contains(F::VIRTIO_NET_F_GUEST_TSO4), "{missing:?}");
        assert!(rig.device.needs_reset());
        rig.device.reset();
        rig.queues.clear();
        assert!(!rig.offered().intersects(missing));
        rig.start(F::empty());
        assert_eq!(rig.status() & 1, 1);
    });
}

#[derive(Default)]
struct Events(Mutex<Vec<DeviceEvent>>);

impl Observer for Events {
    fn event(&self, _device: &str, event: &DeviceEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn a_device_that_was_not_told_how_says_so() {
    isolated(|| {
        without_ipv6();
        let events = Arc::<Events>::default();
        let builder = NetDevice::builder(Rig::config(1)).observer(events.clone());
        let device = builder.build_on_tap(&named("once0"));
        let mut rig = Rig::over(device.expect("it can be made"));
        ip("link delete once0");
        for _ in 0..2 {
            assert!(rig.device.is_port_lost());
            let error = rig.device.reopen_lost_ports().expect_err("it is gone");
            assert!(matches!(error, ReopenError::Unknown), "{error}");
        }
        assert_eq!(*events.0.lock().unwrap(), [DeviceEvent::Link { up: false }]);
    });
}
