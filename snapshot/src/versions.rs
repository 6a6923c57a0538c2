//! Which version of each struct every release wrote.
//!
//! The version map takes a release it does not know for the latest, and a struct panics on a
//! version it does not know. Neither can happen: [`crate::header`] refuses unknown releases, and
//! the test below holds the last row against the structs.

use versionize::{VersionMap, Versionize};

use crate::error::SnapshotError;
use crate::state::{
    BucketState, ConfigState, ControlState, LimiterState, NetState, NotfCoalState, QueueLayout,
    QueueState, RssState, StoppedQueueState,
};

/// Struct versions of one release.
#[derive(Clone, Copy)]
struct Row {
    net: u16,
    config: u16,
    queue: u16,
    stopped: u16,
    layout: u16,
    control: u16,
    rss: u16,
    notf_coal: u16,
    limiter: u16,
    bucket: u16,
}

/// A struct that a release does not have counts as version 1 there.
const RELEASE_1: Row = Row {
    net: 1,
    config: 1,
    queue: 1,
    stopped: 1,
    layout: 1,
    control: 1,
    rss: 1,
    notf_coal: 1,
    limiter: 1,
    bucket: 1,
};

/// Features above bit 63, queues that stand still, and suspension.
const RELEASE_2: Row = Row {
    net: 2,
    ..RELEASE_1
};

/// Row `n - 1` is release `n`. Rows are only ever added.
const RELEASES: &[Row] = &[RELEASE_1, RELEASE_2];

/// Newest release of the state, which this build writes.
pub const LATEST: u16 = RELEASES.len() as u16;

/// A field that older releases do not have.
struct Added {
    /// Path of the field, as `queues.in_flight`.
    field: &'static str,
    /// First release that has it.
    release: u16,
    /// Returns whether a state says no more by this field than its default, which is what a release
    /// without it is read as.
    is_default: fn(&NetState) -> bool,
}

/// One entry for each `#[version(start = n)]`.
const ADDED: &[Added] = &[
    Added {
        field: "features_offered_high",
        release: 2,
        is_default: |state| state.features_offered_high == 0,
    },
    Added {
        field: "features_acked_high",
        release: 2,
        is_default: |state| state.features_acked_high == 0,
    },
    Added {
        field: "stopped_queues",
        release: 2,
        is_default: |state| state.stopped_queues.is_empty(),
    },
    Added {
        field: "suspended",
        release: 2,
        is_default: |state| !state.suspended,
    },
];

/// Refuses a state that `release` has no place for: what it lacks would be lost silently.
///
/// # Errors
/// [`SnapshotError::Downgrade`], with the first such field.
pub(crate) fn check_downgrade(state: &NetState, release: u16) -> Result<(), SnapshotError> {
    let lost = |added: &&Added| release < added.release && !(added.is_default)(state);
    match ADDED.iter().find(lost) {
        None => Ok(()),
        Some(added) => Err(SnapshotError::Downgrade {
            field: added.field,
            release,
        }),
    }
}

/// The rows in the form that the serializer wants.
pub(crate) fn version_map() -> VersionMap {
    let mut map = VersionMap::new();
    for (index, row) in RELEASES.iter().enumerate() {
        if index > 0 {
            map.new_version();
        }
        map.set_type_version(NetState::type_id(), row.net)
            .set_type_version(ConfigState::type_id(), row.config)
            .set_type_version(QueueState::type_id(), row.queue)
            .set_type_version(StoppedQueueState::type_id(), row.stopped)
            .set_type_version(QueueLayout::type_id(), row.layout)
            .set_type_version(ControlState::type_id(), row.control)
            .set_type_version(RssState::type_id(), row.rss)
            .set_type_version(NotfCoalState::type_id(), row.notf_coal)
            .set_type_version(LimiterState::type_id(), row.limiter)
            .set_type_version(BucketState::type_id(), row.bucket);
    }
    map
}

#[cfg(test)]
mod tests;
