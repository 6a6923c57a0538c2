//! Frames that are to be segmented: what a router hands on, and which family a driver takes.

use net_queue::header::{HDR_LEN, HdrError, HdrSize, flags, gso};
use net_queue::testing::Shape;
use net_queue::{DropCause, Offloads, RxConfig};

use crate::rig::{MERGE, RxRig, TxRig, every_ring};

const ALL: RxConfig = RxConfig {
    offloads: Offloads::all(),
    ..MERGE
};
const TYPES: [(u8, bool); 6] = [
    (gso::TCPV4, false),
    (gso::TCPV6, true),
    (gso::UDP_L4, false),
    (gso::UDP_L4, true),
    (gso::UDP, false),
    (gso::TCPV4 | gso::ECN, false),
];

/// A frame of `payload` bytes behind whole headers.
pub(crate) struct Large {
    pub(crate) bytes: Vec<u8>,
    start: usize,
    end: usize,
    field: usize,
}

impl Large {
    /// To be segmented as `gso_type`, behind as many VLAN tags, with `flags` and no checksum
    /// fields.
    pub(crate) fn new(gso_type: u8, v6: bool, tags: usize, payload: usize, flags: u8) -> Self {
        let udp = matches!(gso_type, gso::UDP | gso::UDP_L4);
        let l4_len = if udp { 8 } else { 32 };
        let mut frame = vec![2; 12];
        for tag in 0..tags {
            frame.extend(if tag + 1 < tags {
                [0x88, 0xa8]
            } else {
                [0x81, 0]
            });
            frame.extend([0, 7]);
        }
        frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        let protocol = if udp { 17 } else { 6 };
        let segment = l4_len + payload;
        if v6 {
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((segment as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend([0xfd; 32]);
        } else {
            frame.extend([0x45, 0]);
            frame.extend((20 + segment as u16).to_be_bytes());
            frame.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let start = frame.len();
        let mut l4 = vec![0x11; l4_len];
        if udp {
            l4[4..6].copy_from_slice(&(segment as u16).to_be_bytes());
        } else {
            l4[12] = 0x80;
        }
        frame.extend(l4);
        frame.extend((0..payload).map(|at| (at % 251) as u8));
        let mut bytes = vec![0; HDR_LEN];
        bytes[..2].copy_from_slice(&[flags, gso_type]);
        bytes[4..6].copy_from_slice(&1448u16.to_le_bytes());
        bytes.extend(frame);
        Self {
            bytes,
            start,
            end: start + l4_len,
            field: start + if udp { 6 } else { 16 },
        }
    }

    /// The same as it must look when its checksum is left to others.
    fn partial(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[0] = flags::NEEDS_CSUM;
        let offset = self.field - self.start;
        for (at, value) in [(2, self.end), (6, self.start), (8, offset)] {
            bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
        }
        let frame = &bytes[HDR_LEN..];
        let v6 = frame[..self.start].len() > 40 && frame[self.start - 40] == 0x60;
        let addresses = &frame[self.start - if v6 { 32 } else { 8 }..self.start];
        let words = addresses.chunks(2);
        let sum: usize = words
            .map(|word| usize::from(word[0]) << 8 | usize::from(word[1]))
            .sum();
        let protocol = if self.field - self.start == 6 { 17 } else { 6 };
        let sum = sum + protocol + (frame.len() - self.start);
        let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
        let field = HDR_LEN + self.field;
        bytes[field..field + 2].copy_from_slice(&(folded as u16).to_be_bytes());
        bytes
    }
}

#[test]
fn large_frame_with_a_whole_checksum_leaves_with_a_partial_one_net_hdr_11() {
    every_ring(64, |ring| {
        let mut rig = TxRig::with(ring, HdrSize::Base, Offloads::all());
        for (gso_type, v6) in TYPES {
            for tags in 0..=3 {
                for flags in [0, flags::DATA_VALID] {
                    for payload in [2000, 4040, 9000] {
                        let large = Large::new(gso_type, v6, tags, payload, flags);
                        for cuts in [&[][..], &[HDR_LEN], &[5, 40, HDR_LEN + large.field + 1]] {
                            rig.send(&large.bytes, cuts);
                            let sent = rig.drain();
                            let expected = large.partial();
                            assert!(
                                sent.len() == 1 && sent[0][..160] == expected[..160],
                                "{gso_type:#x} {v6} {tags} {payload} {cuts:?}: {:?}",
                                rig.counters
                            );
                            assert!(sent[0] == expected, "payload");
                            assert_eq!(rig.guest.poll_all().len(), 1);
                        }
                    }
                }
            }
        }
        assert_eq!(rig.counters.dropped(), 0);
    });
}

/// The frame in guest memory is the driver's: the sum is written into a copy.
#[test]
fn frame_in_guest_memory_stays_as_it_is() {
    every_ring(64, |ring| {
        let mut rig = TxRig::with(ring, HdrSize::Base, Offloads::all());
        let large = Large::new(gso::TCPV4, false, 1, 30_000, 0);
        let pieces = rig.guest.memory().cut(&large.bytes, &[HDR_LEN, 100]);
        rig.guest.add_as(Shape::Direct, &pieces);
        rig.guest.publish();
        assert!(rig.drain() == [large.partial()]);
        let left = rig.guest.memory().gather(&pieces, large.bytes.len());
        assert!(left == large.bytes);
    });
}

#[test]
fn large_frame_whose_headers_say_nothing_is_dropped() {
    every_ring(64, |ring| {
        let mut tx = TxRig::with(ring, HdrSize::Base, Offloads::all());
        let mut rx = RxRig::new(ring, ALL);
        let cause = DropCause::Header(HdrError::GsoWithoutCsum);
        let mismatched = [
            Large::new(gso::TCPV4, true, 0, 5000, 0),
            Large::new(gso::TCPV6, false, 2, 5000, 0),
            Large::new(gso::TCPV4, false, 4, 5000, 0),
        ];
        for large in &mismatched {
            tx.send(&large.bytes, &[]);
            assert!(tx.drain().is_empty());
            rx.post(&[10_000]);
            rx.wire.inject(large.bytes.clone());
            rx.drain();
        }
        assert_eq!((tx.dropped_for(cause), rx.dropped_for(cause)), (3, 3));
        assert_eq!(rx.guest.poll_all(), []);
    });
}

#[test]
fn verified_large_frame_reaches_the_driver_with_a_partial_checksum_net_hdr_22() {
    every_ring(64, |ring| {
        for lens in [&[70_000][..], &[20, 31, 40, 3, 70_000]] {
            for (gso_type, v6) in TYPES {
                for tags in 0..=3 {
                    for flags in [0, flags::DATA_VALID] {
                        let mut rig = RxRig::new(ring, ALL);
                        let large = Large::new(gso_type, v6, tags, 6000, flags);
                        // The second is received directly.
                        for _ in 0..2 {
                            rig.post(lens);
                            rig.wire.inject(large.bytes.clone());
                            rig.drain_one();
                            let (header, bytes, _) = rig.take_frame().expect("it is delivered");
                            let expected = large.partial();
                            assert_eq!(header[..10], expected[..10], "{gso_type:#x} {tags}");
                            assert!(bytes == expected[HDR_LEN..]);
                        }
                    }
                }
            }
        }
    });
}

/// The header is written once, and what is held is looked at again.
#[test]
fn verified_large_frame_that_waits_for_buffers_gets_there_too() {
    every_ring(64, |ring| {
        let mut rig = RxRig::new(ring, ALL);
        let large = Large::new(gso::TCPV6, true, 1, 6000, flags::DATA_VALID);
        rig.post(&[90]);
        rig.wire.inject(large.bytes.clone());
        for _ in 0..3 {
            rig.run();
            rig.post(&[3000]);
        }
        rig.drain();
        let (header, bytes, _) = rig.take_frame().expect("it is delivered");
        assert_eq!(header[..10], large.partial()[..10]);
        assert!(bytes == large.partial()[HDR_LEN..]);
    });
}

/// One GSO type stands for two features.
#[test]
fn udp_segments_of_a_family_that_was_not_accepted_come_one_by_one_net_hdr_21() {
    every_ring(64, |ring| {
        let both = Offloads::USO4 | Offloads::USO6;
        for (on, takes) in [(Offloads::USO4, false), (Offloads::USO6, true)] {
            for tags in 0..=3 {
                for whole in [false, true] {
                    let config = RxConfig {
                        offloads: Offloads::all().difference(both) | on,
                        ..MERGE
                    };
                    let mut rig = RxRig::new(ring, config);
                    for _ in 0..5 {
                        rig.post(&[10_000]);
                    }
                    let large = |v6| Large::new(gso::UDP_L4, v6, tags, 5000, 0);
                    let bytes = |v6| {
                        if whole {
                            large(v6).bytes
                        } else {
                            large(v6).partial()
                        }
                    };
                    rig.wire.inject(bytes(!takes));
                    rig.wire.inject(bytes(takes));
                    rig.drain();
                    for _ in 0..4 {
                        let (header, frame, _) = rig.take_frame().expect("a part of the other");
                        let headers = large(!takes).end;
                        assert_eq!((header[0], header[1]), (flags::NEEDS_CSUM, gso::NONE));
                        assert!(frame.len() <= headers + 1448);
                    }
                    let (_, frame, _) = rig.take_frame().expect("the one that it takes");
                    assert!(frame == large(takes).partial()[HDR_LEN..]);
                    assert!(rig.take_frame().is_none());
                    assert_eq!(rig.counters.dropped(), 0);
                }
            }
        }
    });
}
