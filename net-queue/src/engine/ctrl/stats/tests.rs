use super::*;
use crate::counters::QueueCounters;
use crate::engine::ctrl::Ack;
use crate::refusal::Refusal;

/// Bytes of an entry of each type, with its header (checklist L3).
const SIZES: [(StatsTypes, usize); 9] = [
    (StatsTypes::RX_BASIC, 56),
    (StatsTypes::RX_CSUM, 40),
    (StatsTypes::RX_GSO, 40),
    (StatsTypes::RX_SPEED, 24),
    (StatsTypes::TX_BASIC, 56),
    (StatsTypes::TX_CSUM, 24),
    (StatsTypes::TX_GSO, 56),
    (StatsTypes::TX_SPEED, 24),
    (StatsTypes::CVQ, 24),
];

fn reply(types: StatsTypes, stats: &QueueStats, room: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, 1 + room);
    reply.push_stats(StatsRequest { queue: 5, types }, stats);
    reply.finish(Ack::Ok);
    bytes.split_off(1)
}

/// The numbers of one entry, after its header.
fn numbers(types: StatsTypes, stats: &QueueStats) -> Vec<u64> {
    let bytes = reply(types, stats, 1000);
    let (words, _) = bytes[8..].as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

#[test]
fn net_cvq_29_every_entry_says_its_type_its_queue_and_its_size() {
    for (types, size) in SIZES {
        let number = types.bits().trailing_zeros() as u8;
        let bytes = reply(types, &QueueStats::default(), 1000);
        assert_eq!(bytes[..8], [number, 0, 5, 0, 0, 0, size as u8, 0]);
        assert_eq!(bytes.len(), size, "{types:?}");
    }
    assert_eq!(
        SIZES
            .map(|(types, _)| types)
            .into_iter()
            .collect::<StatsTypes>(),
        StatsTypes::all()
    );
}

#[test]
fn net_cvq_29_what_finds_no_room_is_cut_and_nothing_else_changes() {
    let whole = reply(StatsTypes::RX, &QueueStats::default(), 1000);
    for room in 0..whole.len() + 3 {
        let cut = reply(StatsTypes::RX, &QueueStats::default(), room);
        assert_eq!(cut, whole[..room.min(whole.len())]);
    }
}

#[test]
fn counters_stand_where_the_specification_has_them() {
    let counters = QueueCounters::default();
    for _ in 0..3 {
        counters.add_kick();
    }
    counters.add_batch(10, 5000);
    counters.add_published(10, true);
    counters.add_drop(DropCause::NoRoom);
    counters.add_drop(DropCause::TooShort);
    counters.add_drop(DropCause::Filtered);
    let mut stats = counters.stats();
    (stats.needs_csum, stats.data_valid) = (4, 1);
    (stats.gso_frames, stats.gso_bytes) = (2, 3000);
    let expected: [(StatsTypes, &[u64]); 8] = [
        (StatsTypes::RX_BASIC, &[3, 10, 5000, 1, 3, 1]),
        (StatsTypes::RX_CSUM, &[1, 4, 5, 0]),
        (StatsTypes::RX_GSO, &[2, 3000, 0, 0]),
        (StatsTypes::RX_SPEED, &[0, 0]),
        (StatsTypes::TX_BASIC, &[3, 10, 5000, 1, 3, 1]),
        (StatsTypes::TX_CSUM, &[6, 4]),
        (StatsTypes::TX_GSO, &[2, 3000, 0, 0, 2, 3000]),
        (StatsTypes::TX_SPEED, &[0, 0]),
    ];
    for (types, counted) in expected {
        assert_eq!(numbers(types, &stats), counted, "{types:?}");
    }
}

#[test]
fn net_cvq_30_commands_are_counted_with_the_one_that_asks_and_wrap() {
    let counters = QueueCounters::default();
    counters.add_batch(2, 8);
    counters.add_refusal(Refusal::Value);
    assert_eq!(numbers(StatsTypes::CVQ, &counters.stats()), [3, 2]);
    let mut stats = QueueStats::default();
    stats.frames = u64::MAX;
    assert_eq!(numbers(StatsTypes::CVQ, &stats), [0, 0]);
}

#[test]
fn net_cvq_28_unknown_types_are_found_in_any_entry() {
    let entry = |types: u64| {
        let mut entry = [0xaa; REQUEST_LEN];
        entry[8..].copy_from_slice(&types.to_le_bytes());
        entry
    };
    let known = StatsTypes::all().bits();
    for bit in 0..64 {
        let types = 1 << bit;
        let entries = [entry(known), entry(types)];
        let requests = StatsRequests::new(&entries);
        assert_eq!(requests.is_ok(), known & types != 0, "bit {bit}");
        assert!(requests.is_ok() || requests == Err(types));
    }
    let entries = [entry(known), entry(0)];
    let requests = StatsRequests::new(&entries).map(|all| all.iter().collect::<Vec<_>>());
    let request = |types| StatsRequest {
        queue: 0xaaaa,
        types,
    };
    assert_eq!(
        requests,
        Ok(vec![
            request(StatsTypes::all()),
            request(StatsTypes::empty())
        ])
    );
}

#[test]
fn acks_have_their_wire_values() {
    assert_eq!([Ack::Ok.byte(), Ack::Err.byte()], [0, 1]);
}
