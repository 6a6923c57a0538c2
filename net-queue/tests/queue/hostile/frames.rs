//! Frames and headers that should not leave.

use net_queue::header::{HdrSize, flags, gso};
use net_queue::ring::Layout;
use net_queue::testing::{Piece, Shape};
use net_queue::{DropCause, Offloads};

use crate::rig::{SIZES, TxRig, every_layout, frame, packet, ring};

/// Header sizes, features, and cuts: the exact header, and nothing of this side.
#[test]
fn header_size_matrix() {
    every_layout(|layout| {
        for size in SIZES {
            for offloads in [Offloads::empty(), Offloads::all()] {
                for cut in 0..=size.bytes() {
                    let mut rig = TxRig::with(ring(layout, 16), size, offloads);
                    let clean = [vec![0; size.bytes()], frame(40, 1)].concat();
                    let mut bytes = clean.clone();
                    bytes[10..size.bytes()].fill(0xff);
                    rig.send(&bytes, &[cut]);
                    // A header alone, and less than one, may not be read beyond their end.
                    rig.send(&bytes[..cut], &[]);
                    assert_eq!(rig.drain(), [clean], "{size:?} cut at {cut}");
                    assert_eq!(rig.counters.dropped(), 1);
                    assert_eq!(rig.guest.poll_all().len(), 2);
                }
            }
        }
    });
}

/// The header in one-byte buffers, and chains of every length up to a whole frame.
#[test]
fn header_split() {
    every_layout(|layout| {
        for len in 0..=26 {
            let mut rig = TxRig::new(ring(layout, 32));
            let cuts: Vec<_> = (1..len).collect();
            rig.send(&packet(14, 1)[..len], &cuts);
            let sent = rig.run();
            drop(sent);
            assert_eq!(rig.wire.take_sent().len(), usize::from(len == 26), "{len}");
            assert_eq!(rig.guest.poll_all().len(), 1);
            assert!(!rig.survive().1);
        }
    });
}

#[test]
fn short_frame() {
    every_layout(|layout| {
        let mut rig = TxRig::new(ring(layout, 32));
        for len in 0..14 {
            rig.send(&packet(len, 1), &[12]);
        }
        assert_eq!(rig.drain().len(), 0);
        assert_eq!(rig.counters.dropped(), 14);
        assert_eq!(rig.guest.poll_all().len(), 14);
    });
}

fn with_header(fields: [u16; 4], flags: u8, gso: u8, frame_len: usize) -> Vec<u8> {
    let mut bytes = packet(frame_len, 1);
    (bytes[0], bytes[1]) = (flags, gso);
    for (at, field) in fields.into_iter().enumerate() {
        bytes[2 + 2 * at..4 + 2 * at].copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

/// A segment size of 0, 1 or beyond any frame: dropped where it means nothing, and never without
/// bound.
#[test]
fn gso_size_zero() {
    every_layout(|layout| {
        for size in [0, 1, 65535] {
            for kind in [gso::TCPV4, gso::TCPV6, gso::UDP, gso::UDP_L4] {
                for hdr_len in [0, 54, 65535] {
                    let mut rig = TxRig::with(ring(layout, 8), HdrSize::Base, Offloads::all());
                    let fields = [hdr_len, size, 34, 16];
                    rig.send(&with_header(fields, flags::NEEDS_CSUM, kind, 60_000), &[12]);
                    let sent = rig.drain();
                    assert_eq!(sent.len() + rig.counters.dropped() as usize, 1);
                    assert!(size != 0 || sent.is_empty(), "{kind} without a size");
                    assert_eq!(rig.guest.poll_all().len(), 1);
                }
            }
        }
    });
}

/// Every flag and type with offsets around the frame's end: what leaves keeps to what was
/// negotiated.
#[test]
fn csum_gso_fuzz() {
    every_layout(|layout| {
        for offloads in [
            Offloads::empty(),
            Offloads::CSUM,
            Offloads::CSUM | Offloads::TSO4,
        ] {
            let mut rig = TxRig::with(ring(layout, 8), HdrSize::Base, offloads);
            let mut tried = 0;
            for kind in 0..=255 {
                for flag in [0, 1, 2, 3, 0x80, 0xff] {
                    for offsets in [[0, 0], [34, 16], [58, 0], [59, 0], [0xffff, 0xffff]] {
                        let fields = [0, 100, offsets[0], offsets[1]];
                        rig.send(&with_header(fields, flag, kind, 60), &[12]);
                        tried += 1;
                        for sent in rig.drain() {
                            check_sent(&sent, offloads);
                        }
                        assert_eq!(rig.guest.poll_all().len(), 1);
                    }
                }
            }
            assert_eq!(rig.counters.frames() + rig.counters.dropped(), tried);
        }
    });
}

fn check_sent(sent: &[u8], offloads: Offloads) {
    let partial = sent[0] & flags::NEEDS_CSUM != 0;
    assert_eq!(sent[0] & !flags::NEEDS_CSUM, 0, "a flag that means nothing");
    assert!(!partial || offloads.contains(Offloads::CSUM));
    assert!(sent[1] == gso::NONE || offloads.contains(Offloads::TSO4));
    let start = usize::from(u16::from_le_bytes([sent[6], sent[7]]));
    let offset = usize::from(u16::from_le_bytes([sent[8], sent[9]]));
    assert!(!partial || start + offset + 2 <= sent.len() - 12);
}

/// Writable in TX, in any place: dropped, given back, never written.
#[test]
fn wrong_direction() {
    every_layout(|layout| {
        for place in 0..3 {
            let mut rig = TxRig::new(ring(layout, 16));
            let mut pieces = rig.guest.memory().cut(&packet(60, 1), &[12, 30]);
            let room: Piece = rig.guest.memory().room(18);
            pieces[place] = room;
            rig.guest.add(&pieces);
            rig.guest.publish();
            let (used, broken) = rig.survive();
            assert!(!broken && used.len() == 1 && used[0].len == 0);
            assert_eq!(rig.dropped_for(DropCause::Direction), 1);
            assert_eq!(rig.guest.memory().gather(&[room], 18), [0xaa; 18]);
        }
    });
}

/// DPDK's virtio-user leaves the header's entry of a packed ring's table marked as writable, and
/// once a lap another one, too: they are read, and never written. That excuses no other shape.
#[test]
fn entries_of_a_packed_table_may_be_marked_writable() {
    every_layout(|layout| {
        for shape in [Shape::Direct, Shape::Indirect] {
            for (cuts, place) in [
                (&[12][..], 0),
                (&[12, 30], 0),
                (&[12, 30], 1),
                (&[12, 30], 2),
                (&[30], 0),
                (&[], 0),
                (&[6, 12], 0),
                (&[6, 12], 1),
            ] {
                let mut rig = TxRig::new(ring(layout, 16));
                let bytes = packet(60, 1);
                let mut pieces = rig.guest.memory().cut(&bytes, cuts);
                pieces[place].writable = true;
                rig.guest.add_as(shape, &pieces);
                rig.guest.publish();
                let good = layout == Layout::Packed && shape == Shape::Indirect;
                let sent = rig.drain();
                assert_eq!(sent.len(), usize::from(good), "{shape:?} {cuts:?} {place}");
                assert!(sent.iter().all(|sent| *sent == bytes));
                let used = rig.guest.poll_all();
                assert!(used.len() == 1 && used[0].len == 0);
                assert_eq!(rig.dropped_for(DropCause::Direction), u64::from(!good));
                assert_eq!(rig.guest.memory().gather(&pieces, bytes.len()), bytes);
            }
        }
    });
}
