//! Receive right after a long frame: frames land straight in the driver's buffers and only what
//! does not fit is copied. What holds for copied frames holds here.

use net_queue::header::{HDR_LEN, flags};
use net_queue::ring::RingConfig;
use net_queue::testing::ScriptedLimit;
use net_queue::{DropCause, FrameFilter, RxConfig, Stop};

use crate::rig::{MERGE, PLENTY, RxRig, SINGLE, every_layout, every_ring, frame, packet, ring};

/// A queue that has just received a long frame and has no chain left.
fn expecting_long_frames(ring: RingConfig, config: RxConfig) -> RxRig {
    let mut rig = RxRig::new(ring, config);
    rig.post(&[6000]);
    rig.wire.inject(packet(5000, 9));
    rig.drain();
    assert_eq!(rig.take_frame().expect("it fits").1, frame(5000, 9));
    let _ = rig.wire.take_rooms();
    rig
}

#[test]
fn only_after_a_long_frame_and_not_for_ever() {
    every_ring(64, |config| {
        let mut rig = expecting_long_frames(config, MERGE);
        let mut rooms = Vec::new();
        for n in 0..40 {
            rig.post(&[1000]);
            rig.wire.inject(packet(60, n));
            rig.drain_one();
            assert_eq!(rig.take_frame().expect("a frame").1, frame(60, n));
            rooms.extend(rig.wire.take_rooms());
        }
        let (direct, copied) = (rooms[0], rooms[39]);
        assert_eq!(direct, copied + 1000);
        let turn = rooms.partition_point(|room| *room == direct);
        assert!(turn > 1 && rooms[turn..].iter().all(|room| *room == copied));
    });
}

/// Short ones are those of 4096 bytes with their header.
#[test]
fn only_a_frame_too_long_to_be_copied_is_long() {
    every_ring(64, |config| {
        for (len, direct) in [(4096, 0), (4097, 1000)] {
            let mut rig = RxRig::new(config, MERGE);
            rig.post(&[6000]);
            rig.wire.inject(packet(len - HDR_LEN, 1));
            rig.drain();
            rig.post(&[1000]);
            rig.wire.inject(packet(60, 2));
            rig.drain();
            let rooms = rig.wire.take_rooms();
            // The first one is received as if all were short.
            let room = rooms.iter().find(|room| **room != rooms[0]);
            let room = room.unwrap_or(&rooms[0]);
            assert_eq!(room - rooms[0], direct, "{len} {rooms:?}");
        }
    });
}

#[test]
fn frame_is_spread_over_chains_and_pieces() {
    every_ring(64, |config| {
        for len in [14, 37, 38, 39, 87, 88, 89, 188, 500] {
            let mut rig = expecting_long_frames(config, MERGE);
            for lens in [&[3, 9, 38][..], &[50], &[0, 100], &[1000]] {
                rig.post(lens);
            }
            rig.wire.inject(packet(len, 3));
            rig.drain();
            let (header, bytes, chains) = rig.take_frame().expect("a frame");
            assert_eq!(
                (bytes, usize::from(header[10])),
                (frame(len, 3), chains.len())
            );
        }
    });
}

/// The rest that did not fit waits in private memory, and the next frame behind it.
#[test]
fn frame_waits_for_chains() {
    every_ring(64, |config| {
        let mut rig = expecting_long_frames(config, MERGE);
        rig.post(&[20]);
        rig.wire.inject(packet(500, 1));
        rig.wire.inject(packet(60, 2));
        for _ in 0..4 {
            assert!(matches!(rig.run().stop, Stop::Driver));
            assert_eq!(rig.guest.poll_all(), []);
            rig.post(&[100]);
        }
        rig.post(&[150]);
        rig.post(&[150]);
        rig.drain();
        assert_eq!(rig.take_frame().expect("the long one").1, frame(500, 1));
        assert_eq!(rig.take_frame().expect("the short one").1, frame(60, 2));
        assert_eq!(rig.counters.dropped(), 0);
    });
}

#[test]
fn without_merging_a_frame_beyond_its_chain_is_dropped() {
    every_ring(64, |config| {
        let mut rig = expecting_long_frames(config, SINGLE);
        rig.post(&[1000]);
        rig.post(&[1000]);
        rig.wire.inject(packet(988, 1));
        rig.wire.inject(packet(989, 2));
        rig.wire.inject(packet(60, 3));
        rig.drain();
        assert_eq!(
            rig.take_frame().expect("it fills the chain").1,
            frame(988, 1)
        );
        assert_eq!(rig.take_frame().expect("the short one").1, frame(60, 3));
        assert_eq!(rig.dropped_for(DropCause::NoRoom), 1);
    });
}

struct OnlyFrom(u8);

impl FrameFilter for OnlyFrom {
    fn admit(&self, head: &[u8]) -> bool {
        head.len() <= 18 && head.get(6) == Some(&self.0)
    }
}

/// Frames that are not for the driver cost no chain, wherever their first bytes lie.
#[test]
fn refused_frames_cost_no_chain() {
    every_layout(|layout| {
        for first in [1, 12, 13, 20, 29, 30, 31, 400] {
            let mut rig = expecting_long_frames(ring(layout, 64), MERGE);
            rig.post(&[first, 11]);
            rig.post(&[3000]);
            let with = |at: usize, value: u8, len| {
                let mut bytes = packet(len, 4);
                bytes[HDR_LEN + 6] = 1;
                bytes[at] = value;
                bytes
            };
            rig.wire.inject(with(0, flags::NEEDS_CSUM, 100));
            rig.wire.inject(with(HDR_LEN + 6, 2, 100));
            rig.wire.inject(vec![0; 11]);
            rig.wire.inject(with(1, 9, 100));
            let good = with(HDR_LEN + 6, 1, 1000);
            rig.wire.inject(good.clone());
            let stop = rig.run_with(Some(&OnlyFrom(1)), 0, PLENTY).stop;
            assert!(matches!(stop, Stop::Driver), "{stop:?}");
            let (_, bytes, chains) = rig.take_frame().expect("the good one");
            assert_eq!((&bytes[..], chains.len()), (&good[HDR_LEN..], 2));
            assert_eq!(rig.counters.dropped(), 4);
        }
    });
}

#[test]
fn limited_frame_is_held_and_charged_once() {
    every_ring(64, |config| {
        let mut rig = expecting_long_frames(config, MERGE);
        for _ in 0..8 {
            rig.post(&[100]);
        }
        rig.wire.inject(packet(300, 1));
        rig.limit = ScriptedLimit::holding_after(0, 77);
        assert!(matches!(rig.run().stop, Stop::Limited(77)));
        assert_eq!(rig.guest.poll_all(), []);
        rig.drain();
        assert_eq!(rig.take_frame().expect("the frame").1, frame(300, 1));
        assert_eq!(rig.counters.frames(), 2);
    });
}

/// A link whose MTU has grown: its frames find room for the longest one from then on.
#[test]
fn room_is_for_frames_of_the_link_until_a_longer_one_comes() {
    every_ring(64, |config| {
        let link = RxConfig {
            link_mtu: Some(5000),
            ..MERGE
        };
        let mut rig = RxRig::new(config, link);
        for _ in 0..60 {
            rig.post(&[1000]);
        }
        // Two headers and a VLAN tag around the MTU.
        let longest = 5000 + 18;
        for len in [longest, longest, 5000, longest + 1, 60] {
            rig.wire.inject(packet(len, 1));
            rig.drain_one();
            assert_eq!(rig.take_frame().expect("it fits").1, frame(len, 1));
        }
        let rooms = rig.wire.take_rooms();
        let direct: Vec<_> = rooms.iter().map(|room| room - rooms[0]).collect();
        // At first nothing, then the chains of 5030 bytes, and all that are left at last.
        assert_eq!(direct, [0, 6000, 6000, 6000, (60 - 4 * 6) * 1000]);
    });
}
