//! The bound of each list and text of a saved state.

use super::bounded::Bound;
use crate::format::MAX_LEN;

/// Longest name of a device, in bytes.
pub const MAX_ID_LEN: usize = 256;

/// Most queues of a device: two per pair, as many pairs as a Linux tap has queues, and the control
/// queue.
pub const MAX_QUEUES: usize = 2 * 256 + 1;

/// Most limiters of a device: one per data queue.
pub const MAX_LIMITERS: usize = MAX_QUEUES - 1;

/// Largest queue: VirtIO 1.4 §2.7 and §2.8.
pub const MAX_QUEUE_SIZE: usize = 1 << 15;

/// Longest list of MAC addresses, for unicast and for multicast each.
pub const MAX_MAC_ENTRIES: usize = 1024;

/// Words of 64 bits in a bitmap of all 4096 VLAN ids.
pub const VLAN_WORDS: usize = 4096 / 64;

/// Longest hash key in bytes: its length is a byte on the wire.
pub const MAX_RSS_KEY_LEN: usize = 255;

/// Longest indirection table in entries.
pub const MAX_RSS_TABLE_LEN: usize = 1024;

/// Declares the bound of each field, and the table of all of them.
macro_rules! bounds {
    ($($name:ident: $field:literal, $max:expr;)+) => {
        $(
            #[doc = concat!("Bound of `", $field, "`.")]
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}

            impl Bound for $name {
                const FIELD: &'static str = $field;
                const MAX: usize = $max;
            }
        )+

        /// Path and bound of each field.
        pub const ALL: &[(&str, usize)] = &[$(($field, $max)),+];
    };
}

bounds! {
    Id: "id", MAX_ID_LEN;
    QueueSizes: "queue_sizes", MAX_QUEUES;
    Queues: "queues", MAX_QUEUES;
    InFlight: "queues.in_flight", MAX_QUEUE_SIZE;
    Unicast: "control.unicast", MAX_MAC_ENTRIES;
    Multicast: "control.multicast", MAX_MAC_ENTRIES;
    Vlans: "control.vlans", VLAN_WORDS;
    IndirectionTable: "control.rss.indirection_table", MAX_RSS_TABLE_LEN;
    HashKey: "control.rss.key", MAX_RSS_KEY_LEN;
    Limiters: "limiters", MAX_LIMITERS;
    StoppedQueues: "stopped_queues", MAX_QUEUES;
}

/// Bound of the bytes of a sealed state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sealed {}

impl Bound for Sealed {
    const FIELD: &'static str = "bytes";
    const MAX: usize = MAX_LEN;
}
