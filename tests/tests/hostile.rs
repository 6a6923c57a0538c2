//! Drivers that break the rules, as far as they meet the device. What a ring alone can be made to
//! do is shown where the rings are. Every test ends with [`Rig::end`]: a snapshot restores, or the
//! device shows NEEDS_RESET.

use net_device::{Features, QueueError, QueueSetup, StartQueueError, VirtioDevice};
use net_queue::testing::{At, PackedFields, Piece, Random, RawDesc, Shape, SplitFields};
use tests::testbed::{PEER_MAC, RINGS, Rig, body, break_ring, frame, frame_to, pause, resume};

#[path = "hostile/memory_change.rs"]
mod memory_change;

type F = Features;

/// A driver of split rings.
fn split() -> Rig {
    Rig::running(F::VIRTIO_F_RING_PACKED)
}

/// The device is broken as the specification wants it, can be stopped at once, and works after a
/// reset.
fn check_fault(mut rig: Rig) {
    rig.irq.wait_config(1);
    assert!(rig.device.needs_reset(), "DEV-LIFE-04");
    pause(&mut rig);
    assert_eq!(rig.irq.config(), 1, "it is told once (DEV-LIFE-05)");
    drop(rig.restored());
    resume(&mut rig);
    rig.device.reset();
    rig.start(F::empty());
    check_traffic(&mut rig);
    rig.end();
}

fn check_traffic(rig: &mut Rig) {
    rig.send(0, &frame(100, 1));
    assert_eq!(body(&rig.networks[0].wait_sent(1)[0]), body(&frame(100, 1)));
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, 2));
    assert_eq!(body(&rig.receive(0, 1)[0]), body(&frame(90, 2)));
    assert_eq!(rig.command(0, 1, &[0]), 0);
}

#[test]
fn queue_regs_after_driver_ok_change_nothing() {
    let mut rig = split();
    let good = |rig: &Rig, index| rig.queues[&index].setup();
    for index in 0..3 {
        for size in [0, 1, 64, 256, 32768] {
            for desc in [0, 0x2_0000, u64::MAX] {
                let mut setup = QueueSetup {
                    size,
                    ..good(&rig, index)
                };
                setup.addrs.desc = desc;
                assert!(rig.device.start_queue(setup).is_err());
            }
        }
        let setup = good(&rig, index);
        let again = rig.device.start_queue(setup);
        assert!(
            matches!(again, Err(StartQueueError::Queue(QueueError::Running(_)))),
            "{again:?}"
        );
        assert!(
            rig.try_activate(vec![good(&rig, 0), good(&rig, 1)])
                .is_err()
        );
        check_traffic(&mut rig);
    }
    rig.end();
}

#[test]
fn kick_before_setup_is_ignored_vq_ntf_05_dev_life_10() {
    let mut rig = Rig::new(Rig::config(1));
    rig.negotiate(F::empty());
    rig.lay_out(64);
    for index in 0..3 {
        rig.queue(index).kick();
    }
    rig.queues.remove(&2);
    rig.activate();
    check_half(&mut rig);
    // A queue that was stopped may be kicked, too.
    let cursor = rig.device.stop_queue(1).expect("it runs").expect("it ran");
    rig.queue(1).kick();
    let setup = rig.queues[&1].setup_at(cursor);
    rig.device.start_queue(setup).expect("where it stood");
    check_half(&mut rig);
    rig.end();
}

fn check_half(rig: &mut Rig) {
    rig.send(0, &frame(100, 1));
    assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, 2));
    assert_eq!(rig.receive(0, 1).len(), 1);
}

#[test]
fn bad_queue_number_is_an_error_without_effect() {
    let mut rig = split();
    for index in (3..20).chain([0x100, 0x7fff, 0xffff]) {
        let config = rig.ring_config(16);
        let queue = tests::testbed::Queue::new(&rig.memory, index, config);
        let refused = rig.device.start_queue(queue.setup());
        assert!(
            matches!(refused, Err(StartQueueError::Queue(QueueError::Index(_)))),
            "{refused:?}"
        );
        assert!(rig.device.stop_queue(index).is_err());
    }
    check_traffic(&mut rig);
    rig.end();
}

#[test]
fn avail_jump_ends_in_needs_reset_vq_spl_11_dev_life_05() {
    for index in 0..3 {
        let mut rig = split();
        break_ring(&mut rig, index);
        check_fault(rig);
    }
    // Backwards.
    for index in 1..3 {
        let mut rig = split();
        check_traffic(&mut rig);
        let fields = SplitFields::of(&rig.queues[&index].ring.config());
        let now: u16 = rig.memory.load(fields.avail_idx());
        rig.memory.store(fields.avail_idx(), now.wrapping_sub(1));
        rig.queue(index).kick();
        check_fault(rig);
    }
}

#[test]
fn circular_chain_ends_in_needs_reset_vq_spl_10() {
    for index in 0..3 {
        for cycle in [1, 2] {
            let mut rig = split();
            let piece = match index {
                0 => rig.memory.room(64),
                _ => Piece::readable(rig.memory.alloc(16, 1), 16),
            };
            let mut first = 0;
            let queue = rig.queue(index);
            let config = queue.ring.config();
            queue.ring.add(&vec![piece; cycle]);
            // The last descriptor leads back to the head.
            let fields = SplitFields::of(&config);
            let memory = rig.memory.clone();
            first += memory.load::<u16>(fields.avail_element(0));
            let mut at = first;
            for _ in 1..cycle {
                at = memory.load(fields.desc(at) + 14);
            }
            let flags: u16 = memory.load(fields.desc(at) + 12);
            memory.store(fields.desc(at) + 14, first);
            memory.store(fields.desc(at) + 12, flags | RawDesc::NEXT);
            rig.queue(index).publish();
            check_fault(rig);
        }
    }
}

#[test]
fn head_out_of_range_ends_in_needs_reset_vq_spl_10() {
    for head in [64, 0x7fff, 0xffff] {
        let mut rig = split();
        let fields = SplitFields::of(&rig.queues[&1].ring.config());
        rig.memory.store(fields.avail_element(0), head as u16);
        rig.memory.store(fields.avail_idx(), 1u16);
        rig.queue(1).kick();
        check_fault(rig);
    }
}

#[test]
fn one_broken_queue_leaves_the_others_running_net_tx_14() {
    let mut rig = split();
    break_ring(&mut rig, 1);
    rig.irq.wait_config(1);
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, 2));
    assert_eq!(rig.receive(0, 1).len(), 1);
    assert_eq!(rig.command(0, 0, &[1]), 0);
    rig.end();
}

#[test]
fn chains_that_cannot_be_used_come_back_and_the_next_ones_work() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        let wild = [0, 0x1_0000_0000 - 10, u64::MAX, u64::MAX - 99, 0x9000_0000];
        let mut given = 0;
        for addr in wild {
            rig.queue(1).ring.add(&[Piece::readable(addr, 200)]);
            let room = rig.memory.room(2048);
            rig.queue(1).ring.add(&[room]);
            rig.queue(0).ring.add(&[Piece::writable(addr, 200)]);
            let bytes = rig.memory.filled(&frame(60, 1));
            rig.queue(0)
                .ring
                .add(&[bytes, Piece::writable(addr, u32::MAX)]);
            given += 2;
        }
        rig.queue(0).publish();
        rig.queue(1).publish();
        let mut back = 0;
        while back < given {
            back += rig
                .wait_used(1, 1)
                .iter()
                .map(|used| 1 + used.len as usize)
                .sum::<usize>();
        }
        // The receive queue gives its own back when it fills its pool.
        check_traffic_after(&mut rig, given);
        assert!(!rig.device.needs_reset());
        rig.end();
    }
}

fn check_traffic_after(rig: &mut Rig, returned: usize) {
    rig.post(0, &[2048]);
    rig.networks[0].wire.inject(frame(90, 2));
    let mut used = Vec::new();
    while used.len() < returned + 1 {
        used.extend(rig.wait_used(0, 1));
    }
    let last = used.pop().expect("the good one");
    assert!(used.iter().all(|used| used.len == 0));
    let bytes = rig.queues[&0].ring.bytes(&last);
    assert_eq!(body(&bytes), body(&frame(90, 2)));
}

#[test]
fn endless_rx_leaves_time_for_commands_the_other_direction_and_a_stop() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        rig.networks[0].set_endless(true);
        for round in 0..30 {
            rig.post(0, &[256; 16]);
            rig.send(0, &frame(60, round));
            assert_eq!(
                body(&rig.networks[0].wait_sent(1)[0]),
                body(&frame(60, round))
            );
            rig.wait_used(1, 1);
            assert_eq!(rig.command(0, 1, &[0]), 0);
            assert_eq!(rig.receive(0, 16).len(), 16);
        }
        rig.end();
    }
}

#[test]
fn endless_rx_of_frames_that_nobody_wants_leaves_time_too() {
    let mut rig = Rig::running(F::empty());
    assert_eq!(rig.command(0, 4, &[1]), 0, "no unicast");
    rig.post(0, &[256; 16]);
    rig.networks[0].set_endless(true);
    // Every one of them is dropped, so the buffers last for ever.
    rig.networks[0].wire.inject(frame_to(PEER_MAC, 60, 1));
    for round in 0..30 {
        rig.send(0, &frame(60, round));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        rig.wait_used(1, 1);
        assert_eq!(rig.command(0, 1, &[0]), 0);
        pause(&mut rig);
        resume(&mut rig);
    }
    assert!(rig.counter("rx_drop_filtered") > 0);
    assert!(rig.queue(0).ring.poll_all().is_empty());
    rig.end();
}

#[test]
fn endless_tx_leaves_time_for_reception_and_a_stop() {
    let mut rig = split();
    // One frame that is available again and again: the driver counts without looking.
    let piece = rig.memory.filled(&frame(60, 1));
    let queue = rig.queue(1);
    let config = queue.ring.config();
    queue.ring.add(&[piece]);
    let memory = rig.memory.clone();
    let fields = SplitFields::of(&config);
    let head: u16 = memory.load(fields.avail_element(0));
    for slot in 0..config.size {
        memory.store(fields.avail_element(slot), head);
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let queue = rig.queues.remove(&1).expect("it was laid out");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // As far ahead as the ring allows.
                let used: u16 = memory.load(fields.used_idx());
                memory.store(fields.avail_idx(), used.wrapping_add(config.size));
                queue.kick();
            }
        });
        for round in 0..30 {
            rig.post(0, &[256]);
            rig.networks[0].wire.inject(frame(60, round));
            assert_eq!(rig.receive(0, 1).len(), 1);
            assert_eq!(rig.command(0, 1, &[0]), 0);
            let _ = rig.networks[0].wire.take_sent();
        }
        drop(rig.restored());
        resume(&mut rig);
        rig.device.reset();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn torn_indices_and_descriptors_that_change_meanwhile_are_survived_vq_spl_14_net_tx_11() {
    for without in RINGS {
        let mut rig = Rig::running(without);
        for round in 0..15 {
            mutate(&mut rig, round);
            // Whatever state that is: it can be saved, and reset cures it.
            drop(rig.restored());
            rig.device.reset();
            assert!(!rig.device.needs_reset());
            let _ = rig.networks[0].wire.take_sent();
            rig.start(without);
        }
        // What the storm left on the wire comes first.
        rig.networks[0].set_endless(false);
        rig.send(0, &frame(60, 1));
        assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
        rig.end();
    }
}

/// 64 heads of one chain as long as the ring (split), or slots that another CPU makes available
/// again before they were published (packed). What can be told from the latter is whatever the race
/// came to.
#[test]
fn in_order_overflow_leaves_a_device_that_can_be_saved() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        rig.negotiate(without);
        rig.lay_out(256);
        rig.activate();
        let config = rig.queues[&1].ring.config();
        let frame = rig.memory.filled(&frame(60, 1));
        match config.layout {
            net_device::Layout::Split => post_longest_chains(&mut rig, frame),
            net_device::Layout::Packed => post_laps(&mut rig, frame),
        }
        rig.end();
    }
}

fn post_longest_chains(rig: &mut Rig, first: Piece) {
    let memory = rig.memory.clone();
    let config = rig.queues[&1].ring.config();
    let fields = SplitFields::of(&config);
    for at in 0..config.size {
        memory.store(fields.desc(at), first.addr);
        let len = if at == 0 { first.len } else { 0 };
        memory.store::<u32>(fields.desc(at) + 8, len);
        memory.store(fields.desc(at) + 12, u16::from(at + 1 < config.size));
        memory.store(fields.desc(at) + 14, (at + 1) % config.size);
        memory.store::<u16>(fields.avail_element(at), 0);
    }
    for index in 1..=4 {
        memory.store::<u16>(fields.avail_idx(), 256 * index);
        rig.queue(1).kick();
        assert_eq!(rig.networks[0].wait_sent(256).len(), 256);
        pause(rig);
        resume(rig);
    }
    assert!(!rig.device.needs_reset());
}

fn post_laps(rig: &mut Rig, first: Piece) {
    let memory = rig.memory.clone();
    let config = rig.queues[&1].ring.config();
    let fields = PackedFields::of(&config);
    for lap in 0..300 {
        let available: u16 = if lap % 2 == 0 { 0x80 } else { 0x8000 };
        for slot in 0..config.size {
            memory.store(fields.desc(slot), first.addr);
            let len = if slot == 0 { first.len } else { 0 };
            memory.store::<u32>(fields.desc(slot) + 8, len);
            let more = u16::from(slot + 1 < config.size);
            memory.store(fields.desc_flags(slot), more | available);
        }
        rig.queue(1).kick();
    }
}

/// A driver that posts while another CPU scribbles over its rings.
fn mutate(rig: &mut Rig, seed: u64) {
    rig.networks[0].set_endless(true);
    let configs: Vec<_> = rig
        .queues
        .values()
        .map(|queue| queue.ring.config())
        .collect();
    let memory = rig.memory.clone();
    for index in [0, 1] {
        for number in 0..16 {
            let bytes = rig.memory.filled(&frame(200, number));
            let room = rig.memory.room(512);
            let piece = if index == 0 { room } else { bytes };
            let shape = if number % 3 == 0 {
                Shape::Indirect
            } else {
                Shape::Direct
            };
            rig.queue(index)
                .ring
                .add_with(shape, &[piece, piece], |at, desc| {
                    if number == 15 && at == At::Ring(0) {
                        desc.len = desc.len.wrapping_mul(0x0101_0101);
                    }
                });
        }
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(seed);
            for _ in 0..4000 {
                let config = &configs[random.below(3) as usize];
                let area = random.below(4);
                let (base, words) = match area {
                    0 | 1 => (config.addrs.desc, 8 * u64::from(config.size)),
                    2 => (config.addrs.driver, 2),
                    _ => (config.addrs.driver, 3 + u64::from(config.size)),
                };
                // The driver's area of a packed ring is four bytes.
                let packed = config.layout == net_device::Layout::Packed;
                let words = if packed && area > 1 { 2 } else { words };
                let value = match random.below(3) {
                    0 => random.next_u64() as u16,
                    1 => random.below(64) as u16,
                    _ => 1 << random.below(16),
                };
                memory.store(base + 2 * random.below(words), value);
            }
        });
        for _ in 0..50 {
            for index in 0..3 {
                rig.queue(index).kick();
            }
            std::thread::yield_now();
        }
    });
}
