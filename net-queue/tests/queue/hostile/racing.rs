//! A second thread rewrites what the device is reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use net_queue::header::{HdrSize, flags, gso};
use net_queue::ring::{Layout, Ring, RingConfig};
use net_queue::testing::{
    At, DirtyRanges, GuestRing, PackedFields, Piece, Random, RawDesc, Shape, SplitFields,
    TestMemory,
};
use net_queue::{Offloads, Stop};

use crate::pieces::take;
use crate::rig::{MERGE, RxRig, TxRig, every_layout, packet, restores, ring};

/// Rounds of the device while the other thread writes.
const ROUNDS: usize = 3000;

/// Calls `meddle` over and over in another thread until `work` is done.
fn while_meddling<T>(meddle: impl Fn(&mut Random) + Sync, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(5);
            while !done.load(Ordering::Relaxed) {
                meddle(&mut random);
            }
        });
        // Released however `work` ends, so that a failure does not hang.
        struct Finish<'a>(&'a AtomicBool);
        impl Drop for Finish<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let finish = Finish(&done);
        let result = work();
        drop(finish);
        result
    })
}

/// NET-TX-11: what was checked is what is sent.
#[test]
fn header_double_fetch() {
    every_layout(|layout| {
        let offloads = Offloads::CSUM | Offloads::TSO4;
        let mut rig = TxRig::with(ring(layout, 8), HdrSize::Base, offloads);
        let memory = rig.guest.memory().clone();
        let mut bytes = packet(3000, 1);
        bytes[12 + 14] = 0x45;
        bytes[12 + 34 + 12] = 0x50;
        let pieces = memory.cut(&bytes, &[12]);
        let at = pieces[0].addr;
        let meddle = |random: &mut Random| {
            let kind = [gso::NONE, gso::TCPV4, 77][random.below(3) as usize];
            memory.write(at, &[random.below(2) as u8, kind]);
            for (field, value) in [
                (4, [0, 1000, 0xffff]),
                (6, [34, 2999, 0xffff]),
                (8, [16, 0, 0xffff]),
            ] {
                let value: u16 = value[random.below(3) as usize];
                memory.write(at + field, &value.to_le_bytes());
            }
        };
        while_meddling(meddle, || {
            for _ in 0..ROUNDS {
                rig.guest.add(&pieces);
                rig.guest.publish();
                for sent in rig.drain() {
                    consistent(&sent);
                }
                assert_eq!(rig.guest.poll_all().len(), 1);
            }
        });
    });
}

/// The header that left is one that passes the check.
fn consistent(sent: &[u8]) {
    let field = |at| usize::from(u16::from_le_bytes([sent[at], sent[at + 1]]));
    let partial = sent[0] & flags::NEEDS_CSUM != 0;
    assert!([gso::NONE, gso::TCPV4].contains(&sent[1]));
    assert!(sent[1] == gso::NONE || (partial && field(4) > 0));
    assert!(!partial || field(6) + field(8) + 2 <= sent.len() - 12);
}

/// VQ-SPL-14, VQ-PKD-19: address and length are checked as they were read, once. The driver
/// switches between two sound descriptors; the address of one with the length of the other leads
/// out of memory.
#[test]
fn descriptor_double_fetch() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let marks = Arc::new(DirtyRanges::default());
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let mut rig = RxRig::over(memory.clone(), ram, ring(layout, 4), MERGE);
        let table = memory.alloc_ring(16, 16);
        let end = memory.regions()[2].0 + memory.regions()[2].1 as u64;
        let ends = [(end - (1 << 20), 1 << 20), (end - 100, 100)];
        let flags = u64::from(RawDesc::WRITE) << if layout == Layout::Split { 32 } else { 48 };
        let write = |(addr, len): (u64, u64)| {
            memory.store(table, addr);
            memory.store(table + 8, flags | len);
        };
        write(ends[0]);
        let meddle = |random: &mut Random| write(ends[random.below(2) as usize]);
        while_meddling(meddle, || {
            for n in 0..ROUNDS as u64 {
                let stand_in = [Piece::writable(end - 100, 100)];
                rig.guest.add_with(Shape::Indirect, &stand_in, |at, desc| {
                    if at == At::Ring(0) {
                        desc.addr = table;
                    }
                });
                rig.guest.publish();
                if rig.wire.waiting() == 0 {
                    rig.wire.inject(packet(80, n));
                }
                rig.run();
                assert_eq!(rig.guest.poll_all().len(), 1);
                for (addr, len) in marks.take() {
                    let inside = |(start, size)| addr >= start && addr + len <= start + size as u64;
                    assert!(
                        memory.regions().into_iter().any(inside),
                        "{len} at {addr:#x}"
                    );
                }
            }
        });
        assert!(rig.counters.frames() > 0);
    });
}

/// Receive descriptors rewritten after posting steer no write outside memory: what was resolved is
/// what is used.
#[test]
fn posted_descriptor_rewritten() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 8), MERGE);
        let memory = rig.guest.memory().clone();
        let config = rig.guest.config();
        let desc = |slot| match layout {
            Layout::Split => SplitFields::of(&config).desc(slot),
            Layout::Packed => PackedFields::of(&config).desc(slot),
        };
        let meddle = |random: &mut Random| {
            let at = desc(random.below(8) as u16);
            memory.store(
                at,
                [0x8000_0000, u64::MAX, memory.regions()[2].0][random.below(3) as usize],
            );
            memory.store(at + 8, [0, 100, u32::MAX][random.below(3) as usize]);
        };
        while_meddling(meddle, || {
            for n in 0..ROUNDS {
                while rig.guest.free() > 0 {
                    rig.post(&[100]);
                }
                rig.wire.inject(packet(60, n as u64));
                rig.run();
                rig.guest.poll_all();
            }
        });
    });
}

/// Waits for the other thread to have done its part, so that `look` finds something. One that has
/// failed never does, which ends the wait.
fn look_until_found<T>(mut look: impl FnMut() -> Option<T>) -> T {
    const LOOKS: u32 = 1 << 25;
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("the other side does nothing any more");
}

/// Indices written while the device reads them, as whole words: a driver in another thread and the
/// device see every chain once and in order.
#[test]
fn torn_indices() {
    every_layout(|layout| {
        for event_idx in [false, true] {
            let config = RingConfig {
                event_idx,
                ..ring(layout, 4)
            };
            let memory = TestMemory::new();
            let mut guest = GuestRing::new(&memory, config);
            let config = guest.config();
            let mut device = guest.device();
            let pieces: Vec<_> = (1..65).map(|len| guest.memory().room(len)).collect();
            let expected = pieces.clone();
            const CHAINS: usize = 20_000;
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let (mut added, mut used) = (0, 0);
                    while used < CHAINS {
                        while added < CHAINS && guest.free() > 0 {
                            guest.add(&pieces[added % 64..][..1]);
                            guest.publish();
                            added += 1;
                        }
                        let chain = look_until_found(|| guest.poll());
                        assert_eq!(chain.len as usize, 1 + used % 64);
                        used += 1;
                    }
                });
                for n in 0..CHAINS {
                    let (chain, taken) = look_until_found(|| take(&mut device));
                    assert_eq!(taken, expected[n % 64..][..1]);
                    device.push_used(chain, 1 + (n % 64) as u32);
                    device.publish();
                }
            });
            restores(&memory, config, device.cursor());
        }
    });
}

/// Everything in the ring's memory is noise that changes all the time: the queue faults or goes on,
/// and ends.
#[test]
fn ring_of_noise() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let laid_out = GuestRing::new(&memory, ring(layout, 16)).config();
        let addrs = laid_out.addrs;
        let meddle = |random: &mut Random| {
            let (at, len) = [(addrs.desc, 256), (addrs.driver, 36)][random.below(2) as usize];
            let len = if layout == Layout::Packed && at == addrs.driver {
                4
            } else {
                len
            };
            memory.write(at + 2 * random.below(len / 2), &random.bytes(2));
        };
        while_meddling(meddle, || {
            let mut faults = 0;
            for n in 0..ROUNDS as u64 {
                let mut rig = TxRig::over(&memory, laid_out);
                memory.write(addrs.driver, &Random::new(n).bytes(4));
                let stop = rig.run().stop;
                faults += u32::from(matches!(stop, Stop::Fault(_)));
            }
            assert!(faults > 0);
        });
    });
}
