//! States and hostile bytes that several tests share.
#![allow(dead_code, reason = "every test file uses its own part")]

use snapshot::LATEST;
use snapshot::format::HEADER_LEN;
use snapshot::state::{
    BucketState, ConfigState, ControlState, LimiterState, NetState, NotfCoalState, QueueLayout,
    QueueState, RssState, StoppedQueueState, VLAN_WORDS,
};

/// A device with every field set to something of its own, as the latest release has it.
pub(crate) fn sample() -> NetState {
    sample_of(LATEST)
}

/// The same as `release` has it, all later fields at their defaults.
///
/// `golden/` holds its bytes, so what is here for a release that was published never changes.
pub(crate) fn sample_of(release: u16) -> NetState {
    let mut state = release_1();
    if release >= 2 {
        state.features_offered_high = 0x3e;
        state.features_acked_high = 0x22;
        state.stopped_queues = vec![StoppedQueueState {
            index: 2,
            notf_coal: notf_coal(7, 80),
        }]
        .into();
        state.suspended = true;
    }
    state
}

fn release_1() -> NetState {
    NetState {
        id: "net0".into(),
        features_offered: 0x1130_0001_30ff_ffaf,
        features_acked: 0x0110_0001_3040_8803,
        config: config(),
        queue_sizes: vec![256, 512, 64].into(),
        queues: vec![split_queue(), packed_queue()].into(),
        control: control(),
        limiters: vec![
            LimiterState {
                queue: 0,
                bandwidth: Some(bucket(-70_000)),
                ops: None,
                peak_bandwidth: None,
            },
            LimiterState {
                queue: 1,
                bandwidth: Some(bucket(1)),
                ops: Some(bucket(2)),
                peak_bandwidth: Some(bucket(i64::MIN)),
            },
        ]
        .into(),
        activated: true,
        paused: true,
        needs_reset: false,
        announce_pending: true,
        active_pairs: 1,
        guest_offloads: 0xc000_0000_0000_0782,
        features_offered_high: 0,
        features_acked_high: 0,
        stopped_queues: vec![].into(),
        suspended: false,
    }
}

fn config() -> ConfigState {
    ConfigState {
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        status: 3,
        max_virtqueue_pairs: 1,
        mtu: 9000,
        speed: 25_000,
        duplex: 1,
        rss_max_key_size: 40,
        rss_max_indirection_table_length: 128,
        supported_hash_types: 0x1ff,
        supported_tunnel_types: 0x10,
        generation: 7,
    }
}

fn split_queue() -> QueueState {
    QueueState {
        index: 0,
        max_size: 256,
        size: 128,
        ready: true,
        layout: QueueLayout::Split,
        event_idx: true,
        desc_addr: 0x1_0000,
        driver_addr: 0x2_0000,
        device_addr: 0x3_0000,
        avail: 0xfffe,
        used: None,
        in_flight: vec![].into(),
        ..QueueState::default()
    }
}

fn packed_queue() -> QueueState {
    QueueState {
        index: 1,
        max_size: 512,
        size: 511,
        ready: true,
        layout: QueueLayout::Packed,
        event_idx: false,
        desc_addr: 0x7fff_ffff_0000,
        driver_addr: 0x7fff_ffff_8000,
        device_addr: 0x7fff_ffff_9000,
        avail: 17,
        used: Some(15),
        avail_wrap: true,
        used_wrap: false,
        in_flight: vec![9, 10].into(),
        notf_coal: notf_coal(15, 10_000),
    }
}

fn control() -> ControlState {
    let mut vlans = vec![0; VLAN_WORDS];
    vlans[1] = 1 << 36;
    ControlState {
        rx_modes: 0b10_0010,
        unicast: vec![[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].into(),
        multicast: vec![[0x33, 0x33, 0, 0, 0, 1]].into(),
        unicast_overflow: false,
        multicast_overflow: true,
        vlans: vlans.into(),
        rss: Some(RssState {
            steering: true,
            hash_types: 0x3f,
            unclassified_queue: 0,
            indirection_table: vec![0, 0, 0, 0].into(),
            max_tx_vq: 1,
            key: (0..40).collect(),
        }),
        hash_tunnel_types: 0x10,
        rx_notf_coal: notf_coal(8, 50),
        tx_notf_coal: notf_coal(64, 0),
    }
}

fn notf_coal(max_packets: u32, max_usecs: u32) -> NotfCoalState {
    NotfCoalState {
        max_packets,
        max_usecs,
    }
}

fn bucket(tokens: i64) -> BucketState {
    BucketState {
        tokens,
        fraction: 1 << 63,
        one_time_burst: 1_000_000,
    }
}

/// Gives `bytes` the length and checksum they should have, as an attacker would.
pub(crate) fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = (bytes.len() - HEADER_LEN) as u32;
    bytes[12..16].copy_from_slice(&len.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..16]);
    crc.update(&bytes[HEADER_LEN..]);
    bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    bytes
}
