//! Transmit: what the driver makes available goes out whole, once, in order, and comes back.

use net_queue::header::{HdrError, HdrSize, flags, gso};
use net_queue::testing::{Answer, At, LimitCall, RawDesc, ScriptedLimit, Shape};
use net_queue::{Budget, DropCause, Engine, MAX_FRAME, Offloads, Stop};

use crate::rig::{PLENTY, SIZES, TxRig, every_layout, every_ring, frame, packet, ring};

/// NET-TX-02: where the header ends and the frame begins is the driver's business.
#[test]
fn header_cut_at_every_offset() {
    every_layout(|layout| {
        for cut in 0..=30 {
            let mut rig = TxRig::new(ring(layout, 64));
            let bytes = packet(60, cut as u64);
            rig.send(&bytes, &[cut]);
            assert_eq!(rig.drain(), [bytes], "cut at {cut}");
        }
    });
}

#[test]
fn header_in_one_byte_buffers_and_frame_in_odd_ones() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 64));
        let bytes = packet(1514, 7);
        let cuts: Vec<usize> = (1..=12).chain([13, 20, 21, 500, 1525]).collect();
        rig.send(&bytes, &cuts);
        assert_eq!(rig.drain(), [bytes]);
    });
}

/// NET-TX-03: a buffer may be empty.
#[test]
fn empty_buffers_anywhere() {
    every_layout(|layout| {
        let bytes = packet(100, 3);
        for cuts in [
            vec![0, 0, 12],
            vec![12, 12, 12],
            vec![5, 5, 40, 40],
            vec![112, 112],
        ] {
            for shape in [Shape::Direct, Shape::Indirect] {
                let mut rig = TxRig::new(ring(layout, 64));
                let pieces = rig.guest.memory().cut(&bytes, &cuts);
                rig.guest.add_as(shape, &pieces);
                rig.guest.publish();
                assert_eq!(rig.drain(), [&bytes[..]], "{cuts:?} {shape:?}");
            }
        }
    });
}

/// VQ-SPL-06: a table of readable buffers stays one, whatever its reference says.
#[test]
fn a_reference_that_is_writable_changes_nothing_on_transmit_vq_spl_06() {
    every_layout(|layout| {
        let bytes = packet(100, 5);
        let mut rig = TxRig::new(ring(layout, 16));
        let pieces = rig.guest.memory().cut(&bytes, &[12, 40]);
        rig.guest.add_with(Shape::Indirect, &pieces, |at, desc| {
            if at == At::Ring(0) {
                desc.flags |= RawDesc::WRITE;
            }
        });
        rig.guest.publish();
        assert_eq!(rig.drain(), [bytes]);
        assert_eq!(rig.counters.dropped(), 0);
    });
}

#[test]
fn direct_and_indirect_chains_carry_the_same_frame() {
    every_layout(|layout| {
        let bytes = packet(9000, 4);
        let mut rig = TxRig::new(ring(layout, 8));
        for shape in [Shape::Direct, Shape::Indirect] {
            let pieces = rig.guest.memory().cut(&bytes, &[12, 26, 4000, 8000]);
            rig.guest.add_as(shape, &pieces);
            rig.guest.publish();
            assert_eq!(rig.drain(), [&bytes[..]], "{shape:?}");
            assert_eq!(rig.guest.poll_all().len(), 1);
        }
    });
}

/// NET-TX-05: `num_buffers` means nothing; DATA_VALID and unknown flags are not for the peer.
#[test]
fn meaningless_header_fields_do_not_leave() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 8));
        let mut bytes = packet(60, 1);
        bytes[0] = flags::DATA_VALID | 0x80;
        bytes[6..12].copy_from_slice(&[0xff; 6]);
        rig.send(&bytes, &[12]);
        bytes[..12].fill(0);
        assert_eq!(rig.drain(), [bytes]);
    });
}

/// Each frame goes out with the header that the driver wrote for it.
#[test]
fn each_frame_has_its_own_header() {
    every_layout(|layout| {
        let mut rig = TxRig::with(ring(layout, 8), HdrSize::Base, Offloads::CSUM);
        let plain = packet(60, 1);
        let mut partial = packet(61, 2);
        partial[0] = flags::NEEDS_CSUM;
        partial[6] = 34;
        partial[8] = 16;
        for bytes in [&partial, &plain, &partial, &plain] {
            rig.send(bytes, &[]);
        }
        let expected = [&partial, &plain, &partial, &plain].map(Clone::clone);
        assert_eq!(rig.drain(), expected);
    });
}

#[test]
fn longer_headers_are_replaced_whole() {
    every_layout(|layout| {
        for size in SIZES {
            for cut in [0, 1, 12, size.bytes() - 1, size.bytes(), size.bytes() + 1] {
                let mut rig = TxRig::with(ring(layout, 8), size, Offloads::empty());
                let clean = [vec![0; size.bytes()], frame(64, 5)].concat();
                let mut bytes = clean.clone();
                bytes[10..size.bytes()].fill(0xee);
                rig.send(&bytes, &[cut]);
                assert_eq!(rig.drain(), [clean], "{size:?} cut at {cut}");
            }
        }
    });
}

/// NET-TX-06, NET-TX-15: in order, each chain once, with no byte written.
#[test]
fn chains_come_back_in_order_with_length_zero() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        let packets: Vec<_> = (0..20).map(|n| packet(60 + n, n as u64)).collect();
        let ids: Vec<_> = packets.iter().map(|bytes| rig.send(bytes, &[12])).collect();
        assert_eq!(rig.drain(), packets);
        let used = rig.guest.poll_all();
        assert_eq!(used.iter().map(|used| used.id).collect::<Vec<_>>(), ids);
        assert!(used.iter().all(|used| used.len == 0));
        assert_eq!(rig.counters.frames(), 20);
        assert_eq!(rig.counters.bytes(), (60..80).sum::<u64>());
    });
}

/// A frame that the limiter holds stays with the driver and is the next to go.
#[test]
fn limited_frame_waits_in_the_ring() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        let packets: Vec<_> = (0..4).map(|n| packet(60, n)).collect();
        for bytes in &packets {
            rig.send(bytes, &[12]);
        }
        rig.limit = ScriptedLimit::holding_after(2, 5_000);
        let stop = rig.run_at(100, PLENTY).stop;
        assert!(matches!(stop, Stop::Limited(5_000)), "{stop:?}");
        assert_eq!(rig.wire.take_sent(), packets[..2]);
        assert_eq!(
            rig.guest.poll_all().len(),
            2,
            "what was sent is used at once"
        );
        assert_eq!(rig.counters.limited(), 1);
        let take = |granted| LimitCall::Take {
            now: 100,
            bytes: 60,
            granted,
        };
        assert_eq!(rig.limit.calls, [take(true), take(true), take(false)]);

        assert_eq!(rig.drain(), packets[2..]);
        assert_eq!(rig.guest.poll_all().len(), 2);
        assert_eq!(rig.counters.frames(), 4);
    });
}

#[test]
fn frame_that_blocks_is_kept_and_refunded() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        let packets: Vec<_> = (0..3).map(|n| packet(100, n)).collect();
        for bytes in &packets {
            rig.send(bytes, &[3, 12, 50]);
        }
        rig.wire
            .script_send([Answer::Pass, Answer::WouldBlock, Answer::WouldBlock]);
        for sent in [1, 0] {
            let stop = rig.run().stop;
            assert!(matches!(stop, Stop::Backend), "{stop:?}");
            assert_eq!(rig.guest.poll_all().len(), sent);
            assert_eq!(rig.limit.calls.last(), Some(&LimitCall::Refund(100)));
        }
        rig.drain();
        assert_eq!(rig.counters.frames(), 3);
        assert_eq!(rig.counters.dropped(), 0);
        assert_eq!(rig.guest.poll_all().len(), 2);
    });
}

/// NET-TX-14: a frame that is refused costs itself only.
#[test]
fn refused_frame_is_counted_and_the_next_passes() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        let packets: Vec<_> = (0..3).map(|n| packet(100, n)).collect();
        for bytes in &packets {
            rig.send(bytes, &[12]);
        }
        rig.wire.script_send([Answer::Pass, Answer::Refused]);
        let sent = rig.drain();
        assert_eq!(sent, [&packets[0][..], &packets[2][..]]);
        assert_eq!(rig.dropped_for(DropCause::Refused), 1);
        assert!(rig.limit.calls.contains(&LimitCall::Refund(100)));
        assert_eq!(rig.guest.poll_all().len(), 3);
        assert_eq!(rig.counters.frames(), 2);
    });
}

/// A dead backend takes nothing: the chain can be sent by the next one.
#[test]
fn dead_backend_leaves_the_chain_in_the_ring() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        let bytes = packet(100, 1);
        rig.send(&bytes, &[12]);
        let before = rig.engine.cursor();
        rig.wire.script_send([Answer::Dead]);
        let stop = rig.run().stop;
        assert!(matches!(stop, Stop::Dead(_)), "{stop:?}");
        assert_eq!(rig.engine.cursor(), before);
        assert_eq!(rig.guest.poll_all().len(), 0);
        assert_eq!(rig.drain(), [bytes]);
    });
}

#[test]
fn budget_bounds_frames_and_bytes() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        for n in 0..20 {
            rig.send(&packet(1000, n), &[12]);
        }
        let three = Budget {
            frames: 3,
            ..PLENTY
        };
        assert!(matches!(rig.run_at(0, three).stop, Stop::Budget));
        assert_eq!(rig.wire.take_sent().len(), 3);
        let bytes = Budget {
            bytes: 2_500,
            ..PLENTY
        };
        assert!(matches!(rig.run_at(0, bytes).stop, Stop::Budget));
        assert_eq!(
            rig.wire.take_sent().len(),
            3,
            "the frame that spends the rest passes whole"
        );
        assert_eq!(rig.drain().len(), 14);
    });
}

/// Chains that are dropped are work too.
#[test]
fn useless_chains_spend_the_budget() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        for _ in 0..20 {
            rig.send(&[0; 5], &[]);
        }
        let five = Budget {
            frames: 5,
            ..PLENTY
        };
        assert!(matches!(rig.run_at(0, five).stop, Stop::Budget));
        assert_eq!(rig.guest.poll_all().len(), 5);
        assert_eq!(rig.dropped_for(DropCause::TooShort), 5);
    });
}

/// NET-TX-07: every length from nothing to the shortest frame.
#[test]
fn too_short_chains_are_dropped_and_counted() {
    every_layout(|layout| {
        for len in 0..=26 {
            let mut rig = TxRig::new(ring(layout, 8));
            let mut bytes = packet(14, 1);
            bytes.truncate(len);
            rig.send(&bytes, &[]);
            rig.send(&packet(60, 2), &[]);
            let sent = rig.drain();
            let short = HdrError::ShortFrame;
            let drops = |cause| rig.counters.drops(cause);
            assert_eq!(drops(DropCause::TooShort), u64::from(len < 12), "{len}");
            assert_eq!(
                drops(DropCause::Header(short)),
                u64::from((12..26).contains(&len))
            );
            assert_eq!(sent.len(), if len < 26 { 1 } else { 2 });
            assert_eq!(rig.guest.poll_all().len(), 2);
        }
    });
}

#[test]
fn longest_frame_passes_and_a_longer_one_does_not() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 8));
        let longest = packet(MAX_FRAME, 1);
        rig.send(&longest, &[12, 70]);
        assert_eq!(rig.drain(), [longest]);
        // The longest header counts, so that one bound serves all.
        rig.send(&packet(MAX_FRAME + 13, 1), &[12]);
        assert_eq!(rig.drain().len(), 0);
        assert_eq!(rig.dropped_for(DropCause::TooLong), 1);
        assert_eq!(rig.guest.poll_all().len(), 2);
    });
}

/// VQ-SPL-03: the stated cap is 1023 buffers.
#[test]
fn cap_of_buffers_in_a_chain() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 2048));
        let bytes = packet(1100, 1);
        let cuts = |count: usize| (1..count).collect::<Vec<_>>();
        for shape in [Shape::Direct, Shape::Indirect] {
            let pieces = rig.guest.memory().cut(&bytes, &cuts(1023));
            rig.guest.add_as(shape, &pieces);
            rig.guest.publish();
            assert_eq!(rig.drain(), [&bytes[..]]);
            assert_eq!(rig.guest.poll_all().len(), 1);
            let pieces = rig.guest.memory().cut(&bytes, &cuts(1024));
            rig.guest.add_as(shape, &pieces);
            rig.guest.publish();
            assert_eq!(rig.drain().len(), 0);
            assert_eq!(rig.guest.poll_all().len(), 1);
        }
        assert_eq!(rig.dropped_for(DropCause::Segments), 2);
    });
}

/// An offload that was not negotiated is dropped under its own cause; one that was passes with its
/// fields.
#[test]
fn offloads_are_held_to_what_was_negotiated() {
    every_layout(|layout| {
        let mut bytes = packet(2000, 1);
        bytes[0] = flags::NEEDS_CSUM;
        bytes[1] = gso::TCPV4;
        bytes[2] = 54;
        bytes[4..6].copy_from_slice(&1000_u16.to_le_bytes());
        bytes[6] = 34;
        bytes[8] = 16;
        // A TCP header: data offset 5.
        bytes[12 + 14] = 0x45;
        bytes[12 + 34 + 12] = 0x50;

        let mut rig = TxRig::new(ring(layout, 8));
        rig.send(&bytes, &[12]);
        assert_eq!(rig.drain().len(), 0);
        assert_eq!(rig.counters.dropped(), 1);

        let tso = Offloads::CSUM | Offloads::TSO4;
        let mut rig = TxRig::with(ring(layout, 8), HdrSize::Base, tso);
        rig.send(&bytes, &[12]);
        assert_eq!(rig.drain(), [bytes]);
    });
}

/// VQ-NTF-06: frames that came between the last look and the arming are noticed.
#[test]
fn arm_sees_what_is_there_already() {
    every_ring(64, |config| {
        let mut rig = TxRig::new(config);
        assert!(!rig.engine.enable_notification());
        let pieces = rig.guest.memory().cut(&packet(60, 1), &[]);
        rig.guest.add(&pieces);
        assert!(rig.guest.publish(), "an armed ring asks for a kick");
        assert!(rig.engine.enable_notification());
        rig.drain();
        assert!(!rig.engine.enable_notification());
        rig.engine.disable_notification();
    });
}
