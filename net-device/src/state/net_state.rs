//! The only place that knows both live and saved types: what goes into a snapshot, and what a
//! snapshot must satisfy.
//!
//! A snapshot is untrusted. [`Snapshot::open`](snapshot::Snapshot::open) answers for its structure;
//! here every field is checked against this device and turned into a live type, before anything is
//! changed.

use std::collections::BTreeSet;

use net_queue::ctrl::NotificationCoalescing;
use net_queue::hash::HashTypes;
use net_queue::ring::{Cursor, Layout, RingAddrs, RingConfig};
use rate_limiter::{Level, Levels};
use snapshot::state::{
    BucketState, ConfigState, ControlState, LimiterState, NetState, NotfCoalState, QueueLayout,
    QueueState, RssState, StoppedQueueState,
};

use super::DeviceState;
use crate::config::{MAX_ID_LEN, MacAddr, NetConfig};
use crate::error::RestoreError;
use crate::features::Features;
use crate::shared::config_space::LinkStatus;
use crate::shared::notf_coal::SavedNotfCoal;
use crate::shared::rss::RssParams;
use crate::shared::rx_filter::{FilterTables, MAC_TABLE_MAX, MacList, RxModes};

// Every id of a device can be saved.
const _: () = assert!(MAX_ID_LEN == snapshot::state::MAX_ID_LEN);

fn require(holds: bool, field: &'static str) -> Result<(), RestoreError> {
    if holds {
        Ok(())
    } else {
        Err(RestoreError::Field(field))
    }
}

/// Features as they are saved: bits 0 to 63, and 64 to 127.
fn feature_words(features: Features) -> (u64, u64) {
    (features.low_bits(), (features.bits() >> 64) as u64)
}

impl DeviceState {
    /// The state as it is written.
    pub(crate) fn to_state(
        &self,
        config: &NetConfig,
        offered: Features,
        sizes: &[u16],
    ) -> NetState {
        let (features_offered, features_offered_high) = feature_words(offered);
        let (features_acked, features_acked_high) = feature_words(self.acked);
        NetState {
            id: config.id.as_str().into(),
            features_offered,
            features_acked,
            config: ConfigState {
                mac: self.mac.map(MacAddr::bytes).unwrap_or_default(),
                // Of a device that goes on the link is that of its new place.
                status: self.suspended.unwrap_or_default().bits(),
                max_virtqueue_pairs: config.queue_pairs,
                mtu: config.mtu.unwrap_or_default(),
                speed: config.speed_mbps.unwrap_or_default(),
                generation: self.generation,
                ..ConfigState::default()
            },
            queue_sizes: sizes.iter().copied().collect(),
            queues: self
                .rings
                .iter()
                .map(|(index, ring)| QueueState {
                    notf_coal: notf_coal_state(self.notf_coal.of(*index)),
                    ..queue_state(*index, ring, config)
                })
                .collect(),
            control: ControlState {
                rx_notf_coal: notf_coal_state(self.notf_coal.rx),
                tx_notf_coal: notf_coal_state(self.notf_coal.tx),
                rss: self.rss.as_ref().map(rss_state),
                ..control_state(&self.tables)
            },
            limiters: self
                .limits
                .iter()
                .map(|(queue, levels)| limiter_state(*queue, levels))
                .collect(),
            activated: self.activated,
            paused: self.activated,
            needs_reset: self.needs_reset,
            announce_pending: self.announce,
            active_pairs: self.pairs.unwrap_or_default(),
            guest_offloads: Features::guest_offloads(self.offloads),
            features_offered_high,
            features_acked_high,
            stopped_queues: self.stopped_queues().into(),
            suspended: self.suspended.is_some(),
        }
    }

    /// Queues that do not run whose coalescing is not what they would start with.
    fn stopped_queues(&self) -> Vec<StoppedQueueState> {
        let queues = self.notf_coal.queues.iter();
        queues
            .filter(|(queue, own)| !self.ran(*queue) && *own != self.notf_coal.of_direction(*queue))
            .map(|(index, own)| StoppedQueueState {
                index: *index,
                notf_coal: notf_coal_state(*own),
            })
            .collect()
    }

    /// Checks every field of `state` against what the device is.
    pub(crate) fn from_state(
        state: &NetState,
        config: &NetConfig,
        offered: Features,
    ) -> Result<Self, RestoreError> {
        let high = u128::from(state.features_acked_high) << 64;
        let acked = match high | u128::from(state.features_acked) {
            0 if !state.activated => Features::empty(),
            acked => offered
                .check_accepted(acked)
                .map_err(RestoreError::Features)?,
        };
        let offloads = acked
            .check_guest_offloads(state.guest_offloads)
            .map_err(RestoreError::GuestOffloads)?;
        let mac = mac(&state.config, config, offered)?;
        let mtu = acked.contains(Features::VIRTIO_NET_F_MTU);
        let same_mtu = state.config.mtu == config.mtu.unwrap_or_default();
        require(!mtu || same_mtu, "config.mtu")?;
        let most_pairs = match acked.contains(Features::VIRTIO_NET_F_MQ) {
            true => config.queue_pairs,
            false => 0,
        };
        require(state.active_pairs <= most_pairs, "active_pairs")?;
        let announces = acked.contains(Features::VIRTIO_NET_F_GUEST_ANNOUNCE);
        require(!state.announce_pending || announces, "announce_pending")?;
        let suspends = acked.contains(Features::VIRTIO_F_SUSPEND) && state.activated;
        require(!state.suspended || suspends, "suspended")?;
        let status = LinkStatus::from_bits_truncate(state.config.status);
        Ok(Self {
            acked,
            mac,
            announce: state.announce_pending,
            generation: state.config.generation,
            activated: state.activated,
            needs_reset: state.needs_reset,
            suspended: state.suspended.then_some(status),
            offloads,
            tables: filter_tables(&state.control, acked)?,
            notf_coal: notf_coal(state, config, acked)?,
            pairs: (state.active_pairs > 0).then_some(state.active_pairs),
            rss: rss(state, config, acked)?,
            rings: rings(state, config, acked)?,
            limits: limits(state, config)?,
        })
    }
}

/// Checks `state` as the device that it describes would, when it is restored from it: every field
/// except for what depends on guest memory, which an activation looks at.
///
/// # Errors
/// The first field that no state of such a device has.
pub fn check_state(state: &NetState) -> Result<(), RestoreError> {
    let offered =
        u128::from(state.features_offered_high) << 64 | u128::from(state.features_offered);
    let offered = Features::from_bits(offered).ok_or(RestoreError::Field("features_offered"))?;
    let sizes = state.queue_sizes.iter().copied();
    let config = NetConfig {
        id: state.id.to_string(),
        mac: Some(MacAddr::from(state.config.mac)).filter(|mac| *mac != MacAddr::default()),
        mtu: Some(state.config.mtu).filter(|mtu| *mtu != 0),
        queue_pairs: state.config.max_virtqueue_pairs,
        queue_size: sizes.max().ok_or(RestoreError::Field("queue_sizes"))?,
        ..NetConfig::default()
    };
    config.validate().map_err(RestoreError::Config)?;
    DeviceState::from_state(state, &config, offered).map(drop)
}

/// The MAC address; a device that offers one has one.
fn mac(
    state: &ConfigState,
    config: &NetConfig,
    offered: Features,
) -> Result<Option<MacAddr>, RestoreError> {
    let mac = MacAddr::from(state.mac);
    let none = mac == MacAddr::default() && !offered.contains(Features::VIRTIO_NET_F_MAC);
    require(none || mac.is_station(), "config.mac")?;
    let pairs = state.max_virtqueue_pairs;
    require(pairs == config.queue_pairs, "config.max_virtqueue_pairs")?;
    Ok((!none).then_some(mac))
}

fn rings(
    state: &NetState,
    config: &NetConfig,
    acked: Features,
) -> Result<Vec<(u16, RingConfig)>, RestoreError> {
    let queues = &state.queues;
    require(state.activated || queues.is_empty(), "queues")?;
    let mut indices = BTreeSet::new();
    for queue in queues {
        require(indices.insert(queue.index), "queues.index")?;
    }
    queues
        .iter()
        .map(|queue| ring_config(queue, config, acked))
        .collect()
}

fn limits(state: &NetState, config: &NetConfig) -> Result<Vec<(u16, Levels)>, RestoreError> {
    let limit = |limiter: &LimiterState| {
        require(limiter.queue < 2 * config.queue_pairs, "limiters.queue")?;
        Ok((limiter.queue, levels(limiter)))
    };
    state.limiters.iter().map(limit).collect()
}

fn queue_state(index: u16, ring: &RingConfig, config: &NetConfig) -> QueueState {
    QueueState {
        index,
        max_size: config.queue_size,
        size: ring.size,
        ready: true,
        layout: match ring.layout {
            Layout::Split => QueueLayout::Split,
            Layout::Packed => QueueLayout::Packed,
        },
        event_idx: ring.event_idx,
        desc_addr: ring.addrs.desc,
        driver_addr: ring.addrs.driver,
        device_addr: ring.addrs.device,
        avail: ring.cursor.avail,
        used: ring.cursor.used,
        avail_wrap: ring.cursor.avail_wrap,
        used_wrap: ring.cursor.used_wrap,
        ..QueueState::default()
    }
}

/// The ring's own checks follow when it is made over the restored memory.
fn ring_config(
    queue: &QueueState,
    config: &NetConfig,
    acked: Features,
) -> Result<(u16, RingConfig), RestoreError> {
    let packed = acked.contains(Features::VIRTIO_F_RING_PACKED);
    let layout = match queue.layout {
        QueueLayout::Split if !packed => Layout::Split,
        QueueLayout::Packed if packed => Layout::Packed,
        _ => return Err(RestoreError::Field("queues.layout")),
    };
    let event_idx = acked.contains(Features::VIRTIO_F_EVENT_IDX);
    let sizes = 1..=config.queue_size;
    require(queue.index <= 2 * config.queue_pairs, "queues.index")?;
    require(sizes.contains(&queue.size), "queues.size")?;
    require(queue.ready, "queues.ready")?;
    require(queue.event_idx == event_idx, "queues.event_idx")?;
    // Chains are put back before a device is saved.
    require(queue.in_flight.is_empty(), "queues.in_flight")?;
    let ring = RingConfig {
        layout,
        size: queue.size,
        addrs: RingAddrs {
            desc: queue.desc_addr,
            driver: queue.driver_addr,
            device: queue.device_addr,
        },
        event_idx,
        indirect: acked.contains(Features::VIRTIO_F_INDIRECT_DESC),
        in_order: acked.contains(Features::VIRTIO_F_IN_ORDER),
        cursor: Cursor {
            avail: queue.avail,
            used: queue.used,
            avail_wrap: queue.avail_wrap,
            used_wrap: queue.used_wrap,
        },
        ..RingConfig::default()
    };
    Ok((queue.index, ring))
}

fn control_state(tables: &FilterTables) -> ControlState {
    let list = |macs: &MacList| match macs {
        MacList::Only(macs) => (macs.clone(), false),
        MacList::Overflow => (Vec::new(), true),
    };
    let (unicast, unicast_overflow) = list(&tables.unicast);
    let (multicast, multicast_overflow) = list(&tables.multicast);
    ControlState {
        rx_modes: tables.modes.bits(),
        unicast: unicast.into(),
        multicast: multicast.into(),
        unicast_overflow,
        multicast_overflow,
        vlans: tables.vlans.to_vec().into(),
        ..ControlState::default()
    }
}

/// Tables that commands can have set under the features that were accepted.
fn filter_tables(state: &ControlState, acked: Features) -> Result<FilterTables, RestoreError> {
    use RestoreError::Field;
    // What this stands for is not offered.
    require(state.hash_tunnel_types == 0, "control.hash_tunnel_types")?;
    let list = |macs: &[[u8; 6]], overflow: bool, field| match overflow {
        true => Ok(MacList::Overflow),
        false if macs.len() > MAC_TABLE_MAX => Err(Field(field)),
        false => Ok(MacList::Only(macs.to_vec())),
    };
    let tables = FilterTables {
        modes: RxModes::from_bits(state.rx_modes).ok_or(Field("control.rx_modes"))?,
        unicast: list(&state.unicast, state.unicast_overflow, "control.unicast")?,
        multicast: list(
            &state.multicast,
            state.multicast_overflow,
            "control.multicast",
        )?,
        vlans: state
            .vlans
            .as_slice()
            .try_into()
            .map_err(|_| Field("control.vlans"))?,
    };
    let with = |feature, modes| match acked.contains(feature) {
        true => modes,
        false => RxModes::empty(),
    };
    let basic = RxModes::PROMISC | RxModes::ALL_MULTI;
    let modes = with(Features::VIRTIO_NET_F_CTRL_RX, basic)
        | with(Features::VIRTIO_NET_F_CTRL_RX_EXTRA, basic.complement());
    require(modes.contains(tables.modes), "control.rx_modes")?;
    let addresses = acked.contains(Features::VIRTIO_NET_F_CTRL_RX);
    let empty = MacList::default();
    require(addresses || tables.unicast == empty, "control.unicast")?;
    require(addresses || tables.multicast == empty, "control.multicast")?;
    let tags = acked.contains(Features::VIRTIO_NET_F_CTRL_VLAN);
    let none = tables.vlans.iter().all(|word| *word == 0);
    require(tags || none, "control.vlans")?;
    Ok(tables)
}

fn rss_state(rss: &RssParams) -> RssState {
    RssState {
        steering: rss.steers,
        hash_types: rss.types.bits(),
        unclassified_queue: rss.unclassified_queue,
        indirection_table: rss.table.clone().into(),
        max_tx_vq: rss.max_tx_vq,
        key: rss.key.clone().into(),
    }
}

/// Hash and table that commands can have set under the features that were accepted.
fn rss(
    state: &NetState,
    config: &NetConfig,
    acked: Features,
) -> Result<Option<RssParams>, RestoreError> {
    let Some(rss) = &state.control.rss else {
        return Ok(None);
    };
    const FIELD: RestoreError = RestoreError::Field("control.rss");
    let params = RssParams {
        steers: rss.steering,
        types: HashTypes::from_bits(rss.hash_types).ok_or(FIELD)?,
        key: rss.key.to_vec(),
        table: rss.indirection_table.to_vec(),
        unclassified_queue: rss.unclassified_queue,
        max_tx_vq: rss.max_tx_vq,
    };
    let hashing = Features::VIRTIO_NET_F_RSS | Features::VIRTIO_NET_F_HASH_REPORT;
    let needed = if params.steers {
        Features::VIRTIO_NET_F_RSS
    } else {
        hashing
    };
    let possible = acked.intersects(needed) && params.is_possible(config.queue_pairs);
    require(possible, "control.rss")?;
    Ok(Some(params))
}

fn notf_coal_state(notf_coal: NotificationCoalescing) -> NotfCoalState {
    NotfCoalState {
        max_packets: notf_coal.max_packets,
        max_usecs: notf_coal.max_usecs,
    }
}

/// Parameters that commands can have set under the features that were accepted.
fn notf_coal(
    state: &NetState,
    config: &NetConfig,
    acked: Features,
) -> Result<SavedNotfCoal, RestoreError> {
    let none = NotfCoalState::default();
    let all = acked.contains(Features::VIRTIO_NET_F_NOTF_COAL);
    let each = all || acked.contains(Features::VIRTIO_NET_F_VQ_NOTF_COAL);
    let ControlState {
        rx_notf_coal: rx,
        tx_notf_coal: tx,
        ..
    } = state.control;
    require(all || rx == none, "control.rx_notf_coal")?;
    require(all || tx == none, "control.tx_notf_coal")?;
    let of = |state: NotfCoalState| NotificationCoalescing {
        max_packets: state.max_packets,
        max_usecs: state.max_usecs,
    };
    let of_pair = |index| index < 2 * config.queue_pairs;
    let mut queues = Vec::new();
    let mut indices: BTreeSet<_> = state.queues.iter().map(|queue| queue.index).collect();
    for queue in &state.queues {
        let possible = each && of_pair(queue.index) || queue.notf_coal == none;
        require(possible, "queues.notf_coal")?;
        queues.push((queue.index, of(queue.notf_coal)));
    }
    for stopped in &state.stopped_queues {
        let possible = state.activated && each && of_pair(stopped.index);
        require(possible, "stopped_queues")?;
        require(indices.insert(stopped.index), "stopped_queues.index")?;
        queues.push((stopped.index, of(stopped.notf_coal)));
    }
    Ok(SavedNotfCoal {
        rx: of(rx),
        tx: of(tx),
        queues,
    })
}

fn limiter_state(queue: u16, levels: &Levels) -> LimiterState {
    let bucket = |level: Level| BucketState {
        tokens: level.tokens,
        fraction: level.fraction,
        one_time_burst: level.one_time_burst,
    };
    LimiterState {
        queue,
        bandwidth: levels.bandwidth.map(bucket),
        ops: levels.ops.map(bucket),
        peak_bandwidth: levels.peak_bandwidth.map(bucket),
    }
}

fn levels(state: &LimiterState) -> Levels {
    let level = |bucket: BucketState| Level {
        tokens: bucket.tokens,
        fraction: bucket.fraction,
        one_time_burst: bucket.one_time_burst,
    };
    Levels {
        bandwidth: state.bandwidth.map(level),
        ops: state.ops.map(level),
        peak_bandwidth: state.peak_bandwidth.map(level),
    }
}
