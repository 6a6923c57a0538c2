//! Receive: where frames land in the driver's buffers, and what the driver is told.

use std::sync::Arc;

use net_queue::header::{HDR_LEN, HdrSize};
use net_queue::ring::Layout;
use net_queue::testing::{DirtyRanges, POISON, Piece, Shape, TestMemory, Used};
use net_queue::{DropCause, Engine, RxConfig, Stop};

use crate::rig::{MERGE, RxRig, SINGLE, SIZES, every_layout, every_ring, frame, packet, ring};

/// NET-RX-01, NET-RX-08, NET-RX-16: one buffer, `num_buffers` 1, the exact length, nothing beyond
/// it.
#[test]
fn without_merging_each_frame_takes_one_chain() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, SINGLE);
        for len in [14, 60, 1514] {
            let id = rig.post(&[2000]);
            rig.wire.inject(packet(len, 9));
            rig.drain();
            let (header, bytes, chains) = rig.take_frame().expect("a frame");
            assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            assert_eq!(bytes, frame(len, 9));
            assert_eq!((chains[0].id, chains[0].len), (id, (12 + len) as u32));
            let rest = rig
                .guest
                .memory()
                .gather(&chains[0].pieces, 2000)
                .split_off(12 + len);
            assert!(
                rest.iter().all(|byte| *byte == POISON),
                "written beyond the length"
            );
        }
    });
}

/// NET-RX-02, NET-RX-04, NET-RX-06: how many chains, all but the last of them full.
#[test]
fn merged_frame_fills_all_chains_but_the_last() {
    every_ring(64, |config| {
        for len in [14, 86, 87, 88, 89, 187, 188, 189, 1000, 5000] {
            let mut rig = RxRig::new(config, MERGE);
            for _ in 0..60 {
                rig.post(&[100]);
            }
            rig.wire.inject(packet(len, 5));
            rig.drain();
            let (header, bytes, chains) = rig.take_frame().expect("a frame");
            let total = 12 + len;
            assert_eq!(usize::from(header[10]), total.div_ceil(100), "{len}");
            assert_eq!(bytes, frame(len, 5));
            assert!(full_but_the_last(&chains, total));
            assert!(rig.take_frame().is_none());
        }
    });
}

fn full_but_the_last(chains: &[Used], total: usize) -> bool {
    let mut left = total as u32;
    chains.iter().all(|used| {
        let room: u32 = used.pieces.iter().map(|piece| piece.len).sum();
        let expected = room.min(left);
        left -= expected;
        used.len == expected && expected > 0
    }) && left == 0
}

#[test]
fn chains_of_mixed_sizes_and_pieces() {
    every_layout(|layout| {
        let mut rig = RxRig::new(ring(layout, 256), MERGE);
        let sizes: [&[usize]; 6] = [&[12], &[100], &[1, 0, 13], &[1500], &[0, 4096], &[7, 7, 7]];
        for (n, len) in [14, 111, 112, 113, 1611, 3000, 60, 9000]
            .into_iter()
            .enumerate()
        {
            while rig.guest.free() > 128 {
                for lens in sizes {
                    rig.post(lens);
                }
            }
            rig.wire.inject(packet(len, n as u64));
            rig.drain();
            let mut bytes = Vec::new();
            for used in rig.guest.poll_all() {
                bytes.extend(rig.guest.bytes(&used));
            }
            assert_eq!(bytes.split_off(HDR_LEN), frame(len, n as u64));
        }
        assert_eq!(rig.counters.dropped(), 0);
    });
}

/// NET-RX-07: the header straddles buffers; `num_buffers` is at byte 10 of the stream, not of the
/// first buffer.
#[test]
fn header_straddles_buffers() {
    every_layout(|layout| {
        for config in [MERGE, SINGLE] {
            for first in [1, 4, 10, 11, 12, 13] {
                for shape in [Shape::Direct, Shape::Indirect] {
                    let mut rig = RxRig::new(ring(layout, 16), config);
                    let pieces = rig.rooms(&[first, 1, 300]);
                    rig.guest.add_as(shape, &pieces);
                    rig.guest.publish();
                    rig.wire.inject(packet(200, 1));
                    rig.drain();
                    let (header, bytes, _) = rig.take_frame().expect("a frame");
                    assert_eq!(header[10..], [1, 0], "first buffer of {first}");
                    assert_eq!(bytes, frame(200, 1));
                }
            }
        }
    });
}

/// NET-RX-17: the frame begins behind the negotiated header, whose further fields are zero.
#[test]
fn longer_headers() {
    every_layout(|layout| {
        for size in SIZES {
            let mut rig = RxRig::new(ring(layout, 16), RxConfig { size, ..MERGE });
            rig.post(&[1000]);
            let mut bytes = vec![0; size.bytes()];
            bytes[HDR_LEN.min(size.bytes())..].fill(0xee);
            bytes.extend(frame(70, 3));
            rig.wire.inject(bytes);
            rig.drain();
            let used = rig.guest.poll().expect("a chain");
            let mut expected = vec![0; size.bytes()];
            if size != HdrSize::Legacy {
                expected[10] = 1;
            }
            expected.extend(frame(70, 3));
            assert_eq!(rig.guest.bytes(&used), expected);
        }
    });
}

/// NET-RX-12, NET-RX-13: nothing of a frame shows before there is room for all of it.
#[test]
fn frame_waits_for_the_chains_it_lacks() {
    every_ring(64, |config| {
        let mut rig = RxRig::new(config, MERGE);
        rig.post(&[100]);
        rig.wire.inject(packet(500, 1));
        rig.wire.inject(packet(60, 2));
        for _ in 0..5 {
            let stop = rig.run().stop;
            assert!(matches!(stop, Stop::Driver), "{stop:?}");
            assert!(
                !rig.engine.enable_notification(),
                "there is nothing to look at until the driver posts"
            );
            assert_eq!(rig.guest.poll_all(), []);
            rig.post(&[100]);
        }
        rig.post(&[100]);
        rig.drain();
        assert_eq!(rig.take_frame().expect("the long one").1, frame(500, 1));
        assert_eq!(rig.take_frame().expect("the short one").1, frame(60, 2));
        assert_eq!(rig.counters.dropped(), 0);
        assert_eq!(rig.counters.frames(), 2);
    });
}

/// A frame beyond what the link's MTU called for still finds the chains that are there.
#[test]
fn link_mtu_may_have_grown() {
    every_ring(256, |config| {
        let expecting = RxConfig {
            link_mtu: Some(1500),
            ..MERGE
        };
        let mut rig = RxRig::new(config, expecting);
        for _ in 0..200 {
            rig.post(&[100]);
        }
        rig.wire.inject(packet(9000, 1));
        rig.wire.inject(packet(60, 2));
        rig.drain();
        assert_eq!(rig.take_frame().expect("the long one").1, frame(9000, 1));
        assert_eq!(rig.take_frame().expect("the short one").1, frame(60, 2));
        assert_eq!(rig.counters.dropped(), 0);
    });
}

/// Whatever the link's MTU made expect, a frame arrives whole or not at all.
#[test]
fn frame_longer_than_expected_is_never_cut() {
    every_ring(16, |config| {
        for merge in [true, false] {
            let expecting = RxConfig {
                link_mtu: Some(1500),
                merge,
                ..MERGE
            };
            let mut rig = RxRig::new(config, expecting);
            for _ in 0..16 {
                rig.post(&[4096]);
            }
            for n in 0..3 {
                rig.wire.inject(packet(9000, n));
                rig.wire.inject(packet(60, n));
            }
            rig.drain();
            let mut lens = Vec::new();
            while let Some((_, bytes, _)) = rig.take_frame() {
                lens.push(bytes.len());
            }
            let expected = if merge {
                vec![9000, 60, 9000, 60, 9000, 60]
            } else {
                vec![60; 3]
            };
            assert_eq!(lens, expected);
            assert_eq!(
                rig.dropped_for(DropCause::NoRoom),
                if merge { 0 } else { 3 }
            );
        }
    });
}

/// A frame that no backend should have is not delivered in part.
#[test]
fn frame_beyond_any_bound_is_dropped_whole() {
    every_layout(|layout| {
        for config in [MERGE, SINGLE] {
            let mut rig = RxRig::new(ring(layout, 256), config);
            for _ in 0..256 {
                rig.post(&[1000]);
            }
            rig.wire.inject(packet(200_000, 1));
            rig.wire.inject(packet(60, 2));
            rig.drain();
            assert_eq!(rig.take_frame().expect("the good one").1, frame(60, 2));
            assert!(rig.take_frame().is_none());
            assert_eq!(rig.counters.dropped(), 1);
        }
    });
}

/// Batches: many frames of all sizes through few chains.
#[test]
fn stream_of_frames_arrives_whole_and_in_order() {
    every_ring(128, |config| {
        for (rx, chain) in [(MERGE, 256), (MERGE, 1526), (SINGLE, 4096)] {
            let mut rig = RxRig::new(config, rx);
            let mut received = 0_u64;
            for n in 0..300_u64 {
                rig.wire.inject(packet(14 + (n as usize * 37) % 3000, n));
            }
            while received < 300 {
                while rig.guest.free() > 0 {
                    rig.post(&[chain]);
                }
                let stop = rig.run().stop;
                assert!(matches!(stop, Stop::Driver | Stop::Backend), "{stop:?}");
                while let Some((_, bytes, _)) = rig.take_frame() {
                    assert_eq!(bytes, frame(14 + (received as usize * 37) % 3000, received));
                    received += 1;
                }
            }
            assert_eq!(rig.counters.dropped(), 0);
        }
    });
}

/// Only what was written is marked, and all of it.
#[test]
fn dirty_marks_are_exact() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let marks = Arc::new(DirtyRanges::default());
        let ram = memory.ram().with_dirty_log(Some(marks.clone()));
        let mut rig = RxRig::over(memory, ram, ring(layout, 16), MERGE);
        rig.post(&[5, 95]);
        rig.post(&[50, 50]);
        rig.post(&[1000]);
        rig.wire.inject(packet(120, 1));
        rig.drain();
        let chains = rig.guest.poll_all();
        assert_eq!(
            chains.iter().map(|used| used.len).collect::<Vec<_>>(),
            [100, 32]
        );
        let mut buffers = marks.take();
        buffers.retain(|(addr, _)| *addr >= rig.guest.memory().regions()[2].0);
        let at = |piece: &Piece, len| (piece.addr, len);
        let [first, second] = [&chains[0].pieces, &chains[1].pieces];
        let expected = [at(&first[0], 5), at(&first[1], 95), at(&second[0], 32)];
        assert_eq!(buffers, expected);
    });
}

/// The used ring is guest memory too.
#[test]
fn ring_writes_are_marked_in_the_bitmaps() {
    every_layout(|layout| {
        let memory = TestMemory::new();
        let ram = memory.tracked_ram();
        let mut rig = RxRig::over(memory.clone(), ram, ring(layout, 1024), MERGE);
        rig.post(&[100]);
        rig.wire.inject(packet(20, 1));
        memory.clean();
        rig.drain();
        let addrs = rig.guest.config().addrs;
        let used = if layout == Layout::Packed {
            addrs.desc
        } else {
            addrs.device
        };
        assert!(memory.is_dirty(used));
        let chain = rig.guest.poll().expect("a chain");
        assert!(memory.is_dirty(chain.pieces[0].addr));
        memory.clean();
        rig.engine.enable_notification();
        rig.engine.disable_notification();
        assert!(memory.is_dirty(addrs.device));
    });
}
