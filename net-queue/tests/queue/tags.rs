//! VLAN tags are not part of the packet: neither of what the MTU bounds nor of the longest one that
//! IP knows.

use net_queue::header::HDR_LEN;
use net_queue::{DropCause, MAX_FRAME, RxConfig};

use crate::rig::{MERGE, RxRig, TxRig, every_ring, packet};

/// A packet of `len` bytes behind an Ethernet header with as many tags.
fn tagged(tags: usize, len: usize) -> Vec<u8> {
    let mut bytes = packet(14 + 4 * tags + len, 3);
    for tag in 0..tags {
        let at = HDR_LEN + 12 + 4 * tag;
        let kind = if tag + 1 < tags {
            [0x88, 0xa8]
        } else {
            [0x81, 0]
        };
        bytes[at..at + 2].copy_from_slice(&kind);
    }
    let at = HDR_LEN + 12 + 4 * tags;
    bytes[at..at + 2].copy_from_slice(&[8, 0]);
    bytes
}

#[test]
fn packet_of_the_mtu_is_delivered_behind_up_to_three_tags_net_cfg_08() {
    every_ring(64, |ring| {
        for mtu in [1500, 9000] {
            let config = RxConfig {
                mtu: Some(mtu),
                link_mtu: Some(mtu),
                ..MERGE
            };
            let mut rig = RxRig::new(ring, config);
            let mtu = usize::from(mtu);
            // The second round may be received directly.
            for round in 1..=2 {
                for tags in 0..=3 {
                    for len in [mtu, mtu + 1] {
                        rig.post(&[20, 10_000]);
                        rig.wire.inject(tagged(tags, len));
                        rig.drain();
                    }
                    let (_, bytes, _) = rig.take_frame().expect("the one that is short enough");
                    assert!(bytes == tagged(tags, mtu)[HDR_LEN..], "{tags}");
                    assert!(rig.take_frame().is_none());
                }
                assert_eq!(rig.dropped_for(DropCause::Mtu), 4 * round);
            }
            // What looks like a fourth is the packet's.
            rig.wire.inject(tagged(4, mtu));
            rig.drain();
            assert!(rig.take_frame().is_none());
        }
    });
}

#[test]
fn longest_packet_passes_behind_up_to_three_tags_both_ways() {
    assert_eq!(MAX_FRAME, 14 + 12 + 65_535);
    every_ring(64, |ring| {
        let (mut tx, mut rx) = (TxRig::new(ring), RxRig::new(ring, MERGE));
        for tags in 0..=3 {
            let bytes = tagged(tags, 65_535);
            tx.send(&bytes, &[HDR_LEN, 5000]);
            assert!(tx.drain() == [&bytes[..]], "{tags}");
            assert_eq!(tx.guest.poll_all().len(), 1);
            // The second one is received directly.
            for _ in 0..2 {
                rx.post(&[70_000]);
                rx.wire.inject(bytes.clone());
                rx.drain_one();
                let (_, frame, _) = rx.take_frame().expect("it is delivered");
                assert!(frame == bytes[HDR_LEN..], "{tags}");
            }
        }
        assert_eq!((tx.counters.dropped(), rx.counters.dropped()), (0, 0));
    });
}
