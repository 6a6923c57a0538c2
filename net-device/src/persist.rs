//! The only place that knows both live and saved types: what goes into a snapshot, and what a snapshot must satisfy.
//!
//! A snapshot is untrusted. [`Snapshot::open`] answers for its structure; here every field is checked
//! against this device and turned into a live type, before anything is changed.

use net_queue::Offloads;
use net_queue::ring::{Cursor, Layout, RingAddrs, RingConfig};
use rate_limiter::{Level, Levels};
use snapshot::state::{
    BucketState, ConfigState, ControlState, LimiterState, NetState, QueueLayout, QueueState,
};
use snapshot::{Migratable, MigrateError, Snapshot, Snapshottable, Transportable};

use crate::config::NetConfig;
use crate::device::NetDevice;
use crate::features::{FeatureError, Features};
use crate::filter::{FilterTables, MAC_TABLE_MAX, MacList, RxModes};
use crate::mac::MacAddr;
use crate::traits::QueueSetup;

/// Why a state is none of this device.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The device runs, or ran and was not reset.
    #[error("device is active")]
    Active,
    /// The features are not what this device and its backend offer.
    #[error("features_acked")]
    Features(#[from] FeatureError),
    /// A field has a value that no state of this device has.
    #[error("{0} is out of range")]
    Field(&'static str),
}

/// What a device is beyond its configuration and its backend: everything that the guest can tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    pub(crate) acked: Features,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) announce: bool,
    pub(crate) generation: u32,
    pub(crate) activated: bool,
    pub(crate) needs_reset: bool,
    /// What the driver set by commands.
    pub(crate) offloads: Offloads,
    pub(crate) tables: FilterTables,
    pub(crate) pairs: Option<u16>,
    /// Where every running queue stood.
    pub(crate) rings: Vec<(u16, RingConfig)>,
    /// What was left of every queue's limit.
    pub(crate) limits: Vec<(u16, Levels)>,
}

impl Saved {
    /// Lets a queue that lies where it lay when it was saved go on from where it stood.
    pub(crate) fn place(&self, setup: &mut QueueSetup) {
        let same =
            |(index, ring): &&(u16, RingConfig)| *index == setup.index && ring.addrs == setup.addrs;
        if let Some((_, ring)) = self.rings.iter().find(same) {
            setup.cursor = ring.cursor;
        }
    }

    /// The state as it is written.
    pub(crate) fn to_state(
        &self,
        config: &NetConfig,
        offered: Features,
        sizes: &[u16],
    ) -> NetState {
        NetState {
            id: config.id.clone(),
            features_offered: offered.bits(),
            features_acked: self.acked.bits(),
            config: ConfigState {
                mac: self.mac.map(MacAddr::bytes).unwrap_or_default(),
                max_virtqueue_pairs: config.queue_pairs,
                mtu: config.mtu.unwrap_or_default(),
                speed: config.speed_mbps.unwrap_or_default(),
                generation: self.generation,
                ..ConfigState::default()
            },
            queue_sizes: sizes.to_vec(),
            queues: self
                .rings
                .iter()
                .map(|(index, ring)| queue_state(*index, ring, config))
                .collect(),
            control: control_state(&self.tables),
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
            guest_offloads: Features::from_rx_offloads(self.offloads).bits(),
        }
    }

    /// Checks every field of `state` against what the device is.
    pub(crate) fn from_state(
        state: &NetState,
        config: &NetConfig,
        offered: Features,
    ) -> Result<Self, RestoreError> {
        use RestoreError::Field;
        let acked = match state.features_acked {
            0 if !state.activated => Features::empty(),
            acked => offered.check_accepted(acked)?,
        };
        let offloads = acked.check_guest_offloads(state.guest_offloads)?;
        let mac = MacAddr::from(state.config.mac);
        if acked.contains(Features::VIRTIO_NET_F_MAC) && !mac.is_station() {
            return Err(Field("config.mac"));
        }
        if state.config.max_virtqueue_pairs != config.queue_pairs {
            return Err(Field("config.max_virtqueue_pairs"));
        }
        let mtu = acked.contains(Features::VIRTIO_NET_F_MTU);
        if mtu && state.config.mtu != config.mtu.unwrap_or_default() {
            return Err(Field("config.mtu"));
        }
        if state.active_pairs > config.queue_pairs {
            return Err(Field("active_pairs"));
        }
        let queues = 2 * config.queue_pairs + 1;
        let rings = state
            .queues
            .iter()
            .map(|queue| ring_config(queue, queues, config, acked));
        let limits = state.limiters.iter().map(|limiter| {
            let known = limiter.queue < queues;
            known
                .then(|| (limiter.queue, levels(limiter)))
                .ok_or(Field("limiters.queue"))
        });
        Ok(Self {
            acked,
            mac: mac.is_station().then_some(mac),
            announce: state.announce_pending,
            generation: state.config.generation,
            activated: state.activated,
            needs_reset: state.needs_reset,
            offloads,
            tables: filter_tables(&state.control)?,
            pairs: (state.active_pairs > 0).then_some(state.active_pairs),
            rings: rings.collect::<Result<_, _>>()?,
            limits: limits.collect::<Result<_, _>>()?,
        })
    }
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
    queues: u16,
    config: &NetConfig,
    acked: Features,
) -> Result<(u16, RingConfig), RestoreError> {
    let packed = acked.contains(Features::VIRTIO_F_RING_PACKED);
    let layout = match queue.layout {
        QueueLayout::Split if !packed => Layout::Split,
        QueueLayout::Packed if packed => Layout::Packed,
        _ => return Err(RestoreError::Field("queues.layout")),
    };
    if queue.index >= queues {
        return Err(RestoreError::Field("queues.index"));
    }
    if queue.size == 0 || queue.size > config.queue_size {
        return Err(RestoreError::Field("queues.size"));
    }
    let event_idx = acked.contains(Features::VIRTIO_F_EVENT_IDX);
    if queue.event_idx != event_idx {
        return Err(RestoreError::Field("queues.event_idx"));
    }
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
        unicast,
        multicast,
        unicast_overflow,
        multicast_overflow,
        vlans: tables.vlans.to_vec(),
        ..ControlState::default()
    }
}

fn filter_tables(state: &ControlState) -> Result<FilterTables, RestoreError> {
    use RestoreError::Field;
    let list = |macs: &[[u8; 6]], overflow: bool, field| match overflow {
        true => Ok(MacList::Overflow),
        false if macs.len() > MAC_TABLE_MAX => Err(Field(field)),
        false => Ok(MacList::Only(macs.to_vec())),
    };
    Ok(FilterTables {
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

impl Snapshottable for NetDevice {
    fn id(&self) -> String {
        self.config().id.clone()
    }

    /// Takes the state of a paused device, or of one that no driver has activated.
    fn snapshot(&mut self) -> Result<Snapshot, MigrateError> {
        let saved = self
            .save()
            .map_err(|error| MigrateError::Snapshot(error.into()))?;
        let state = saved.to_state(self.config(), self.offered, self.queue_sizes());
        Snapshot::seal(&state).map_err(|error| MigrateError::Snapshot(error.into()))
    }

    /// Puts a state into a device that is not activated. What the saved device had activated has to be
    /// activated again by the VMM, with its memory and descriptors; it is paused then.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), MigrateError> {
        let refused = |error: snapshot::BoxError| MigrateError::Restore(error);
        let state = snapshot.open().map_err(|error| refused(error.into()))?;
        let saved = Saved::from_state(&state, self.config(), self.offered)
            .map_err(|error| refused(error.into()))?;
        self.load(saved).map_err(|error| refused(error.into()))
    }
}

impl Transportable for NetDevice {}

/// What the device writes is marked in the bitmap of the guest memory, or in the log that was set on it.
impl Migratable for NetDevice {}
