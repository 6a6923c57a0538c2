//! Buffers, tables and rings in memory that is out of reach: PROT_NONE in part (unplugged,
//! ballooned), read-only, or a file that was shortened meanwhile. The frame fails, or the queue;
//! the process and other queues live.

use net_queue::header::{HDR_LEN, HdrSize, TxRules, flags, gso};
use net_queue::ring::{AnyRing, Cursor, Layout, Ring, RingAddrs, RingConfig, RingError};
use net_queue::testing::{At, GuestRing, Hole, HoledMemory, Piece, Shape, TakenChain};
use net_queue::{
    DropCause, Engine, MemoryFault, Offloads, QueueFault, ReadError, Stop, TxConfig, TxEngine,
    guard,
};

use crate::ctrl::CtrlRig;
use crate::rig::{MERGE, RxRig, SINGLE, TxRig, every_ring, frame, packet};

const FAULT: DropCause = DropCause::MemoryFault(MemoryFault);

fn holed(hole: Hole) -> HoledMemory {
    guard::install().expect("the handler can be set");
    HoledMemory::new(hole, tempfile::tempfile).expect("test memory")
}

/// Runs `test` for every ring and every kind of hole.
fn every_hole(test: impl Fn(RingConfig, Hole, &HoledMemory)) {
    every_ring(16, |config| {
        for hole in Hole::ALL {
            println!("hole: {hole:?}");
            test(config, hole, &holed(hole));
        }
    });
}

/// Header, payload or all of a frame in the hole; short ones, which the CPU copies, and long ones,
/// which the backend reads. What can be read is sent.
#[test]
fn transmit_buffers_out_of_reach() {
    every_hole(|config, hole, holed| {
        let (memory, at) = (&holed.memory, holed.hole());
        for len in [60, 1500, 9000] {
            let mut rig = TxRig::on(memory, config, HdrSize::Base, Offloads::all());
            let good = packet(len, 1);
            let (header, rest) = (
                memory.filled(&good[..HDR_LEN]),
                memory.filled(&good[HDR_LEN..]),
            );
            let (all, first) = (good.len() as u32, HDR_LEN as u32);
            let bad: [&[Piece]; 4] = [
                &[Piece::readable(at, all)],
                &[Piece::readable(at, first), rest],
                &[header, Piece::readable(at, all - first)],
                &[
                    header,
                    memory.filled(&good[HDR_LEN..20]),
                    Piece::readable(at, all - 20),
                ],
            ];
            for (count, pieces) in (1..).zip(bad) {
                for (again, shape) in [Shape::Direct, Shape::Indirect].into_iter().enumerate() {
                    rig.guest.add_as(shape, pieces);
                    rig.guest.publish();
                    let sent = rig.drain();
                    let dropped = 2 * (count - 1) + again as u64 + 1;
                    if hole == Hole::ReadOnly {
                        // Its zeroes are as good as any bytes.
                        assert_eq!(sent.len(), 1, "{len} {count}");
                    } else {
                        assert!(sent.is_empty(), "{len} {count}");
                        assert_eq!(rig.dropped_for(FAULT), dropped);
                    }
                    assert_eq!(rig.guest.poll_all().len(), 1);
                }
            }
            rig.survive();
        }
    });
}

/// Receive buffers in the hole, whole or in part, for short frames and for long ones that are read
/// straight into posted buffers: the frame is lost and counted, its buffers come back, the next
/// frame arrives.
#[test]
fn receive_buffers_out_of_reach() {
    every_hole(|config, _, holed| {
        let (memory, at) = (&holed.memory, holed.hole());
        for rx in [MERGE, SINGLE] {
            for lens in [[60, 60], [1500, 1500], [9000, 9000], [9000, 60], [60, 9000]] {
                let mut rig = RxRig::over(memory.clone(), memory.tracked_ram(), config, rx);
                // What comes first teaches the engine how long frames are.
                rig.post(&[10_000]);
                rig.wire.inject(packet(lens[0], 1));
                rig.drain();
                assert_eq!(rig.guest.poll_all().len(), 1);
                let whole = Piece::writable(at, 10_000);
                let part = [memory.room(HDR_LEN + 20), Piece::writable(at, 10_000)];
                for (count, pieces) in (1..).zip([&[whole][..], &part, &[whole]]) {
                    rig.guest.add(pieces);
                    rig.guest.publish();
                    rig.wire.inject(packet(lens[1], 2));
                    rig.drain();
                    assert_eq!(rig.dropped_for(FAULT), count, "{lens:?}");
                    let used = rig.guest.poll_all();
                    assert_eq!(used.len(), 1, "the chain came back");
                    assert_eq!(used[0].len, 0, "with nothing in it");
                }
                assert_eq!(rig.survive().len(), 0);
            }
        }
    });
}

/// A frame over several merged buffers of which one is out of reach costs that frame and its
/// buffers, no more.
#[test]
fn one_of_several_merged_buffers_is_out_of_reach() {
    every_hole(|config, _, holed| {
        let (memory, at) = (&holed.memory, holed.hole());
        let mut rig = RxRig::over(memory.clone(), memory.tracked_ram(), config, MERGE);
        let room = memory.room(1000);
        for piece in [room, Piece::writable(at, 1000), room, memory.room(1000)] {
            rig.guest.add(&[piece]);
        }
        rig.guest.publish();
        rig.wire.inject(packet(2500, 1));
        rig.wire.inject(packet(500, 2));
        rig.drain();
        assert_eq!(rig.dropped_for(FAULT), 1);
        let used = rig.guest.poll_all();
        assert_eq!(
            used.iter().map(|used| used.len).collect::<Vec<_>>(),
            [0, 0, 0, 512]
        );
        rig.survive();
    });
}

/// A checksum that has to be completed in a directly received frame whose memory went away.
#[test]
fn checksum_of_a_frame_out_of_reach() {
    every_hole(|config, _, holed| {
        let (memory, at) = (&holed.memory, holed.hole());
        let mut rig = RxRig::over(memory.clone(), memory.tracked_ram(), config, MERGE);
        rig.post(&[10_000]);
        rig.wire.inject(packet(9000, 1));
        rig.drain();
        rig.guest.poll_all();
        let mut partial = packet(9000, 2);
        (partial[0], partial[1]) = (flags::NEEDS_CSUM, gso::NONE);
        (partial[6], partial[8]) = (34, 16);
        rig.guest.add(&[Piece::writable(at, 10_000)]);
        rig.guest.publish();
        rig.wire.inject(partial);
        rig.drain();
        assert_eq!(rig.dropped_for(FAULT), 1);
        rig.guest.poll_all();
        rig.survive();
    });
}

/// An indirect table that cannot be read costs its chain.
#[test]
fn indirect_tables_out_of_reach() {
    every_hole(|config, hole, holed| {
        if hole == Hole::ReadOnly {
            return;
        }
        let memory = &holed.memory;
        for odd in [0, 1] {
            let mut rig = TxRig::on(memory, config, HdrSize::Base, Offloads::all());
            let pieces = [memory.filled(&[0; HDR_LEN]), memory.filled(&frame(60, 1))];
            rig.guest.add_with(Shape::Indirect, &pieces, |place, desc| {
                if let At::Ring(_) = place {
                    desc.addr = holed.hole() + odd;
                }
            });
            rig.guest.publish();
            assert!(rig.drain().is_empty());
            assert_eq!(rig.dropped_for(FAULT), 1);
            assert_eq!(rig.guest.poll_all().len(), 1);
            rig.survive();
        }
    });
}

/// A command that cannot be read fails, one whose answer cannot be written comes back without one.
#[test]
fn control_buffers_out_of_reach() {
    every_hole(|config, hole, holed| {
        let (memory, at) = (&holed.memory, holed.hole());
        let mut rig = CtrlRig::on(memory, config);
        if hole != Hole::ReadOnly {
            rig.guest.add(&[Piece::readable(at, 3), memory.room(1)]);
            rig.guest.publish();
            assert!(matches!(rig.run(), Stop::Driver));
            let used = rig.guest.poll_all();
            assert_eq!(rig.guest.bytes(&used[0]), [1], "an error");
            assert_eq!(rig.counters.drops(FAULT), 1);
            assert!(rig.executor.commands.is_empty());
        }
        let before = rig.counters.drops(FAULT);
        rig.guest
            .add(&[memory.filled(&[1, 0, 0]), Piece::writable(at, 1)]);
        rig.guest.publish();
        assert!(matches!(rig.run(), Stop::Driver));
        assert_eq!(rig.guest.poll_all()[0].len, 0);
        assert_eq!(rig.counters.drops(FAULT), before + 1);
        assert!(rig.works());
    });
}

/// Rings that go away under their queue: a fault of the queue, once and for good; nothing else is
/// touched.
#[test]
fn rings_out_of_reach() {
    every_ring(16, |config| {
        let holed = holed(Hole::NoAccess);
        let memory = &holed.memory;
        let mut tx = TxRig::on(memory, config, HdrSize::Base, Offloads::all());
        let mut rx = RxRig::over(memory.clone(), memory.ram(), config, MERGE);
        let mut ctrl = CtrlRig::on(memory, config);
        tx.send(&packet(60, 1), &[]);
        rx.post(&[2000]);
        rx.wire.inject(packet(60, 2));
        holed.vanish_rings().expect("the file can be shortened");
        assert!(matches!(
            tx.run().stop,
            Stop::Fault(QueueFault::MemoryFault)
        ));
        assert!(matches!(
            rx.run().stop,
            Stop::Fault(QueueFault::MemoryFault)
        ));
        assert!(matches!(ctrl.run(), Stop::Fault(QueueFault::MemoryFault)));
        // It comes back, and the fault stays.
        holed.restore_rings().expect("the file can be extended");
        assert_eq!(tx.engine.fault(), Some(QueueFault::MemoryFault));
        assert!(matches!(tx.run().stop, Stop::Fault(_)) && !tx.engine.enable_notification());
        assert!(matches!(rx.run().stop, Stop::Fault(_)) && !rx.engine.enable_notification());
        rx.engine.drain(&mut rx.limit, None, 0);
    });
}

/// A used ring that goes away between two looks at the driver: noticed before the worker sleeps.
#[test]
fn a_ring_that_vanishes_is_noticed_before_sleep() {
    every_ring(16, |config| {
        let holed = holed(Hole::NoAccess);
        let mut tx = TxRig::on(&holed.memory, config, HdrSize::Base, Offloads::all());
        assert!(matches!(tx.run().stop, Stop::Driver));
        holed.vanish_rings().expect("the file can be shortened");
        assert!(tx.engine.enable_notification(), "there is something to do");
        assert!(matches!(
            tx.run().stop,
            Stop::Fault(QueueFault::MemoryFault)
        ));
    });
}

/// Two parts of a ring are out of reach for a moment: both layouts' used elements and the driver's
/// wish, or that wish and the device's own.
#[test]
fn a_ring_that_is_back_after_two_of_its_parts_were_out_of_reach_is_broken() {
    every_ring(16, |config| {
        for uses in [true, false] {
            let holed = holed(Hole::NoAccess);
            let mut guest = GuestRing::new(&holed.memory, config);
            let mut device = guest.device();
            guest.add(&[holed.memory.room(64)]);
            guest.publish();
            let chain = TakenChain::next(&mut device).expect("a chain").chain;
            let vanish = || holed.vanish_rings().expect("the file can be shortened");
            if uses {
                vanish();
                device.push_used(chain, 0);
                assert!(device.publish(), "the wish cannot be read");
            } else {
                device.defer_interrupts(true);
                device.push_used(chain, 0);
                device.publish();
                vanish();
                assert!(device.decide_interrupt(), "the wish cannot be read");
                device.disable_notification();
            }
            holed.restore_rings().expect("the file can be extended");
            assert!(device.enable_notification(), "there is something to do");
            assert!(TakenChain::next(&mut device).is_none());
            assert_eq!(device.fault(), Some(QueueFault::MemoryFault));
        }
    });
}

/// A queue with one chain, of whose ring another part lies elsewhere for the device.
fn with_parts_elsewhere(
    holed: &HoledMemory,
    config: RingConfig,
    elsewhere: impl FnOnce(&mut RingAddrs),
) -> TxRig {
    let mut tx = TxRig::on(&holed.memory, config, HdrSize::Base, Offloads::all());
    let mut config = tx.guest.config();
    elsewhere(&mut config.addrs);
    let ring = AnyRing::new(&holed.memory.ram(), &config).expect("all of it is mapped");
    let terms = TxConfig::new(TxRules::new(Offloads::all()));
    tx.engine = TxEngine::new(ring, terms, tx.counters.clone());
    tx.send(&packet(60, 1), &[]);
    tx
}

/// A store that failed is noticed when there is nothing else to do.
#[test]
fn a_ring_with_a_part_that_cannot_be_written_is_broken() {
    every_ring(16, |config| {
        let holed = holed(Hole::ReadOnly);
        let hole = holed.hole() & !0xfff;
        let mut tx = with_parts_elsewhere(&holed, config, |addrs| addrs.device = hole);
        tx.run();
        let _ = tx.engine.enable_notification();
        let stop = tx.run().stop;
        assert!(matches!(stop, Stop::Fault(QueueFault::MemoryFault)));
        assert!(!tx.engine.enable_notification(), "nothing is to be done");
    });
}

#[test]
fn a_driver_whose_wish_for_interrupts_cannot_be_read_is_told_before_its_ring_is_broken() {
    every_ring(16, |config| {
        // A split ring has its chains beside that wish.
        if config.layout == Layout::Split {
            return;
        }
        let holed = holed(Hole::NoAccess);
        let hole = holed.hole() & !0xfff;
        let mut tx = with_parts_elsewhere(&holed, config, |addrs| addrs.driver = hole);
        let outcome = tx.run();
        assert!(matches!(outcome.stop, Stop::Driver) && outcome.interrupt);
        let stop = tx.run().stop;
        assert!(matches!(stop, Stop::Fault(QueueFault::MemoryFault)));
    });
}

/// A ring is not accepted where its used index cannot be read.
#[test]
fn a_split_ring_out_of_reach_is_refused() {
    let holed = holed(Hole::NoAccess);
    let config = RingConfig {
        size: 16,
        layout: Layout::Split,
        cursor: Cursor {
            used: None,
            ..Cursor::default()
        },
        ..RingConfig::default()
    };
    let rig = TxRig::on(&holed.memory, config, HdrSize::Base, Offloads::all());
    holed.vanish_rings().expect("the file can be shortened");
    let again = AnyRing::new(
        &holed.memory.ram(),
        &RingConfig {
            ..rig.guest.config()
        },
    );
    assert!(matches!(again, Err(RingError::MemoryFault(_))), "{again:?}");
}

/// Reads by a VMM go the same way and fail likewise.
#[test]
fn reads_out_of_reach_fail() {
    for hole in [Hole::NoAccess, Hole::Truncated] {
        let holed = holed(hole);
        let ram = holed.memory.ram();
        let mut bytes = [0; 100];
        assert_eq!(
            ram.read(holed.hole(), &mut bytes),
            Err(ReadError::Fault(MemoryFault))
        );
        assert!(matches!(
            ram.read(0x8000_0000, &mut bytes),
            Err(ReadError::Address(_))
        ));
        let there = holed.memory.filled(&frame(100, 1));
        assert_eq!(ram.read(there.addr, &mut bytes), Ok(()));
        assert_eq!(bytes[..], frame(100, 1)[..]);
    }
}
