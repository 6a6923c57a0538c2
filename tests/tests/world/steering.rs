//! Tables by which a driver steers frames to its pairs, and where each frame goes by them.

use net_device::net_queue::ctrl::{Command, HashConfig, RssConfig};

use crate::frames;

/// Types of hashes: all of them.
const TYPES: u32 = 0x1ff;
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// A table for two pairs, and the pair of frames without a hash.
type Table = (&'static [[u8; 2]], u16);

/// Tables that are set.
pub(crate) const TABLES: [Table; 4] = [
    (&[[0, 0], [1, 0]], 0),
    (&[[1, 0], [0, 0]], 1),
    (&[[1, 0]], 0),
    (&[[0, 0], [0, 0], [1, 0], [1, 0]], 1),
];

/// The command that sets a table.
pub(crate) fn command(table: usize) -> Command<'static> {
    let hash = HashConfig {
        types: TYPES,
        key: &KEY,
    };
    let (table, unclassified) = TABLES[table];
    Command::SetRss(RssConfig::new(hash, unclassified, table, 2))
}

/// Table in force; without one each pair receives what its own network delivers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steering(Option<usize>);

impl Steering {
    /// The steering after `command` was done.
    pub(crate) fn after(command: &Command<'_>, before: Self) -> Self {
        match command {
            Command::SetPairs(_) => Self(None),
            Command::SetRss(set) => {
                let same = |(table, unclassified): &Table| {
                    let numbers = table.iter().map(|entry| u16::from_le_bytes(*entry));
                    set.table().eq(numbers) && set.unclassified_queue == *unclassified
                };
                Self(TABLES.iter().position(same))
            }
            _ => before,
        }
    }

    /// The pair that receives frame `number` of the network of `pair`.
    pub(crate) fn pair_of(self, pair: usize, number: u64) -> usize {
        let Some((table, unclassified)) = self.0.map(|table| TABLES[table]) else {
            return pair;
        };
        let queue = frames::hash(number, &KEY).map_or(unclassified, |hash| {
            u16::from_le_bytes(table[hash as usize % table.len()])
        });
        queue.into()
    }
}
