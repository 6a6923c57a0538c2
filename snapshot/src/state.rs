//! Saved state. Every struct is plain data, and every list has a bound.
//!
//! A bound keeps a snapshot from costing more than a device could; whether the numbers make sense
//! together is for the device to check, which knows its back-end and its guest memory.

mod control;
mod limiter;
mod net;
mod queue;

pub use control::{
    CoalesceState, ControlState, MAX_MAC_ENTRIES, MAX_RSS_KEY_LEN, MAX_RSS_TABLE_LEN, RssState,
    VLAN_WORDS,
};
pub use limiter::{BucketState, LimiterState};
pub use net::{ConfigState, MAX_ID_LEN, MAX_LIMITERS, MAX_QUEUES, NetState};
pub use queue::{MAX_QUEUE_SIZE, QueueLayout, QueueState, StoppedQueueState};

use crate::error::SnapshotError;

/// Refuses a list longer than `max`, by the name of its field.
fn at_most<T>(field: &'static str, list: &[T], max: usize) -> Result<(), SnapshotError> {
    if list.len() <= max {
        return Ok(());
    }
    Err(SnapshotError::TooMany {
        field,
        found: list.len(),
        max,
    })
}
