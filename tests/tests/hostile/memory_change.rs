//! Guest memory that changes under a driver that broke a ring, and a change that fails.

use std::sync::{Arc, Weak};

use net_device::net_queue::GuestRam;
use net_device::{
    Activation, Features, MemoryChangeError, QueueError, Snapshottable, StartQueueError,
    VirtioDevice,
};
use net_queue::testing::{Piece, RawDesc, Shape};
use snapshot::Snapshot;
use tests::testbed::{RINGS, Rig, chain, frame, pause, resume};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::check_traffic;

type F = Features;

/// The rig's memory once more, as a mapping of its own that can be seen to end.
fn view(rig: &Rig) -> (GuestRam, Weak<dyn Send + Sync>) {
    let mapping = Arc::new((**rig.memory.mmap()).clone());
    let weak = Arc::downgrade(&mapping) as Weak<dyn Send + Sync>;
    (GuestRam::new(mapping).expect("it is mapped"), weak)
}

/// A device with two pairs that runs in the memory that is returned.
fn running(without: Features) -> (Rig, Weak<dyn Send + Sync>) {
    let mut rig = Rig::new(Rig::config(2));
    rig.negotiate(without);
    rig.lay_out(64);
    let (memory, weak) = view(&rig);
    let activation = Activation {
        memory,
        ..rig.activation(rig.setups())
    };
    rig.device.activate(activation).expect("it can be used");
    assert_eq!(rig.command(4, 0, &[2, 0]), 0, "both pairs receive");
    (rig, weak)
}

/// The VMM hands in the same memory, mapped once more.
fn change_memory(rig: &mut Rig) -> Weak<dyn Send + Sync> {
    let (ram, weak) = view(rig);
    rig.device.set_memory(ram).expect("the same rings");
    weak
}

/// Breaks the ring of queue `index`, of either layout, behind one chain that was used. The next
/// chain that is added hides what was wrong.
fn break_any(rig: &mut Rig, index: u16) {
    match index {
        4 => assert_eq!(rig.command(0, 0, &[1]), 0),
        _ if index % 2 == 1 => {
            rig.send(index / 2, &frame(60, 1));
            let _ = rig.networks[usize::from(index / 2)].wait_sent(1);
            rig.wait_used(index, 1);
        }
        _ => {
            rig.post(index / 2, &[2048]);
            let wire = &rig.networks[usize::from(index / 2)].wire;
            wire.inject(frame(60, 1));
            rig.receive(index / 2, 1);
        }
    }
    if !rig.accepted().contains(F::VIRTIO_F_RING_PACKED) {
        return tests::testbed::break_ring(rig, index);
    }
    let piece = match index {
        0 | 2 => rig.memory.room(2048),
        _ => Piece::readable(rig.memory.alloc(16, 1), 16),
    };
    // The list goes on in a descriptor that is not there.
    let ring = &mut rig.queue(index).ring;
    ring.add_with(Shape::Direct, &[piece], |_, desc| {
        desc.flags |= RawDesc::NEXT;
    });
    rig.queue(index).publish();
    rig.queue(index).kick();
}

/// Gives queue `index`, whose ring was broken, work that it could do. Asserts that it does none.
fn check_halted(rig: &mut Rig, index: u16, what: &str) {
    let pair = usize::from(index / 2);
    let bytes = match index {
        4 => vec![0, 0, 1],
        _ => frame(60, 9),
    };
    let pieces = match index {
        0 | 2 => vec![rig.memory.room(2048)],
        4 => vec![rig.memory.filled(&bytes), rig.memory.room(1)],
        _ => vec![rig.memory.filled(&bytes)],
    };
    let queue = rig.queue(index);
    queue.ring.add(&pieces);
    queue.ring.publish();
    queue.kick();
    if index < 4 {
        rig.networks[pair].wire.inject(frame(60, 9));
        assert!(rig.networks[pair].wire.take_sent().is_empty(), "{what}");
    }
    // A run and a stop: what there was to do has been done then.
    pause(rig);
    resume(rig);
    pause(rig);
    let used = rig.queue(index).ring.poll_all();
    assert!(used.is_empty(), "queue {index} ran {what}: {used:?}");
    if index < 4 {
        assert!(rig.networks[pair].wire.take_sent().is_empty(), "{what}");
    }
    resume(rig);
    assert!(rig.device.needs_reset(), "{what}");
}

#[test]
fn fault_outlives_memory_change() {
    for without in RINGS {
        for index in 0..5 {
            let (mut rig, mut old) = running(without);
            break_any(&mut rig, index);
            rig.irq.wait_config(1);
            for paused in [false, true] {
                if paused {
                    pause(&mut rig);
                }
                let new = change_memory(&mut rig);
                assert!(old.upgrade().is_none(), "the old mapping is still held");
                old = new;
                if paused {
                    resume(&mut rig);
                }
                check_halted(&mut rig, index, "after the memory changed");
            }
            // The other pair is not touched by that.
            let other = (index / 2 + 1) % 2;
            rig.send(other, &frame(60, 5));
            assert!(!rig.networks[usize::from(other)].wait_sent(1).is_empty());
            drop(rig.restored());
            rig.device.reset();
            rig.queues.clear();
            let _ = rig.networks[0].wire.take_sent();
            assert!(!rig.device.needs_reset());
        }
    }
}

#[test]
fn fault_outlives_stops_and_starts_of_queues() {
    for without in RINGS {
        for index in 0..5 {
            let (mut rig, _) = running(without);
            break_any(&mut rig, index);
            rig.irq.wait_config(1);
            for other in (0..5).filter(|other| *other != index) {
                let cursor = rig.device.stop_queue(other).expect("it is there");
                let setup = rig.queues[&other].setup_at(cursor.expect("it ran"));
                rig.device.start_queue(setup).expect("where it stood");
            }
            check_halted(&mut rig, index, "after others were stopped");
            for round in 0..2 {
                let cursor = rig.device.stop_queue(index).expect("it is there");
                let cursor = cursor.expect("it was started");
                assert_eq!(rig.device.stop_queue(index).expect("again"), None);
                let setup = || rig.queues[&index].setup_at(cursor);
                rig.device.start_queue(setup()).expect("it stands still");
                let again = rig.device.start_queue(setup());
                assert!(
                    matches!(again, Err(StartQueueError::Queue(QueueError::Running(_)))),
                    "{again:?}"
                );
                if round == 1 {
                    change_memory(&mut rig);
                }
                check_halted(&mut rig, index, "after it was started where it stood");
            }
            rig.end();
        }
    }
}

#[test]
fn a_queue_that_starts_from_the_beginning_is_not_the_broken_one_dev_life_12() {
    for without in RINGS {
        for index in 0..5 {
            for memory_changes in [false, true] {
                let (mut rig, _) = running(without);
                break_any(&mut rig, index);
                rig.irq.wait_config(1);
                if memory_changes {
                    change_memory(&mut rig);
                }
                rig.device.stop_queue(index).expect("it is there");
                let fresh = tests::testbed::Queue::new(&rig.memory, index, rig.ring_config(16));
                rig.device.start_queue(fresh.setup()).expect("a new ring");
                rig.queues.insert(index, fresh);
                match index {
                    4 => assert_eq!(rig.command(0, 1, &[0]), 0),
                    1 | 3 => {
                        rig.send(index / 2, &frame(60, 5));
                        let network = &rig.networks[usize::from(index / 2)];
                        assert_eq!(network.wait_sent(1).len(), 1);
                    }
                    _ => {
                        rig.post(index / 2, &[2048]);
                        let network = &rig.networks[usize::from(index / 2)];
                        network.wire.inject(frame(60, 5));
                        assert_eq!(rig.receive(index / 2, 1).len(), 1);
                    }
                }
                assert!(rig.device.needs_reset(), "the device was told of nothing");
                rig.end();
            }
        }
    }
}

#[test]
fn fault_outlives_a_snapshot() {
    for without in RINGS {
        for index in 0..5 {
            let (mut rig, _) = running(without);
            break_any(&mut rig, index);
            rig.irq.wait_config(1);
            change_memory(&mut rig);
            pause(&mut rig);
            let first = rig.device.snapshot().expect("it is paused");
            let state = first.open().expect("it was just sealed");
            assert!(state.needs_reset);
            let indices: Vec<u16> = state.queues.iter().map(|queue| queue.index).collect();
            assert_eq!(indices, [0, 1, 2, 3, 4], "what stands still is saved too");
            let mut next = Rig::new(Rig::config(2));
            let bytes = first.into_bytes();
            let moved = Snapshot::read_from(&mut &bytes[..]).expect("it is whole");
            if let Err(error) = next.device.restore(moved) {
                panic!("{}", chain(&error));
            }
            let mut rig = rig.move_to(next);
            rig.activate();
            assert!(rig.device.needs_reset());
            resume(&mut rig);
            rig.irq.wait_config(1);
            for index in 0..5 {
                check_halted(&mut rig, index, "after a restore");
            }
            change_memory(&mut rig);
            check_halted(&mut rig, index, "after a restore and a change of memory");
            // It moves on as it is, and a reset cures it.
            pause(&mut rig);
            let again = rig.device.snapshot().expect("it is paused").open();
            assert_eq!(again.expect("it was just sealed").queues, state.queues);
            rig.device.reset();
            assert!(!rig.device.needs_reset());
            rig.queues.clear();
            let left: Vec<_> = rig
                .networks
                .iter()
                .map(|port| port.wire.waiting())
                .collect();
            rig.start(without);
            rig.post(0, &[2048; 16]);
            assert_eq!(rig.receive(0, left[0]).len(), left[0]);
            check_traffic(&mut rig);
        }
    }
}

/// The memory of `rig` but for the start of the descriptor table of queue `index`.
fn without_ring(rig: &Rig, index: u16) -> (GuestRam, Weak<dyn Send + Sync>) {
    let hole = rig.queues[&index].ring.config().addrs.desc;
    let mut ranges = Vec::new();
    for (start, len) in rig.memory.regions() {
        let end = start + len as u64;
        if (start..end).contains(&hole) {
            ranges.push((start, hole - start));
            ranges.push((hole + 16, end - hole - 16));
        } else {
            ranges.push((start, end - start));
        }
    }
    let ranges: Vec<_> = ranges
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .map(|(start, len)| (GuestAddress(start), len as usize))
        .collect();
    let mapping = Arc::new(GuestMemoryMmap::<()>::from_ranges(&ranges).expect("it can be mapped"));
    let weak = Arc::downgrade(&mapping) as Weak<dyn Send + Sync>;
    (GuestRam::new(mapping).expect("it is mapped"), weak)
}

#[test]
fn failed_memory_change() {
    for without in RINGS {
        for index in 0..5 {
            for paused in [false, true] {
                let (mut rig, old) = running(without);
                if paused {
                    pause(&mut rig);
                }
                let (ram, new) = without_ring(&rig, index);
                let error = rig.device.set_memory(ram).expect_err("a ring is missing");
                assert!(
                    matches!(error, MemoryChangeError::Queue(QueueError::Ring { .. })),
                    "{error:?}"
                );
                assert!(old.upgrade().is_none(), "the old mapping is still held");
                assert!(new.upgrade().is_none(), "the new mapping is still held");
                assert!(rig.device.needs_reset());
                rig.irq.wait_config(1);
                check_stranded(&mut rig);
                let interrupt = rig.device.reset().expect("it had one");
                drop(interrupt);
                assert!(!rig.device.needs_reset());
                rig.queues.clear();
                rig.start(without);
                // What waited meanwhile.
                rig.post(0, &[2048]);
                rig.receive(0, 1);
                check_traffic(&mut rig);
            }
        }
    }
}

/// Every queue has work, none does it, and every call says why.
fn check_stranded(rig: &mut Rig) {
    for pair in 0..2 {
        rig.networks[usize::from(pair)].wire.inject(frame(60, 1));
        let pieces = [rig.memory.filled(&frame(60, 2))];
        rig.queue(2 * pair + 1).ring.add(&pieces);
        let pieces = [rig.memory.room(2048)];
        rig.queue(2 * pair).ring.add(&pieces);
    }
    let mut said = Vec::new();
    for index in 0..5 {
        rig.queue(index).ring.publish();
        rig.queue(index).kick();
        let again = rig.device.start_queue(rig.queues[&index].setup());
        said.push(chain(&again.expect_err("it is to be reset")));
        let stopped = rig.device.stop_queue(index);
        said.push(chain(&stopped.expect_err("it is to be reset")));
    }
    rig.device.pause().expect("nothing runs");
    said.push(chain(&rig.device.snapshot().expect_err("no state")));
    said.push(chain(&rig.device.resume().expect_err("nothing can run")));
    let (ram, _) = view(rig);
    let memory = rig.device.set_memory(ram);
    said.push(chain(&memory.expect_err("it is to be reset")));
    let again = rig.try_activate(rig.setups());
    said.push(chain(&again.expect_err("it is to be reset")));
    for text in said {
        assert!(text.contains("needs a reset"), "{text}");
        assert!(text.contains("ring area"), "the reason: {text}");
    }
    // What has nothing to do with queues goes on.
    rig.device.set_limits(None, None).expect("as ever");
    let told = rig.irq.config();
    rig.device.set_link(false);
    rig.device.set_link(true);
    assert_eq!(rig.irq.config(), told + 2);
    for (pair, network) in (0..).zip(&rig.networks) {
        assert_eq!(network.wire.waiting(), 1, "pair {pair} received");
        assert!(network.wire.take_sent().is_empty(), "pair {pair} sent");
    }
    for index in 0..5 {
        assert!(rig.queue(index).ring.poll_all().is_empty());
    }
}

#[test]
fn a_memory_change_after_a_worker_was_lost_leaves_no_mapping_behind() {
    let (mut rig, old) = running(F::empty());
    rig.networks[0].panic_next();
    rig.send(0, &frame(60, 1));
    rig.irq.wait_config(1);
    let (ram, new) = view(&rig);
    let error = rig.device.set_memory(ram).expect_err("a worker is lost");
    assert!(
        matches!(error, MemoryChangeError::Queue(QueueError::Worker(_))),
        "{error:?}"
    );
    assert!(old.upgrade().is_none() && new.upgrade().is_none());
    // The pair that was well has stopped, too.
    let pieces = [rig.memory.filled(&frame(60, 2))];
    rig.queue(3).ring.add(&pieces);
    rig.queue(3).ring.publish();
    rig.queue(3).kick();
    assert!(rig.device.resume().is_err());
    assert!(rig.networks[1].wire.take_sent().is_empty());
    assert!(rig.device.reset().is_some());
    assert!(rig.device.needs_reset(), "no reset brings a worker back");
}
