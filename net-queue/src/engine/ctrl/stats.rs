//! Device statistics on the wire: which there are, which are asked for, and what is answered.
//! VirtIO 1.4 §5.1.9.5.11.

use bitflags::bitflags;

use super::reply::Reply;
use crate::counters::QueueStats;
use crate::drop_cause::DropCause;

#[cfg(test)]
mod tests;

bitflags! {
    /// Types of statistics, as a capability or in a request; a reply names one by the number of its
    /// bit.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StatsTypes: u64 {
        /// Frames, bytes, drops of a receive queue.
        const RX_BASIC = 1 << 0;
        /// Checksums of received frames.
        const RX_CSUM = 1 << 1;
        /// Received frames that are larger than a segment.
        const RX_GSO = 1 << 2;
        /// Received frames that were dropped for a limit.
        const RX_SPEED = 1 << 3;
        /// Frames, bytes, drops of a transmit queue.
        const TX_BASIC = 1 << 16;
        /// Checksums of transmitted frames.
        const TX_CSUM = 1 << 17;
        /// Transmitted frames that are larger than a segment.
        const TX_GSO = 1 << 18;
        /// Transmitted frames that were dropped for a limit.
        const TX_SPEED = 1 << 19;
        /// Commands.
        const CVQ = 1 << 32;
    }
}

impl StatsTypes {
    /// Types of a receive queue.
    pub const RX: Self = Self::RX_BASIC
        .union(Self::RX_CSUM)
        .union(Self::RX_GSO)
        .union(Self::RX_SPEED);
    /// Types of a transmit queue.
    pub const TX: Self = Self::TX_BASIC
        .union(Self::TX_CSUM)
        .union(Self::TX_GSO)
        .union(Self::TX_SPEED);

    /// Number of a single type in a reply.
    fn number(self) -> u8 {
        self.bits().trailing_zeros() as u8
    }

    /// Counters of a single type, in their order on the wire.
    fn counters(self, stats: &QueueStats) -> Vec<u64> {
        let others = |some: u64| stats.frames.wrapping_sub(some);
        match self {
            Self::RX_BASIC => basic(stats, stats.drops(DropCause::NoRoom)),
            Self::TX_BASIC => basic(stats, malformed(stats)),
            // Checksums are verified by the backend, which delivers no frame with a wrong one.
            Self::RX_CSUM => vec![
                stats.data_valid,
                stats.needs_csum,
                others(stats.data_valid.wrapping_add(stats.needs_csum)),
                0,
            ],
            Self::TX_CSUM => vec![others(stats.needs_csum), stats.needs_csum],
            // Frames of the driver that leave merged are none of these, and nothing is merged on
            // receive or cut on transmit.
            Self::RX_GSO => vec![stats.gso_frames, stats.gso_bytes, 0, 0],
            Self::TX_GSO => {
                let gso = [stats.gso_frames, stats.gso_bytes];
                [gso, [0, 0], gso].concat()
            }
            // Frames above a limit wait.
            Self::RX_SPEED | Self::TX_SPEED => vec![0, 0],
            // With the command that asks: it is not counted yet, and succeeds.
            Self::CVQ => vec![
                stats.frames.wrapping_add(1),
                stats.frames.wrapping_sub(stats.refused()).wrapping_add(1),
            ],
            _ => Vec::new(),
        }
    }
}

/// Basic statistics of either direction; they differ in the last number.
fn basic(stats: &QueueStats, last: u64) -> Vec<u64> {
    vec![
        stats.kicks,
        stats.frames,
        stats.bytes,
        stats.interrupts,
        stats.dropped(),
        last,
    ]
}

/// Frames to send that were dropped for how the driver described them.
fn malformed(stats: &QueueStats) -> u64 {
    let causes = DropCause::all().filter(|cause| cause.is_malformed());
    causes.map(|cause| stats.drops(cause)).sum()
}

/// Bytes of one entry of a request.
pub(super) const REQUEST_LEN: usize = 16;

/// Request for statistics of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsRequest {
    /// Index of the queue.
    pub queue: u16,
    /// Types that are asked for; none means none.
    pub types: StatsTypes,
}

/// Requests of a STATS_GET, at least one; they borrow from the private copy of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsRequests<'a>(&'a [[u8; REQUEST_LEN]]);

impl<'a> StatsRequests<'a> {
    /// Takes the entries of a request.
    ///
    /// # Errors
    /// The first set of types in which there is an unknown one (NET-CVQ-28).
    pub(super) fn new(entries: &'a [[u8; REQUEST_LEN]]) -> Result<Self, u64> {
        for entry in entries {
            let types = Self::types(entry);
            StatsTypes::from_bits(types).ok_or(types)?;
        }
        Ok(Self(entries))
    }

    fn types(entry: &[u8; REQUEST_LEN]) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = *entry;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// All of them as they are on the wire.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0.as_flattened()
    }

    /// Each of them, in their order.
    pub fn iter(self) -> impl Iterator<Item = StatsRequest> + 'a {
        self.0.iter().map(|entry| StatsRequest {
            queue: u16::from_le_bytes([entry[0], entry[1]]),
            types: StatsTypes::from_bits_truncate(Self::types(entry)),
        })
    }
}

impl Reply<'_> {
    /// Adds the types that the device supports: the result of a STATS_QUERY (NET-CVQ-27).
    pub fn push_types(&mut self, types: StatsTypes) {
        self.push(&types.bits().to_le_bytes());
    }

    /// Adds one entry for each of the types that `request` names, from `stats`, the counters of its
    /// queue without the command at hand (NET-CVQ-29, NET-CVQ-30).
    pub fn push_stats(&mut self, request: StatsRequest, stats: &QueueStats) {
        const HEADER: usize = 8;
        for kind in request.types.iter() {
            let counters = kind.counters(stats);
            let size = (HEADER + counters.len() * size_of::<u64>()) as u16;
            let [queue, size] = [request.queue, size].map(u16::to_le_bytes);
            self.push(&[kind.number(), 0, queue[0], queue[1], 0, 0, size[0], size[1]]);
            counters
                .iter()
                .for_each(|counter| self.push(&counter.to_le_bytes()));
        }
    }
}
