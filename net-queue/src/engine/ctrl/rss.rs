//! Parameters of hashing and steering on the wire. VirtIO 1.4 §5.1.9.5.6.4, §5.1.9.5.7.

/// Parameters of hashing: those of an MQ_HASH_CONFIG, and a part of an MQ_RSS_CONFIG
/// (NET-MQ-17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashConfig<'a> {
    /// Types of packets to be hashed, as on the wire.
    pub types: u32,
    /// Key of the hash.
    pub key: &'a [u8],
}

/// Parameters of an MQ_RSS_CONFIG (NET-MQ-08, NET-MQ-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssConfig<'a> {
    /// The hash by which a frame's queue is found.
    pub hash: HashConfig<'a>,
    /// Receive queue of frames without a hash.
    pub unclassified_queue: u16,
    pub(super) table: &'a [[u8; 2]],
    /// Transmit queues that the driver uses.
    pub max_tx_vq: u16,
}

impl<'a> RssConfig<'a> {
    /// A configuration with the queue numbers of `table`, little-endian as on the wire: as many as
    /// a power of two.
    #[must_use]
    pub fn new(
        hash: HashConfig<'a>,
        unclassified_queue: u16,
        table: &'a [[u8; 2]],
        max_tx_vq: u16,
    ) -> Self {
        Self {
            hash,
            unclassified_queue,
            table,
            max_tx_vq,
        }
    }

    /// Number of entries of the table, a power of two.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.table.len()
    }

    /// Receive queues by the lowest bits of the hash; queue `n` is receiveq`n + 1` (NET-MQ-09).
    pub fn table(&self) -> impl Iterator<Item = u16> + 'a {
        self.table.iter().copied().map(u16::from_le_bytes)
    }
}
