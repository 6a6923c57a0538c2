//! A hostile network: large frames whose headers lie, for a driver that takes none.

use net_queue::header::{HDR_LEN, HdrError, gso};
use net_queue::testing::{LargeFrame, Random};
use net_queue::{DropCause, Offloads, Stop};

use crate::rig::{MERGE, RxRig, every_ring, frame, packet};
use crate::rx_segmentation::{CSUM, delivered, taking, tcp};

/// Headers that lie: a counted drop each, and the next frame comes.
#[test]
fn large_frame_that_cannot_be_cut_is_one_counted_drop() {
    use HdrError as E;
    every_ring(64, |ring| {
        let large = LargeFrame {
            payload: 6000,
            ..tcp()
        };
        let rows: [(&[(usize, u8)], HdrError); 13] = [
            (&[(1, gso::UDP), (8, 6)], E::GsoNotNegotiated),
            (&[(1, gso::UDP_L4 | gso::ECN), (8, 6)], E::GsoNotNegotiated),
            (&[(1, gso::TCPV6)], E::GsoHeaders),
            (&[(1, gso::UDP_L4), (8, 6)], E::GsoHeaders),
            (&[(4, 0), (5, 0)], E::GsoSize),
            (&[(4, 255), (5, 255)], E::GsoSize),
            (&[(4, 1), (5, 0)], E::GsoSegments),
            (&[(6, 35)], E::GsoHeaders),
            (&[(6, 0), (7, 255)], E::CsumRange),
            (&[(8, 6)], E::GsoHeaders),
            (&[(HDR_LEN + 14, 0x44)], E::GsoHeaders),
            (&[(HDR_LEN + 23, 17)], E::GsoHeaders),
            (&[(HDR_LEN + 46, 0x40)], E::GsoHeaders),
        ];
        for (changes, cause) in rows {
            for on in [Offloads::empty(), CSUM] {
                let mut rig = RxRig::new(ring, taking(on, MERGE));
                for _ in 0..8 {
                    rig.post(&[2000]);
                }
                let mut bytes = large.bytes();
                for (at, value) in changes {
                    bytes[*at] = *value;
                }
                rig.wire.inject(bytes);
                rig.wire.inject(packet(70, 2));
                rig.drain();
                assert!(delivered(&mut rig) == [packet(70, 2)], "{changes:?}");
                assert_eq!(rig.dropped_for(DropCause::Header(cause)), 1, "{changes:?}");
                assert_eq!(rig.counters.segmented(), 0);
            }
        }
    });
}

/// Every cut and every changed byte of the headers: frames or counted drops, never more.
#[test]
fn spoiled_large_frames_are_survived() {
    every_ring(64, |ring| {
        let mut random = Random::new(11);
        let mut rig = RxRig::new(ring, taking(CSUM, MERGE));
        for _ in 0..200 {
            let mut large = LargeFrame::random(&mut random);
            large.payload = large.payload.min(3000);
            let mut bytes = large.bytes();
            let end = (HDR_LEN + large.headers()).min(bytes.len());
            for _ in 0..random.below(3) {
                bytes[random.below(end as u64) as usize] = random.next_u64() as u8;
            }
            if random.below(4) == 0 {
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            }
            rig.wire.inject(bytes);
            for _ in 0..60 {
                if rig.wire.waiting() == 0 && matches!(rig.run().stop, Stop::Backend) {
                    break;
                }
                while rig.guest.free() > 0 {
                    rig.post(&[3500]);
                }
                rig.run();
                rig.guest.poll_all();
            }
            assert_eq!(rig.wire.waiting(), 0);
        }
        rig.guest.poll_all();
        rig.post(&[2000]);
        rig.wire.inject(packet(99, 1));
        rig.drain();
        let last = delivered(&mut rig).pop().expect("the last one");
        assert_eq!(last[HDR_LEN..], frame(99, 1));
    });
}
