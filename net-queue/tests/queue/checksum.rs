//! Partial checksums that somebody does not take: the engines complete them.

use std::sync::Arc;

use net_queue::header::{HDR_LEN, TxRules, flags};
use net_queue::{DropCause, Offloads, RxConfig, TxConfig, TxEngine};

use crate::rig::{MERGE, RxRig, SINGLE, TxRig, every_ring, packet};

const START: u16 = 34;
const OFFSET: u16 = 6;
const FIELD: usize = HDR_LEN + (START + OFFSET) as usize;

/// A frame of `len` bytes behind a header that asks for its checksum from `START` on.
fn partial(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = packet(len, seed);
    bytes[0] = flags::NEEDS_CSUM;
    bytes[6..8].copy_from_slice(&START.to_le_bytes());
    bytes[8..10].copy_from_slice(&OFFSET.to_le_bytes());
    bytes
}

/// The same as it has to look with its checksum, as RFC 1071 defines it, behind a header that asks
/// for nothing.
fn completed(mut bytes: Vec<u8>) -> Vec<u8> {
    let words = bytes[HDR_LEN + usize::from(START)..].chunks(2);
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from))
        .sum();
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    bytes[FIELD..FIELD + 2].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    bytes[..HDR_LEN].fill(0);
    bytes
}

#[test]
fn a_driver_without_guest_csum_gets_whole_checksums_net_hdr_20() {
    every_ring(64, |ring| {
        for config in [MERGE, SINGLE] {
            let mut rig = RxRig::new(ring, config);
            // The long ones are received directly from the second on, but for what does not fit.
            for (seed, len) in (0..).zip([42, 60, 61, 1514, 5000, 5001, 9000, 333]) {
                rig.post(&[77, 10_000]);
                rig.wire.inject(partial(len, seed));
                rig.drain_one();
                let (header, bytes, _) = rig.take_frame().expect("it is delivered");
                let expected = completed(partial(len, seed));
                assert_eq!(header[..HDR_LEN - 2], [0; HDR_LEN - 2], "{len}");
                assert_eq!(bytes, expected[HDR_LEN..], "{len}");
            }
            assert_eq!(rig.counters.dropped(), 0);
        }
    });
}

/// The field lies in the last of the buffers, or in private memory.
#[test]
fn a_checksum_is_stored_wherever_its_field_came_to_lie() {
    every_ring(64, |ring| {
        for cut in [FIELD - 1, FIELD, FIELD + 1, FIELD + 2] {
            let mut rig = RxRig::new(ring, MERGE);
            rig.post(&[6000]);
            rig.wire.inject(packet(5000, 9));
            rig.drain();
            rig.take_frame().expect("a long one");
            rig.post(&[cut]);
            rig.wire.inject(partial(500, 1));
            rig.run();
            rig.post(&[1000]);
            rig.drain();
            let (_, bytes, chains) = rig.take_frame().expect("it is delivered");
            assert_eq!(bytes, completed(partial(500, 1))[HDR_LEN..], "{cut}");
            assert_eq!(chains.len(), 2);
        }
    });
}

#[test]
fn fields_outside_the_frame_are_no_reason_to_write_there() {
    every_ring(16, |ring| {
        let mut rig = RxRig::new(ring, MERGE);
        let mut bytes = partial(60, 1);
        for start in [60u16, 55, 0, 13, 0xffff] {
            rig.post(&[100]);
            bytes[6..8].copy_from_slice(&start.to_le_bytes());
            rig.wire.inject(bytes.clone());
        }
        rig.drain();
        let refused = rig
            .counters
            .drops(DropCause::Header(net_queue::header::HdrError::CsumRange));
        assert_eq!((rig.counters.dropped(), refused), (5, 5));
        assert_eq!(rig.guest.poll_all(), []);
    });
}

#[test]
fn a_driver_that_takes_partial_checksums_gets_them_as_they_are() {
    let config = RxConfig {
        offloads: Offloads::CSUM,
        ..MERGE
    };
    every_ring(16, |ring| {
        let mut rig = RxRig::new(ring, config);
        rig.post(&[2000]);
        rig.wire.inject(partial(1000, 1));
        rig.drain();
        let (header, bytes, _) = rig.take_frame().expect("it is delivered");
        let expected = partial(1000, 1);
        assert_eq!(header[..10], expected[..10]);
        assert_eq!(bytes, expected[HDR_LEN..]);
    });
}

#[test]
fn a_backend_that_takes_no_partial_checksum_gets_whole_ones_net_hdr_03() {
    every_ring(64, |ring| {
        let mut rig = TxRig::new(ring);
        let rules = TxRules::new(Offloads::CSUM).completing();
        let counters = Arc::default();
        rig.engine = TxEngine::new(rig.guest.device(), TxConfig::new(rules), counters);
        for (seed, len) in (0..).zip([42, 60, 61, 1514, 4084, 4085, 9001, 65_553]) {
            rig.send(&partial(len, seed), &[7, HDR_LEN, FIELD + 1]);
            assert_eq!(rig.drain(), [completed(partial(len, seed))], "{len}");
            // What the driver wrote is the driver's.
            rig.send(&packet(len, seed), &[7]);
            assert_eq!(rig.drain(), [packet(len, seed)], "{len}");
        }
    });
}
