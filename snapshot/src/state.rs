//! Saved state. Every struct is plain data, and every list has a bound, at which the parser stops.
//!
//! A bound keeps a snapshot from costing more than a device could; whether the numbers make sense
//! together is for the device to check, which knows its back-end and its guest memory.

pub(crate) mod bounded;
pub mod bounds;
mod control;
pub(crate) mod encoding;
mod limiter;
mod net;
mod queue;
mod serde_form;

pub use bounded::{Bound, Bounded, List, Text};
pub use bounds::{
    MAX_ID_LEN, MAX_LIMITERS, MAX_MAC_ENTRIES, MAX_QUEUE_SIZE, MAX_QUEUES, MAX_RSS_KEY_LEN,
    MAX_RSS_TABLE_LEN, VLAN_WORDS,
};
pub use control::{ControlState, NotfCoalState, RssState};
pub use limiter::{BucketState, LimiterState};
pub use net::{ConfigState, NetState};
pub use queue::{QueueLayout, QueueState, StoppedQueueState};
