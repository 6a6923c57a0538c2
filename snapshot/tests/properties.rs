//! For all states and all bytes: what is sealed opens, and what is hostile is refused or harmless.

mod common;

use common::{reseal, sample};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use snapshot::format::HEADER_LEN;
use snapshot::state::{
    BucketState, ConfigState, ControlState, LimiterState, NetState, NotfCoalState, QueueLayout,
    QueueState, RssState, StoppedQueueState,
};
use snapshot::{LATEST, Snapshot, SnapshotError};

fn notf_coal() -> impl Strategy<Value = NotfCoalState> {
    any::<(u32, u32)>().prop_map(|(max_packets, max_usecs)| NotfCoalState {
        max_packets,
        max_usecs,
    })
}

fn config() -> impl Strategy<Value = ConfigState> {
    let word = any::<(u32, u32, u32, u32)>();
    (any::<[u8; 6]>(), any::<[u16; 4]>(), any::<[u8; 2]>(), word).prop_map(
        |(mac, half, byte, word)| ConfigState {
            mac,
            status: half[0],
            max_virtqueue_pairs: half[1],
            mtu: half[2],
            rss_max_indirection_table_length: half[3],
            duplex: byte[0],
            rss_max_key_size: byte[1],
            speed: word.0,
            supported_hash_types: word.1,
            supported_tunnel_types: word.2,
            generation: word.3,
        },
    )
}

fn queue() -> impl Strategy<Value = QueueState> {
    (
        any::<[u16; 4]>(),
        any::<[bool; 5]>(),
        any::<[u64; 3]>(),
        any::<Option<u16>>(),
        vec(any::<u16>(), 0..8),
        notf_coal(),
    )
        .prop_map(
            |(half, flag, addr, used, in_flight, notf_coal)| QueueState {
                index: half[0],
                max_size: half[1],
                size: half[2],
                avail: half[3],
                ready: flag[0],
                event_idx: flag[1],
                avail_wrap: flag[2],
                used_wrap: flag[3],
                layout: if flag[4] {
                    QueueLayout::Packed
                } else {
                    QueueLayout::Split
                },
                desc_addr: addr[0],
                driver_addr: addr[1],
                device_addr: addr[2],
                used,
                in_flight: in_flight.into(),
                notf_coal,
            },
        )
}

fn rss() -> impl Strategy<Value = RssState> {
    (
        any::<(bool, u32, u16, u16)>(),
        vec(any::<u16>(), 0..130),
        vec(any::<u8>(), 0..60),
    )
        .prop_map(|(head, indirection_table, key)| RssState {
            steering: head.0,
            hash_types: head.1,
            unclassified_queue: head.2,
            max_tx_vq: head.3,
            indirection_table: indirection_table.into(),
            key: key.into(),
        })
}

fn control() -> impl Strategy<Value = ControlState> {
    (
        any::<(u8, bool, bool, u32)>(),
        vec(any::<[u8; 6]>(), 0..9),
        vec(any::<[u8; 6]>(), 0..9),
        vec(any::<u64>(), 0..=64),
        option::of(rss()),
        (notf_coal(), notf_coal()),
    )
        .prop_map(
            |(head, unicast, multicast, vlans, rss, notf_coal)| ControlState {
                rx_modes: head.0,
                unicast_overflow: head.1,
                multicast_overflow: head.2,
                hash_tunnel_types: head.3,
                unicast: unicast.into(),
                multicast: multicast.into(),
                vlans: vlans.into(),
                rss,
                rx_notf_coal: notf_coal.0,
                tx_notf_coal: notf_coal.1,
            },
        )
}

fn bucket() -> impl Strategy<Value = BucketState> {
    any::<(i64, u64, u64)>().prop_map(|(tokens, fraction, one_time_burst)| BucketState {
        tokens,
        fraction,
        one_time_burst,
    })
}

fn limiter() -> impl Strategy<Value = LimiterState> {
    let bucket = || option::of(bucket());
    (any::<u16>(), bucket(), bucket(), bucket()).prop_map(|(queue, bandwidth, ops, peak)| {
        LimiterState {
            queue,
            bandwidth,
            ops,
            peak_bandwidth: peak,
        }
    })
}

/// Fields of the first release.
fn first_release() -> impl Strategy<Value = NetState> {
    (
        "\\PC{0,40}",
        any::<([u64; 3], [bool; 4], u16)>(),
        config(),
        vec(any::<u16>(), 0..6),
        vec(queue(), 0..6),
        control(),
        vec(limiter(), 0..4),
    )
        .prop_map(
            |(id, head, config, queue_sizes, queues, control, limiters)| {
                let ([features_offered, features_acked, guest_offloads], flag, active_pairs) = head;
                NetState {
                    id: id.into(),
                    features_offered,
                    features_acked,
                    config,
                    queue_sizes: queue_sizes.into(),
                    queues: queues.into(),
                    control,
                    limiters: limiters.into(),
                    activated: flag[0],
                    paused: flag[1],
                    needs_reset: flag[2],
                    announce_pending: flag[3],
                    active_pairs,
                    guest_offloads,
                    ..NetState::default()
                }
            },
        )
}

/// Fields that releases after the first have added, each at its default or not.
fn later() -> impl Strategy<Value = NetState> {
    let high = || prop_oneof![Just(0), any::<u64>()];
    let stopped = (any::<u16>(), notf_coal())
        .prop_map(|(index, notf_coal)| StoppedQueueState { index, notf_coal });
    let fields = (high(), high(), vec(stopped, 0..3), any::<bool>());
    fields.prop_map(|(offered, acked, stopped_queues, suspended)| NetState {
        features_offered_high: offered,
        features_acked_high: acked,
        stopped_queues: stopped_queues.into(),
        suspended,
        ..NetState::default()
    })
}

/// A state of the latest release.
fn state() -> impl Strategy<Value = NetState> {
    (first_release(), later()).prop_map(|(first, later)| NetState {
        features_offered_high: later.features_offered_high,
        features_acked_high: later.features_acked_high,
        stopped_queues: later.stopped_queues,
        suspended: later.suspended,
        ..first
    })
}

fn payload_of(state: &NetState) -> Vec<u8> {
    Snapshot::seal(state).unwrap().into_bytes()
}

/// Accepted bytes are the only bytes of their state: nothing is ignored, nothing has two spellings.
fn refused_or_exact(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    if let Ok(snapshot) = Snapshot::from_bytes(bytes.clone()) {
        let state = snapshot.open().expect("accepted twice");
        prop_assert_eq!(payload_of(&state), bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_state_comes_back(state in state()) {
        let snapshot = Snapshot::seal(&state).unwrap();
        prop_assert_eq!(snapshot.open().unwrap(), state);
    }

    #[test]
    fn any_state_comes_back_from_any_release_or_is_refused_by_what_it_would_lose(state in state()) {
        for release in 1..=LATEST {
            match Snapshot::seal_for(&state, release) {
                Ok(snapshot) => prop_assert_eq!(snapshot.open().unwrap(), state.clone()),
                Err(SnapshotError::Downgrade { release: of, .. }) => {
                    prop_assert!(of == release && release < LATEST);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn any_state_survives_json(state in state()) {
        let text = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<NetState>(&text).unwrap(), state);
    }

    #[test]
    fn any_changed_byte_is_refused(state in state(), at: prop::sample::Index, mask in 1..=u8::MAX) {
        let mut bytes = payload_of(&state);
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        prop_assert!(Snapshot::from_bytes(bytes).is_err());
    }

    #[test]
    fn any_cut_is_refused(state in state(), at: prop::sample::Index) {
        let mut bytes = payload_of(&state);
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(Snapshot::from_bytes(bytes).is_err());
    }

    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..4096)) {
        prop_assert!(Snapshot::from_bytes(bytes).is_err());
    }

    #[test]
    fn random_payloads_with_a_good_checksum_do_no_harm(payload in vec(any::<u8>(), 0..4096)) {
        let mut bytes = payload_of(&sample());
        bytes.truncate(HEADER_LEN);
        bytes.extend(payload);
        refused_or_exact(reseal(bytes))?;
    }

    #[test]
    fn changed_payloads_with_a_good_checksum_do_no_harm(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = payload_of(&sample());
        for (at, byte) in changes {
            let at = HEADER_LEN + at.index(bytes.len() - HEADER_LEN);
            bytes[at] = byte;
        }
        refused_or_exact(reseal(bytes))?;
    }
}

/// The one-change version of the last property, for every byte and the values that matter.
#[test]
fn each_byte_in_turn_with_a_good_checksum_does_no_harm() {
    let whole = payload_of(&sample());
    for at in HEADER_LEN..whole.len() {
        for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            refused_or_exact(reseal(bytes)).unwrap();
        }
    }
}

/// Lengths of gigabytes inside a small, well-sealed payload end in an error, not in an allocation.
#[test]
fn a_length_inside_the_payload_is_not_believed() {
    let whole = payload_of(&sample());
    for at in HEADER_LEN..whole.len() - 8 {
        for len in [0x00ff_ffff_u64, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&len.to_le_bytes());
            refused_or_exact(reseal(bytes)).unwrap();
        }
    }
}
