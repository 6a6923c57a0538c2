//! Devices that lose a worker as their driver suspends them.

use net_device::net_queue::{Caps, Offloads};
use net_device::{Lifecycle, NetDeviceBuilder, SuspendError, WaitsFor};
use net_queue::testing::packets::Packet;
use tests::testbed::EventLoop;

use super::*;

const PAIRS: u16 = 2;

/// A running device, with threads or without, on ports that take groups.
fn running(event_loop: bool) -> Rig {
    let config = NetConfig {
        transport_features: F::VIRTIO_F_SUSPEND,
        ..Rig::config(PAIRS)
    };
    let caps = Caps {
        coalesce: Offloads::all(),
        ..all_caps()
    };
    let builder = NetDevice::builder(config);
    let builder = match event_loop {
        true => NetDeviceBuilder::event_loop(builder),
        false => builder,
    };
    let (ports, networks) = (0..PAIRS).map(|_| port(caps)).unzip();
    let device = builder.build_on_ports(ports);
    let mut rig = Rig::over(device.expect("the device can be made"));
    rig.networks = networks;
    rig.start(F::empty());
    rig
}

/// Every way to stop or go on returns, and a suspension says each time that a worker is lost.
fn check_answers(rig: &mut Rig) {
    let shown = rig.read::<28>(0);
    for _ in 0..2 {
        let refused = rig.device.suspend();
        assert!(matches!(refused, Err(SuspendError::Lost(_))), "{refused:?}");
        assert!(rig.device.needs_reset());
        rig.device.pause().expect("what is left is paused");
        rig.device.resume().expect("it is stopped all the same");
    }
    assert_eq!((rig.read::<28>(0), rig.irq.config()), (shown, 1));
}

/// A group that could not leave is sent at the last moment, by a backend that panics.
#[test]
fn a_pair_that_is_lost_in_a_suspension_is_an_error_and_no_hang_dev_life_04() {
    for event_loop in [false, true] {
        bounded("the suspension", move || {
            let mut rig = running(event_loop);
            rig.networks[0].set_full(true);
            for number in 0..5 {
                let packet = Packet::udp(&[0; 80]).after(number, &[0; 80]);
                let pieces = rig.memory.cut(&packet.bytes(), &[]);
                rig.queue(1).ring.add(&pieces);
            }
            rig.queue(1).publish();
            for worker in rig.device.event_workers() {
                let _ = worker.turn();
            }
            while rig.device.handle().queue_states()[1].waits_for != WaitsFor::Network {
                std::thread::yield_now();
            }
            assert!(!rig.device.needs_reset());
            rig.networks[0].panic_next();
            check_answers(&mut rig);
            assert!(rig.device.unsuspend().is_err());
            assert!(rig.device.unsuspend().is_err());
            assert_eq!(rig.irq.config(), 1);
            // Its port went with it: the driver's next device is another one.
            assert!(rig.device.reset().is_some());
            assert_eq!(rig.device.lifecycle(), Lifecycle::Failed);
            assert!(rig.device.needs_reset() && !rig.device.is_suspended());
            let failed = rig.device.suspend();
            assert!(matches!(failed, Err(SuspendError::NotNegotiated)));
            let mut next = rig.move_to(Rig::running(F::empty()));
            next.device.reset();
            next.start(F::empty());
            check_traffic(&mut next, 1);
        });
    }
}

/// A command that is under way panics. No port belongs to the control queue.
#[test]
fn a_reset_brings_a_device_back_that_lost_its_control_worker_dev_life_04() {
    for (event_loop, paused) in [(false, false), (false, true), (true, false), (true, true)] {
        bounded("the suspension", move || {
            let mut rig = running(event_loop);
            let _loop = EventLoop::drive(rig.device.event_workers());
            rig.networks[1].panic_at_change();
            let command = [4, 0, PAIRS as u8, 0];
            let pieces = [rig.memory.filled(&command), rig.memory.room(1)];
            rig.queue(4).post(&pieces);
            rig.irq.wait_config(1);
            if paused {
                check_answers(&mut rig);
            }
            assert!(rig.device.reset().is_some());
            assert!(!rig.device.needs_reset());
            rig.start(F::empty());
            let _loop = EventLoop::drive(rig.device.event_workers());
            check_traffic(&mut rig, 1);
            assert_eq!(rig.raw_command(&command), 0);
            rig.device.suspend().expect("all workers are there");
        });
    }
}
