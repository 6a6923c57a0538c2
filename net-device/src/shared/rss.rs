//! Hashing and steering as the driver has set them. VirtIO 1.4 §5.1.9.5.6.4, §5.1.9.5.7.

use net_queue::ctrl::{HashConfig, RssConfig};
use net_queue::hash::{FrameHash, FrameHasher, HashTypes, MAX_HASH_KEY_LEN};

/// Most entries of an indirection table: the fewest that a device may have (NET-CFG-11). Linux
/// before 6.12 copies as many as a device says into an array of 128.
pub(crate) const MAX_TABLE_LEN: u16 = 128;

/// Longest key, as the configuration space says it (NET-CFG-10).
pub(crate) const MAX_KEY_LEN: u8 = MAX_HASH_KEY_LEN as u8;

/// Parameters that the driver has set by an RSS_CONFIG or a HASH_CONFIG.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RssParams {
    /// The table steers; otherwise the device does, and the rest is for reports.
    pub(crate) steers: bool,
    pub(crate) types: HashTypes,
    pub(crate) key: Vec<u8>,
    /// Receive queues, and those of frames without a hash; without `steers` they mean nothing.
    pub(crate) table: Vec<u16>,
    pub(crate) unclassified_queue: u16,
    /// Transmit queues that the driver uses.
    pub(crate) max_tx_vq: u16,
}

impl RssParams {
    /// Those of a HASH_CONFIG, if this device takes them (NET-MQ-17).
    pub(crate) fn of_hash(config: HashConfig<'_>) -> Option<Self> {
        let HashConfig { types, key } = config;
        let params = Self {
            types: HashTypes::from_bits(types)?,
            key: key.to_vec(),
            ..Self::default()
        };
        params.is_possible(0).then_some(params)
    }

    /// Those of an RSS_CONFIG, if this device of `pairs` pairs takes them (NET-MQ-11).
    pub(crate) fn of_rss(config: RssConfig<'_>, pairs: u16) -> Option<Self> {
        let params = Self {
            steers: true,
            table: config
                .table()
                .take(usize::from(MAX_TABLE_LEN) + 1)
                .collect(),
            unclassified_queue: config.unclassified_queue,
            max_tx_vq: config.max_tx_vq,
            ..Self::of_hash(config.hash)?
        };
        params.is_possible(pairs).then_some(params)
    }

    /// Returns whether a driver of a device of `pairs` pairs can have set them.
    pub(crate) fn is_possible(&self, pairs: u16) -> bool {
        let len = self.table.len();
        let steers = len.is_power_of_two()
            && len <= usize::from(MAX_TABLE_LEN)
            && self.queues().all(|queue| queue < pairs)
            && (1..=pairs).contains(&self.max_tx_vq);
        let none = self.table.is_empty() && self.unclassified_queue == 0 && self.max_tx_vq == 0;
        self.key.len() <= MAX_HASH_KEY_LEN && if self.steers { steers } else { none }
    }

    /// The same hash, for reports alone: the device steers (NET-MQ-05).
    pub(crate) fn without_table(&self) -> Self {
        Self {
            types: self.types,
            key: self.key.clone(),
            ..Self::default()
        }
    }

    /// Receive queues that the table names.
    pub(crate) fn queues(&self) -> impl Iterator<Item = u16> {
        let table = self.table.iter().copied();
        table.chain(self.steers.then_some(self.unclassified_queue))
    }

    pub(crate) fn hasher(&self) -> FrameHasher {
        FrameHasher::new(self.types, &self.key)
    }

    /// The table in force while the receive queues of the pairs in `running` run; `None` if the
    /// device steers.
    pub(crate) fn steering_table(&self, running: &[bool]) -> Option<SteeringTable> {
        let runs = |queue: u16| {
            let runs = running.get(usize::from(queue)) == Some(&true);
            runs.then_some(queue)
        };
        self.steers.then(|| SteeringTable {
            entries: self.table.iter().map(|queue| runs(*queue)).collect(),
            unclassified: runs(self.unclassified_queue),
        })
    }
}

/// The pair that receives a frame, by its hash (NET-MQ-08).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SteeringTable {
    /// As many as a power of two, and at least one. `None`: a queue that does not run, whose frames
    /// are dropped (NET-MQ-07).
    entries: Box<[Option<u16>]>,
    unclassified: Option<u16>,
}

impl SteeringTable {
    /// The pair of a frame with this hash; `None` if its queue does not run.
    #[inline]
    pub(crate) fn pair_of(&self, hash: FrameHash) -> Option<u16> {
        match hash.value() {
            Some(value) => self.entries[value as usize & (self.entries.len() - 1)],
            None => self.unclassified,
        }
    }
}
