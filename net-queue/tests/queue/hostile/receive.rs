//! Drivers that make receiving hard.

use std::sync::Arc;

use net_queue::header::{flags, gso};
use net_queue::testing::{
    At, DirtyRanges, GuestRing, Piece, ScriptedLimit, Shape, TestMemory, Wire,
};
use net_queue::{
    Budget, DropCause, Engine, Offloads, QueueCounters, RxConfig, RxEngine, Stop, TxConfig,
    TxEngine,
};

use crate::rig::{
    MERGE, PLENTY, RxRig, SINGLE, every_layout, every_ring, frame, packet, restores, ring,
};

/// A driver that stops posting under flood and then refills: one kick, and receiving goes on.
#[test]
fn rx_full_then_refill() {
    every_ring(16, |config| {
        for rx in [MERGE, SINGLE] {
            let mut rig = RxRig::new(config, rx);
            for _ in 0..16 {
                rig.post(&[2000]);
            }
            for n in 0..1000 {
                rig.wire.inject(packet(100, n));
            }
            let mut received = 0;
            while received < 1000 {
                let starved = matches!(rig.run().stop, Stop::Driver);
                assert!(starved || rig.wire.waiting() == 0);
                assert!(
                    !starved || !rig.engine.enable_notification(),
                    "nothing to do but wait"
                );
                while let Some((_, bytes, _)) = rig.take_frame() {
                    assert_eq!(bytes, frame(100, received));
                    received += 1;
                }
                let pieces = rig.rooms(&[2000]);
                rig.guest.add(&pieces);
                assert!(rig.guest.publish() || !starved, "one kick is asked for");
                for _ in 1..16 {
                    if rig.guest.free() > 0 {
                        rig.post(&[2000]);
                    }
                }
            }
            assert_eq!(rig.counters.dropped(), 0);
        }
    });
}

/// Every way in which a receive chain or a frame can fail: each chain comes back or is still to be
/// had.
#[test]
fn rx_error_returns_heads() {
    every_layout(|layout| {
        for config in [MERGE, SINGLE] {
            let mut rig = RxRig::new(ring(layout, 64), config);
            let hole = Piece::writable(0x8000_0000, 100);
            let good = rig.rooms(&[100])[0];
            let readable = Piece {
                writable: false,
                ..good
            };
            let bad: [&[Piece]; 5] = [&[hole], &[good, hole], &[readable], &[good, readable], &[]];
            for pieces in bad {
                for shape in [Shape::Direct, Shape::Indirect] {
                    if !pieces.is_empty() {
                        rig.guest.add_as(shape, pieces);
                    }
                }
                rig.post(&[3]);
                rig.post(&[2000]);
            }
            // Frames that fail: too short, a bad header, too long.
            rig.wire.inject(vec![0; 5]);
            rig.wire.inject({
                let mut bytes = packet(100, 1);
                bytes[1] = 77;
                bytes
            });
            for n in 0..3 {
                rig.wire.inject(packet(100, n));
            }
            rig.wire.inject(packet(65_000, 1));
            let posted = rig.guest.in_flight();
            rig.run();
            rig.engine.drain(&mut rig.limit, None, 0);
            let returned = rig.guest.poll_all().len();
            assert_eq!(returned + rig.guest.in_flight(), posted);
            assert_eq!(rig.counters.frames(), 3);
            let left = rig.guest.in_flight();
            // What was not used is taken by whoever goes on.
            let mut device = net_queue::ring::AnyRing::new(
                &rig.guest.memory().ram(),
                &net_queue::ring::RingConfig {
                    cursor: rig.engine.cursor(),
                    ..rig.guest.config()
                },
            )
            .expect("a settled cursor");
            let rest =
                std::iter::from_fn(|| crate::pieces::try_take(&mut device).expect("a sound ring"));
            assert_eq!(rest.count(), left);
        }
    });
}

/// Frames longer than the posted buffers, with merging and without.
#[test]
fn jumbo_without_mrg() {
    every_layout(|layout| {
        for (config, jumbos) in [(MERGE, 3), (SINGLE, 0)] {
            let mut rig = RxRig::new(ring(layout, 256), config);
            for _ in 0..256 {
                rig.post(&[1526]);
            }
            for n in 0..3 {
                rig.wire.inject(packet(65_000, n));
                rig.wire.inject(packet(64, n));
            }
            rig.drain();
            let frames: Vec<_> = std::iter::from_fn(|| rig.take_frame())
                .map(|(_, f, _)| f.len())
                .collect();
            assert_eq!(frames.iter().filter(|len| **len == 64).count(), 3);
            assert_eq!(frames.iter().filter(|len| **len == 65_000).count(), jumbos);
        }
    });
}

/// The peer's segments for a driver that refused them: dropped, unless what they ask for was
/// negotiated.
#[test]
fn gso_not_negotiated() {
    every_layout(|layout| {
        for offloads in [
            Offloads::empty(),
            Offloads::CSUM,
            Offloads::CSUM | Offloads::TSO4,
        ] {
            for kind in [
                gso::TCPV4,
                gso::TCPV6,
                gso::UDP,
                gso::UDP_L4,
                gso::TCPV4 | gso::ECN,
            ] {
                let mut rig = RxRig::new(ring(layout, 16), RxConfig { offloads, ..MERGE });
                rig.post(&[10_000]);
                let mut bytes = packet(5000, 1);
                (bytes[0], bytes[1], bytes[2], bytes[6], bytes[8]) =
                    (flags::NEEDS_CSUM, kind, 54, 34, 16);
                bytes[4..6].copy_from_slice(&1448_u16.to_le_bytes());
                rig.wire.inject(bytes);
                rig.drain();
                let allowed = offloads.contains(Offloads::TSO4) && kind == gso::TCPV4;
                assert_eq!(
                    rig.take_frame().is_some(),
                    allowed,
                    "{offloads:?} {kind:#x}"
                );
                assert_eq!(rig.counters.dropped(), u64::from(!allowed));
            }
        }
    });
}

/// Marks lie in memory, whatever lengths the driver gave.
#[test]
fn dirty_log_lengths() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let marks = Arc::new(DirtyRanges::default());
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let mut rig = RxRig::over(memory.clone(), ram, ring(layout, 32), MERGE);
        let at = memory.regions()[2].0;
        for len in [0, 1, 11, 12, 1 << 20, u32::MAX] {
            for shape in [Shape::Direct, Shape::Indirect] {
                rig.guest
                    .add_as(shape, &[Piece::writable(at, len), Piece::writable(at, 0)]);
            }
        }
        rig.post(&[100]);
        for n in 0..6 {
            rig.wire.inject(packet(14, n));
        }
        let stop = rig.run().stop;
        assert!(matches!(stop, Stop::Driver), "{stop:?}");
        assert_eq!(rig.counters.frames(), 3);
        rig.guest.poll_all();
        for (addr, len) in marks.take() {
            assert!(len > 0 && len <= 64, "{len} bytes marked at {addr:#x}");
            let inside =
                |(start, size): (u64, usize)| addr >= start && addr + len <= start + size as u64;
            assert!(memory.regions().into_iter().any(inside));
        }
    });
}

/// Traffic that never ends, and limits that never bind: the budget does.
#[test]
fn endless_rx() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        let budget = Budget {
            frames: 8,
            ..PLENTY
        };
        for n in 0..100 {
            while rig.guest.free() > 0 {
                rig.post(&[200]);
            }
            for m in 0..20 {
                rig.wire.inject(packet(100, n + m));
            }
            assert!(matches!(rig.run_with(None, 0, budget).stop, Stop::Budget));
            assert_eq!(rig.guest.poll_all().len(), 8);
        }
    });
}

#[test]
fn rx_readable_only_chain() {
    every_layout(|layout| {
        for config in [MERGE, SINGLE] {
            let mut rig = RxRig::new(ring(layout, 16), config);
            for _ in 0..8 {
                let piece = rig.guest.memory().filled(&[1; 100]);
                rig.guest.add(&[piece]);
            }
            rig.guest.publish();
            let used = rig.survive();
            assert_eq!(used.len(), 8);
            assert!(used.iter().all(|used| used.len == 0));
            assert_eq!(rig.dropped_for(DropCause::Direction), 8);
        }
    });
}

/// The memory map is replaced while frames move: an engine keeps what it works on alive and writes
/// nowhere else.
#[test]
fn remap_mid_packet() {
    every_layout(|layout| {
        let (mut backend, wire) = Wire::new();
        let mut limit = ScriptedLimit::default();
        let counters = Arc::<QueueCounters>::default();
        let (mut engine, config) = {
            let mut guest = GuestRing::new(&TestMemory::new(), ring(layout, 16));
            for _ in 0..16 {
                let piece = guest.memory().room(100);
                guest.add(&[piece]);
            }
            guest.publish();
            let engine = RxEngine::new(guest.device(), 16, MERGE, counters.clone());
            (engine, guest.config())
        };
        // The driver's handles are gone; only the engine's are left.
        for n in 0..20 {
            wire.inject(packet(500, n));
        }
        let stop = engine.run(&mut backend, &mut limit, None, 0, PLENTY).stop;
        assert!(matches!(stop, Stop::Driver | Stop::Backend), "{stop:?}");
        engine.drain(&mut limit, None, 0);
        assert!(counters.frames() > 0);
        // In memory of the same shape.
        restores(&TestMemory::new(), config, engine.cursor());
    });
}

/// The two directions of a pair share nothing that one could break for the other.
#[test]
fn broken_transmit_queue_leaves_receive_alone() {
    every_layout(|layout| {
        let mut rx = RxRig::new(ring(layout, 16), MERGE);
        let mut guest = GuestRing::new(rx.guest.memory(), ring(layout, 16));
        let rules = net_queue::header::TxRules::new(Offloads::empty());
        let counters = Arc::default();
        let mut tx = TxEngine::new(guest.device(), TxConfig::new(rules), counters);
        let pieces = vec![rx.rooms(&[1])[0]; 16];
        guest.add_with(Shape::Direct, &pieces, |_, desc| {
            desc.flags |= 1;
            desc.len = 0;
            desc.flags &= !2;
        });
        guest.publish();
        let stop = tx.run(&mut rx.backend, &mut rx.limit, 0, PLENTY).stop;
        assert!(matches!(stop, Stop::Fault(_)), "{stop:?}");
        restores(guest.memory(), guest.config(), tx.cursor());
        assert_eq!(rx.survive(), []);
    });
}

/// A chain that is of no use is looked at again when it is the first, and what it was before
/// counts for nothing then.
#[test]
fn a_short_chain_that_the_driver_lengthens_in_place_is_what_it_is_now() {
    every_ring(16, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.post(&[6000]);
        rig.wire.inject(packet(5000, 9));
        rig.drain();
        rig.take_frame().expect("it fits");
        // The next frame is expected to be long, so that more than one chain is looked at.
        rig.post(&[100]);
        let room = rig.rooms(&[1000]);
        let mut place = None;
        rig.guest.add_with(Shape::Indirect, &room, |at, desc| {
            if let At::Table(_) = at {
                desc.len = 5;
            } else {
                place = Some(desc.addr);
            }
        });
        rig.guest.publish();
        for _ in 0..3 {
            assert!(matches!(rig.run().stop, Stop::Backend));
        }
        let table = place.expect("the ring refers to a table");
        let len = 1000_u32.to_le_bytes();
        rig.guest.memory().write(table + 8, &len);
        rig.wire.inject(packet(700, 2));
        rig.drain();
        assert_eq!(rig.take_frame().expect("it fits both").1, frame(700, 2));
        assert_eq!(rig.counters.dropped(), 0);
    });
}
