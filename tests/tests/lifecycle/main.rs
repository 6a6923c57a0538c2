//! Activation, pause, reset, queues one by one, changing memory, and workers that fail.

mod discard;
mod memory;
mod notification;
mod ring_reset;
mod suspend;
mod suspend_load;
mod suspend_lost;
mod workers;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use net_device::net_queue::GuestRam;
use net_device::{
    ActivateError, Activation, Cursor, Features, Interrupt, NetConfig, NetDevice, QueueSetup,
    Snapshottable, VirtioDevice,
};
use net_queue::testing::TestMemory;
use tests::testbed::{
    Doorbell, Queue, RINGS, Rig, all_caps, alone, body, bounded, frame, pause, port, process,
    resume,
};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

type F = Features;

/// Both directions work.
fn check_traffic(rig: &mut Rig, seed: u64) {
    rig.send(0, &frame(100, seed));
    assert_eq!(
        body(&rig.networks[0].wait_sent(1)[0]),
        body(&frame(100, seed))
    );
    rig.wait_used(1, 1);
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, seed));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(90, seed)));
}

/// Ways to spoil queue 1 of three, by name.
fn spoilers(rig: &Rig) -> Vec<(String, QueueSetup)> {
    let good = || rig.queues[&1].setup();
    let [first, second, third] = rig.memory.regions();
    let end = third.0 + third.1 as u64;
    let hole = second.0 + second.1 as u64;
    let mut bad: Vec<(String, QueueSetup)> = Vec::new();
    for addr in [hole, end, end - 16, !15, 0] {
        for area in 0..3 {
            let mut setup = good();
            let addrs = &mut setup.addrs;
            *[&mut addrs.desc, &mut addrs.driver, &mut addrs.device][area] = addr;
            bad.push((format!("area {area} at {addr:#x}"), setup));
        }
    }
    // One piece for the guest, two for the host.
    let mut setup = good();
    setup.addrs.desc = first.0 + first.1 as u64 - 16;
    bad.push(("straddling two regions".to_owned(), setup));
    for (area, off) in [(0, 1), (0, 8), (1, 1), (2, 1), (2, 2)] {
        let mut setup = good();
        let addrs = &mut setup.addrs;
        *[&mut addrs.desc, &mut addrs.driver, &mut addrs.device][area] += off;
        bad.push((format!("area {area} off by {off}"), setup));
    }
    for size in [0, 3, 100, 257, 512, 32768, 65535] {
        bad.push((format!("size {size}"), QueueSetup { size, ..good() }));
    }
    let cursor = Cursor {
        avail: 100,
        ..Cursor::default()
    };
    bad.push(("cursor".to_owned(), QueueSetup { cursor, ..good() }));
    let kick: OwnedFd = File::open("/proc/self/maps").expect("it is there").into();
    bad.push(("kick".to_owned(), QueueSetup { kick, ..good() }));
    for index in [3, 7, 0x100, 0xffff] {
        bad.push((format!("index {index}"), QueueSetup { index, ..good() }));
    }
    bad.push(("twice".to_owned(), QueueSetup { index: 0, ..good() }));
    bad
}

#[test]
fn ring_outside_memory_and_other_failures_leave_nothing_started_vq_spl_01_02() {
    alone(|| {
        let mut rig = Rig::new(Rig::config(1));
        let split = F::VIRTIO_F_RING_PACKED;
        rig.negotiate(split);
        rig.lay_out(16);
        let count = spoilers(&rig).len();
        let fds = process::open_fds();
        for at in 0..count {
            let (name, setup) = spoilers(&rig).remove(at);
            // In the middle, so that a queue before it was put in already.
            let queues = vec![rig.queues[&0].setup(), rig.queues[&2].setup(), setup];
            let told = rig.irq.config();
            let refused = match rig.try_activate(queues) {
                // Fewer than one pair, or one queue twice: the missing one is what it says.
                Err(error) => tests::testbed::chain(&error),
                Ok(()) => panic!("{name} was accepted"),
            };
            println!("{name}: {refused}");
            process::await_threads("net_", 0);
            assert_eq!(process::open_fds(), fds, "{name}");
            // The driver learns of it (DEV-LIFE-05), and of nothing else.
            assert!(rig.device.needs_reset(), "{name}");
            assert_eq!(rig.irq.config(), told + 1, "{name}");
            assert_eq!(rig.irq.all(), told + 1, "{name}");
            let again = rig.try_activate(rig.setups());
            assert!(matches!(again, Err(ActivateError::NeedsReset)), "{again:?}");
            rig.device.reset();
            rig.negotiate(split);
        }
        rig.activate();
        check_traffic(&mut rig, 1);
    });
}

#[test]
fn a_driver_without_a_pair_of_queues_is_refused() {
    let mut rig = Rig::new(Rig::config(2));
    rig.negotiate(F::empty());
    rig.lay_out(16);
    for missing in [0, 1] {
        let queues = rig.queues.iter().filter(|(index, _)| **index != missing);
        let queues = queues.map(|(_, queue)| queue.setup()).collect();
        let refused = rig.try_activate(queues);
        assert!(matches!(refused, Err(ActivateError::Queues)), "{refused:?}");
        rig.device.reset();
        rig.negotiate(F::empty());
    }
    // The other pair and the control queue may stay out.
    rig.queues.retain(|index, _| *index < 2);
    rig.activate();
    check_traffic(&mut rig, 1);
}

#[test]
fn a_queue_that_cannot_be_started_leaves_the_others_alone() {
    let mut rig = Rig::new(Rig::config(1));
    rig.negotiate(F::VIRTIO_F_RING_PACKED);
    rig.lay_out(16);
    rig.activate();
    let cursor = rig.device.stop_queue(1).expect("it runs").expect("it ran");
    let count = spoilers(&rig).len();
    for at in 0..count {
        let (name, setup) = spoilers(&rig).remove(at);
        let refused = rig.device.start_queue(setup);
        assert!(refused.is_err(), "{name}");
        rig.post(0, &[2048]);
        rig.networks[0].wire.inject(frame(90, at as u64));
        assert_eq!(rig.receive(0, 1).len(), 1, "{name}");
    }
    assert!(!rig.device.needs_reset());
    let setup = rig.queues[&1].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    check_traffic(&mut rig, 1);
}

#[test]
fn a_device_is_activated_once() {
    let mut rig = Rig::running(F::empty());
    let again = rig.try_activate(rig.setups());
    assert!(matches!(again, Err(ActivateError::State(_))), "{again:?}");
    check_traffic(&mut rig, 1);
}

#[test]
fn a_pause_stops_everything_and_resume_goes_on_where_it_was() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        check_traffic(&mut rig, 0);
        for round in 1..20 {
            rig.post(0, &[2048; 3]);
            pause(&mut rig);
            pause(&mut rig);
            for number in 0..3 {
                rig.send(0, &frame(60, number));
                rig.networks[0].wire.inject(frame(70, number));
            }
            for index in 0..3 {
                rig.queue(index).kick();
            }
            assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
            assert_eq!(rig.networks[0].wire.waiting(), 3);
            resume(&mut rig);
            resume(&mut rig);
            let sent = rig.networks[0].wait_sent(3);
            for (number, bytes) in (0..).zip(&sent) {
                assert_eq!(body(bytes), body(&frame(60, number)), "round {round}");
            }
            let mut used = 0;
            while used < 3 {
                used += rig.wait_used(1, 1).len();
            }
            for (number, bytes) in (0..).zip(rig.receive(0, 3)) {
                assert_eq!(body(&bytes), body(&frame(70, number)), "round {round}");
            }
        }
    }
}

#[test]
fn resume_interrupts_every_queue_once_and_counts_as_a_kick() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(2));
        rig.start(without);
        pause(&mut rig);
        let before: Vec<usize> = (0..5).map(|index| rig.irq.queue(index)).collect();
        // A kick that got lost: the device must look by itself.
        let lost = frame(60, 7);
        let piece = rig.memory.filled(&lost);
        rig.queue(1).ring.ask(net_queue::testing::Interrupts::Never);
        rig.queue(1).ring.add(&[piece]);
        rig.queue(1).ring.publish();
        resume(&mut rig);
        assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&lost));
        let irq = rig.irq.clone();
        let more = || (0..5).all(|index| irq.queue(index) > before[usize::from(index)]);
        irq.wait_until("an interrupt of each queue", more);
        pause(&mut rig);
        for index in 0..5 {
            let count = rig.irq.queue(index) - before[usize::from(index)];
            assert_eq!(count, 1, "queue {index}");
        }
    }
}

#[test]
fn pause_and_resume_of_a_device_without_a_driver_do_nothing() {
    let mut rig = Rig::new(Rig::config(1));
    resume(&mut rig);
    pause(&mut rig);
    resume(&mut rig);
    rig.start(F::empty());
    check_traffic(&mut rig, 1);
}

/// Everything the memory holds, region by region.
fn dump(memory: &TestMemory) -> Vec<Vec<u8>> {
    let regions = memory.regions();
    regions
        .iter()
        .map(|(addr, len)| memory.read(*addr, *len))
        .collect()
}

#[test]
fn after_a_reset_under_load_nothing_is_touched_dev_life_01_02() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        rig.networks[0].set_endless(true);
        rig.post(0, &[256; 64]);
        for number in 0..60 {
            rig.send(0, &frame(60, number));
        }
        rig.receive(0, 1);
        let interrupt = rig.device.reset().expect("it had one");
        let mine = rig.irq.clone() as Arc<dyn Interrupt>;
        assert!(Arc::ptr_eq(&interrupt, &mine));
        // Nobody is left who could use either.
        drop((interrupt, mine));
        assert_eq!(Arc::strong_count(&rig.irq), 1, "a worker has the interrupt");
        let irqs = rig.irq.all();
        let (before, receives) = (dump(&rig.memory), rig.networks[0].receives());
        for index in 0..3 {
            rig.queue(index).kick();
        }
        rig.networks[0].wire.inject(frame(60, 1));
        rig.device.set_link(false);
        rig.device.set_link(true);
        assert_eq!(rig.irq.all(), irqs);
        assert!(
            dump(&rig.memory) == before,
            "memory was written after the reset"
        );
        assert_eq!(rig.networks[0].receives(), receives);
    }
}

#[test]
fn queues_start_and_stop_one_by_one_dev_life_11_12_13_14() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        rig.negotiate(without);
        let activation = rig.activation(Vec::new());
        rig.device.activate(activation).expect("queues come later");
        rig.lay_out(32);
        for index in [1, 2, 0] {
            let setup = rig.queues[&index].setup();
            rig.device.start_queue(setup).expect("it can be used");
        }
        for (round, size) in (0..).zip([16, 64, 8, 32]) {
            check_traffic(&mut rig, round);
            assert_eq!(rig.command(0, 0, &[1]), 0);
            for index in [1, 0, 2] {
                // What is posted stays, and goes on from the cursor.
                if index == 0 {
                    rig.post(0, &[2048; 3]);
                }
                let cursor = rig.device.stop_queue(index).expect("it runs");
                let cursor = cursor.expect("it ran");
                assert_eq!(rig.device.stop_queue(index).expect("again"), None);
                let setup = rig.queues[&index].setup_at(cursor);
                rig.device.start_queue(setup).expect("where it stood");
                if index == 0 {
                    for number in 0..3 {
                        rig.networks[0].wire.inject(frame(60, number));
                    }
                    assert_eq!(rig.receive(0, 3).len(), 3);
                }
            }
            // A queue reset: elsewhere, of another size, from the start.
            for index in 0..3 {
                rig.device.stop_queue(index).expect("it runs");
                let queue = Queue::new(&rig.memory, index, rig.ring_config(size));
                rig.device.start_queue(queue.setup()).expect("a fresh ring");
                rig.queues.insert(index, queue);
            }
        }
        check_traffic(&mut rig, 9);
    }
}

#[test]
fn a_stopped_queue_is_not_touched_while_the_others_run_dev_life_11() {
    let mut rig = Rig::running(F::empty());
    rig.device.stop_queue(1).expect("it runs");
    rig.send(0, &frame(60, 1));
    rig.queue(1).kick();
    rig.post(0, &[2048; 20]);
    for number in 0..20 {
        rig.networks[0].wire.inject(frame(60, number));
    }
    assert_eq!(rig.receive(0, 20).len(), 20);
    pause(&mut rig);
    assert!(rig.queue(1).ring.poll_all().is_empty());
    assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
}

#[test]
fn needs_reset_is_cleared_by_reset_alone_dev_life_04() {
    let mut rig = Rig::running(F::VIRTIO_F_RING_PACKED);
    tests::testbed::break_ring(&mut rig, 1);
    rig.irq.wait_config(1);
    for _ in 0..2 {
        pause(&mut rig);
        assert!(rig.device.needs_reset());
        resume(&mut rig);
        assert!(rig.device.needs_reset());
    }
    rig.device.reset();
    assert!(!rig.device.needs_reset());
    rig.start(F::empty());
    check_traffic(&mut rig, 1);
}

#[test]
fn one_port_for_each_pair_is_needed() {
    for count in [0, 1, 3] {
        let ports = (0..count).map(|_| port(all_caps()).0).collect();
        assert!(NetDevice::from_ports(Rig::config(2), ports).is_err());
    }
}
