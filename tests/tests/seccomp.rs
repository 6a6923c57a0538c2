//! Workers under their filter, with real traffic on a real tap and every command.

use net_device::seccomp::SeccompAction;
use net_device::{Features, NetConfig, NetDevice, TapConfig, VirtioDevice};
use tests::testbed::{
    GUEST_MAC, Host, RINGS, Rig, alone, frame, isolated, pause, process, resume, without_ipv6,
};

type F = Features;

fn on_tap(name: &str, pairs: u16) -> (Rig, Host) {
    without_ipv6();
    let config = Rig::config(pairs);
    assert_eq!(config.seccomp, SeccompAction::Trap, "that is the default");
    let tap = TapConfig {
        name: Some(name.to_owned()),
        ..TapConfig::default()
    };
    let device = NetDevice::from_tap_name(config, &tap).expect("it can be made");
    (Rig::over(device), Host::on(name))
}

#[test]
fn workers_and_no_other_threads_are_confined() {
    isolated(|| {
        let (mut rig, _host) = on_tap("sec0", 2);
        let filters = |thread: &process::Thread| {
            let count = thread.status("Seccomp_filters");
            count.map_or(0, |text| text.parse::<u32>().expect("a number"))
        };
        let before: Vec<_> = process::threads().iter().map(filters).collect();
        rig.start(F::empty());
        let outside = before[0];
        let mut names = Vec::new();
        for thread in process::threads() {
            if thread.name.starts_with("net_") {
                assert_eq!(thread.status("Seccomp").as_deref(), Some("2"));
                assert!(filters(&thread) > outside);
                names.push(thread.name);
            } else {
                assert_eq!(filters(&thread), outside, "{}", thread.name);
            }
        }
        assert_eq!(names, ["net_ctrl", "net_qp0", "net_qp1"]);
    });
}

#[test]
fn without_a_filter_when_that_is_configured() {
    alone(|| {
        let before = process::threads()[0].status("Seccomp");
        let mut rig = Rig::new(NetConfig {
            seccomp: SeccompAction::Allow,
            ..Rig::config(1)
        });
        rig.start(F::empty());
        for thread in process::threads_named("net_") {
            assert_eq!(thread.status("Seccomp"), before);
        }
    });
}

/// Every command there is, most of them twice.
fn commands() -> Vec<(u8, u8, Vec<u8>)> {
    let mut commands = Vec::new();
    for on in [1, 0] {
        commands.extend((0..6).map(|mode| (0, mode, vec![on])));
    }
    let mut table = 40u32.to_le_bytes().to_vec();
    table.extend([2; 240]);
    table.extend([0; 4]);
    commands.push((1, 0, table));
    commands.push((1, 1, GUEST_MAC.to_vec()));
    for vlan in 0..50 {
        commands.push((2, 0, vec![vlan, 0]));
        commands.push((2, 1, vec![vlan, 0]));
    }
    commands.push((3, 0, Vec::new()));
    for pairs in [2, 1, 2, 1] {
        commands.push((4, 0, vec![pairs, 0]));
    }
    for mask in [0u64, 1 << 1, 1 << 1 | 1 << 7] {
        commands.push((5, 0, mask.to_le_bytes().to_vec()));
    }
    commands
}

#[test]
fn traffic_commands_pause_and_limits_stay_within_the_filter() {
    isolated(|| {
        let (mut rig, host) = on_tap("sec0", 2);
        for without in RINGS {
            rig.start(without);
            for round in 0..3 {
                for (class, command, data) in commands() {
                    assert_eq!(rig.command(class, command, &data), 0, "{class}/{command}");
                }
                assert_eq!(rig.command(9, 9, &[]), 1);
                for size in [10, 1000, 1400] {
                    rig.send(0, &host.datagram(&vec![round; size]));
                    assert_eq!(host.receive(), vec![round; size]);
                    rig.post(0, &[512; 8]);
                    host.send(&vec![round; size]);
                    let seen = rig.receive(0, 1);
                    assert_eq!(Host::payload(&seen[0]), Some(&vec![round; size][..]));
                    assert_eq!(rig.queue(0).used.len(), 0);
                    let rest = rig.queue(0).ring.in_flight();
                    assert!(rest < 64, "{rest}");
                    pause(&mut rig);
                    resume(&mut rig);
                }
                // What is sent meanwhile is dropped, under the filter, too.
                rig.device.set_link(false);
                rig.send(0, &host.datagram(&[round]));
                while rig.queue(1).ring.in_flight() > 0 {
                    rig.wait_used(1, 1);
                }
                rig.device.set_link(true);
                rig.device.announce();
            }
            rig.device.reset();
        }
    });
}

#[test]
fn a_panic_and_a_broken_ring_stay_within_the_filter() {
    alone(|| {
        let mut rig = Rig::running(F::VIRTIO_F_RING_PACKED);
        tests::testbed::break_ring(&mut rig, 1);
        rig.irq.wait_config(1);
        rig.device.reset();
        rig.start(F::empty());
        rig.networks[0].panic_next();
        rig.send(0, &frame(60, 1));
        rig.irq.wait_config(2);
        drop(rig);
    });
}

#[test]
fn the_interface_goes_while_commands_come() {
    isolated(|| {
        let (mut rig, _host) = on_tap("sec0", 2);
        rig.start(F::empty());
        tests::testbed::ip("link delete sec0");
        for (class, command, data) in commands() {
            rig.command(class, command, &data);
        }
    });
}
