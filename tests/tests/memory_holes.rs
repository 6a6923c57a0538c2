//! Guest memory that is out of reach, as the device of a VMM meets it: a frame or a queue fails and
//! is counted, other devices of the process notice nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use net_device::{Features, NetConfig, NetDevice, TapConfig, VirtioDevice};
use net_queue::testing::{Hole, HoledMemory, Piece};
use tests::testbed::{Host, RINGS, Rig, body, frame, isolated, without_ipv6};

type F = Features;

fn holed(hole: Hole) -> HoledMemory {
    HoledMemory::new(hole, tempfile::tempfile).expect("test memory")
}

/// A running device whose guest memory has a hole.
fn running(holed: &HoledMemory, without: Features) -> Rig {
    let mut rig = Rig::new(Rig::config(1));
    rig.memory = holed.memory.clone();
    rig.start(without);
    rig
}

fn check_traffic(rig: &mut Rig) {
    rig.send(0, &frame(100, 1));
    assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(100, 1)));
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, 2));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(90, 2)));
}

#[test]
fn buffers_in_a_hole_cost_their_frames() {
    for without in RINGS {
        for hole in [Hole::NoAccess, Hole::Truncated] {
            let holed = holed(hole);
            let mut rig = running(&holed, without);
            rig.queue(1).ring.add(&[Piece::readable(holed.hole(), 100)]);
            rig.queue(1).publish();
            rig.wait_used(1, 1);
            assert_eq!(rig.counter("tx_drop_memory_fault"), 1);
            rig.queue(0).post(&[Piece::writable(holed.hole(), 2048)]);
            rig.networks[0].wire.inject(frame(90, 2));
            assert_eq!(rig.wait_used(0, 1)[0].len, 0);
            assert_eq!(rig.counter("rx_drop_memory_fault"), 1);
            check_traffic(&mut rig);
            assert!(!rig.device.needs_reset());
            drop(rig.restored());
        }
    }
}

#[test]
fn rings_that_vanish_break_their_device_alone() {
    for without in RINGS {
        let holed = holed(Hole::NoAccess);
        let mut rig = running(&holed, without);
        let mut other = Rig::running(without);
        check_traffic(&mut rig);
        holed.vanish_rings().expect("the file can be shortened");
        rig.queues[&1].kick();
        rig.irq.wait_config(1);
        assert!(rig.device.needs_reset());
        check_traffic(&mut other);
        drop(rig.restored());
        rig.device.reset();
        holed.restore_rings().expect("the file can be extended");
        rig.start(without);
        check_traffic(&mut rig);
    }
}

/// The same on a tap, where the kernel meets the hole as well.
#[test]
fn a_tap_survives_holes() {
    isolated(|| {
        without_ipv6();
        let tap = TapConfig {
            name: Some("hole0".into()),
            ..TapConfig::default()
        };
        let device = NetDevice::from_tap_name(Rig::config(1), &tap).expect("a tap");
        let host = Host::on("hole0");
        let holed = holed(Hole::NoAccess);
        let mut rig = Rig::over(device);
        rig.memory = holed.memory.clone();
        rig.start(F::empty());
        for len in [100, 9000] {
            rig.queue(1).ring.add(&[Piece::readable(holed.hole(), len)]);
            rig.queue(1).publish();
            rig.wait_used(1, 1);
        }
        assert_eq!(rig.counter("tx_drop_memory_fault"), 2);
        rig.queue(0).post(&[Piece::writable(holed.hole(), 70_000)]);
        host.send(b"lost");
        rig.wait_used(0, 1);
        assert_eq!(rig.counter("rx_drop_memory_fault"), 1);
        rig.post(0, &[70_000]);
        host.send(b"found");
        assert_eq!(Host::payload(&rig.receive(0, 1)[0]), Some(&b"found"[..]));
        rig.send(0, &host.datagram(b"out"));
        assert_eq!(host.receive(), b"out");
    });
}

/// Tells a process of [`the_handler_is_the_configurations_choice`] whether its device has the
/// handler.
const HANDLER: &str = "MEMORY_HOLES_HANDLER";

/// A VMM can keep the process's signal handlers to itself; then a hole is its own to deal with.
#[test]
fn the_handler_is_the_configurations_choice() {
    let play = |handler: bool| {
        let mut child = Command::new(std::env::current_exe().expect("a test knows its program"));
        child
            .args(["--exact", "a_frame_in_a_hole"])
            .env(HANDLER, handler.to_string());
        if !handler {
            // A sanitizer's own handler would end the process with a status instead of the signal.
            child.env("ASAN_OPTIONS", "handle_segv=0");
            child.env("TSAN_OPTIONS", "handle_segv=0");
        }
        child.output().expect("a test can run itself").status
    };
    assert_eq!(play(true).code(), Some(0));
    assert_eq!(play(false).signal(), Some(libc::SIGSEGV));
}

/// One scene of the test above; nothing when it is run as a test.
#[test]
fn a_frame_in_a_hole() {
    let Ok(handler) = std::env::var(HANDLER) else {
        return;
    };
    let config = NetConfig {
        memory_fault_handler: handler == "true",
        ..Rig::config(1)
    };
    let holed = holed(Hole::NoAccess);
    let mut rig = Rig::new(config);
    rig.memory = holed.memory.clone();
    rig.start(F::empty());
    rig.queue(1).ring.add(&[Piece::readable(holed.hole(), 100)]);
    rig.queue(1).publish();
    rig.wait_used(1, 1);
}
