//! Each refusal by its name, and the bytes that earn it.

mod common;

use std::io;

use common::{reseal, sample, sample_of};
use snapshot::format::{HEADER_LEN, MAX_PAYLOAD_LEN};
use snapshot::state::{
    MAX_LIMITERS, MAX_MAC_ENTRIES, MAX_QUEUE_SIZE, MAX_QUEUES, StoppedQueueState,
};
use snapshot::{LATEST, NetState, Snapshot, SnapshotError};

fn sealed() -> Vec<u8> {
    Snapshot::seal(&sample()).unwrap().into_bytes()
}

fn refusal(bytes: Vec<u8>) -> SnapshotError {
    Snapshot::from_bytes(bytes).expect_err("accepted")
}

#[test]
fn what_was_sealed_opens() {
    let snapshot = Snapshot::seal(&sample()).unwrap();
    assert_eq!(snapshot.id(), "net0");
    assert_eq!(snapshot.open().unwrap(), sample());
    assert_eq!(
        Snapshot::from_bytes(snapshot.as_bytes().to_vec()).unwrap(),
        snapshot
    );
}

#[test]
fn an_empty_state_is_a_state() {
    let empty = Snapshot::seal(&NetState::default()).unwrap();
    assert_eq!(empty.open().unwrap(), NetState::default());
}

#[test]
fn a_foreign_file_is_named() {
    let mut bytes = sealed();
    bytes[0] ^= 1;
    assert!(matches!(refusal(bytes), SnapshotError::Magic { .. }));
}

#[test]
fn a_foreign_architecture_is_named() {
    let mut bytes = sealed();
    bytes[8..10].copy_from_slice(&8_u16.to_le_bytes());
    assert!(matches!(
        refusal(reseal(bytes)),
        SnapshotError::Architecture { found: 8, .. }
    ));
}

#[test]
fn unknown_releases_are_refused_to_read_and_to_write() {
    for release in [0, LATEST + 1, u16::MAX] {
        let mut bytes = sealed();
        bytes[10..12].copy_from_slice(&release.to_le_bytes());
        let refused =
            |error| matches!(error, SnapshotError::Release { found, .. } if found == release);
        assert!(refused(refusal(reseal(bytes))));
        assert!(refused(Snapshot::seal_for(&sample(), release).unwrap_err()));
    }
}

type Change = fn(&mut NetState);

#[test]
fn a_downgrade_is_refused_by_the_name_of_what_it_would_lose() {
    let cases: [(&str, Change); 3] = [
        ("features_offered_high", |s| s.features_offered_high = 1),
        ("features_acked_high", |s| s.features_acked_high = 1 << 63),
        ("stopped_queues", |s| {
            s.stopped_queues.push(StoppedQueueState::default());
        }),
    ];
    for (name, change) in cases {
        let mut state = sample_of(1);
        assert!(Snapshot::seal_for(&state, 1).is_ok());
        change(&mut state);
        match Snapshot::seal_for(&state, 1).expect_err(name) {
            SnapshotError::Downgrade { field, release } => assert_eq!((field, release), (name, 1)),
            other => panic!("{name}: {other}"),
        }
        assert!(Snapshot::seal_for(&state, LATEST).is_ok());
    }
}

#[test]
fn a_header_cannot_ask_for_more_memory_than_a_state_needs() {
    let mut bytes = sealed();
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        refusal(bytes.clone()),
        SnapshotError::Oversize { found: 0xffff_ffff }
    ));
    let from_stream = Snapshot::read_from(&mut bytes.as_slice()).unwrap_err();
    assert!(matches!(from_stream, SnapshotError::Oversize { .. }));
}

#[test]
fn every_truncation_is_refused() {
    let whole = sealed();
    for len in 0..whole.len() {
        let cut = whole[..len].to_vec();
        let from_stream = Snapshot::read_from(&mut cut.as_slice()).unwrap_err();
        for error in [refusal(cut), from_stream] {
            match error {
                SnapshotError::ShortHeader { found } => assert_eq!(found, len),
                SnapshotError::Truncated { found, .. } => assert_eq!(found + HEADER_LEN, len),
                other => panic!("{len}: {other}"),
            }
        }
    }
}

#[test]
fn every_truncation_with_a_good_checksum_is_refused() {
    let whole = sealed();
    for len in HEADER_LEN..whole.len() {
        let error = refusal(reseal(whole[..len].to_vec()));
        assert!(matches!(error, SnapshotError::Malformed { .. }), "{len}");
    }
}

#[test]
fn bytes_behind_the_payload_are_refused() {
    let mut bytes = sealed();
    bytes.extend([0; 3]);
    assert!(matches!(
        refusal(bytes.clone()),
        SnapshotError::TrailingBytes { count: 3 }
    ));
    assert!(matches!(
        refusal(reseal(bytes)),
        SnapshotError::Unconsumed { count: 3 }
    ));
}

#[test]
fn any_flipped_bit_is_refused() {
    let whole = sealed();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refusal(bytes);
    }
}

#[test]
fn any_flipped_bit_of_the_payload_breaks_the_checksum() {
    let mut bytes = sealed();
    *bytes.last_mut().unwrap() ^= 0x80;
    assert!(matches!(refusal(bytes), SnapshotError::Checksum { .. }));
}

#[test]
fn the_largest_device_fits() {
    let mut state = sample();
    let mut queue = state.queues[1].clone();
    queue.in_flight = vec![0; 10].into();
    state.queues = vec![queue; MAX_QUEUES].into();
    state.queue_sizes = vec![256; MAX_QUEUES].into();
    state.stopped_queues = vec![state.stopped_queues[0]; MAX_QUEUES].into();
    state.limiters = vec![state.limiters[1]; MAX_LIMITERS].into();
    state.control.unicast = vec![[1; 6]; MAX_MAC_ENTRIES].into();
    state.control.multicast = vec![[1; 6]; MAX_MAC_ENTRIES].into();
    let sealed = Snapshot::seal(&state).unwrap();
    assert!(sealed.as_bytes().len() < MAX_PAYLOAD_LEN / 2);
    assert_eq!(sealed.open().unwrap(), state);
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let mut state = sample();
    state.queues = vec![state.queues[1].clone(); MAX_QUEUES].into();
    for queue in &mut state.queues {
        queue.in_flight = vec![0; MAX_QUEUE_SIZE].into();
    }
    assert!(matches!(
        Snapshot::seal(&state),
        Err(SnapshotError::Oversize { .. })
    ));
}

#[test]
fn snapshots_follow_each_other_on_one_stream() {
    let first = Snapshot::seal(&sample()).unwrap();
    let second = Snapshot::seal(&NetState::default()).unwrap();
    let mut stream = Vec::new();
    first.write_to(&mut stream).unwrap();
    second.write_to(&mut stream).unwrap();
    let mut stream = stream.as_slice();
    assert_eq!(Snapshot::read_from(&mut stream).unwrap(), first);
    assert_eq!(Snapshot::read_from(&mut stream).unwrap(), second);
    assert!(matches!(
        Snapshot::read_from(&mut stream),
        Err(SnapshotError::ShortHeader { found: 0 })
    ));
}

struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_stream_is_the_cause_of_its_error() {
    use std::error::Error;
    let read = Snapshot::read_from(&mut Broken).unwrap_err();
    let write = Snapshot::seal(&sample())
        .unwrap()
        .write_to(&mut Broken)
        .unwrap_err();
    assert!(matches!(read, SnapshotError::Read(_)) && read.source().is_some());
    assert!(matches!(write, SnapshotError::Write(_)) && write.source().is_some());
}
