//! Which version of each struct every release wrote.
//!
//! The version map takes a release it does not know for the latest, and a struct panics on a
//! version it does not know. Neither can happen: [`crate::header`] refuses unknown releases, and
//! the test below holds the last row against the structs.

use versionize::{VersionMap, Versionize};

use crate::state::{
    BucketState, CoalesceState, ConfigState, ControlState, LimiterState, NetState, QueueLayout,
    QueueState, RssState,
};

/// Struct versions of one release.
struct Row {
    net: u16,
    config: u16,
    queue: u16,
    layout: u16,
    control: u16,
    rss: u16,
    coalesce: u16,
    limiter: u16,
    bucket: u16,
}

/// Row `n - 1` is release `n`. Rows are only ever added.
const RELEASES: &[Row] = &[Row {
    net: 1,
    config: 1,
    queue: 1,
    layout: 1,
    control: 1,
    rss: 1,
    coalesce: 1,
    limiter: 1,
    bucket: 1,
}];

/// Newest release of the state, which this build writes.
pub const LATEST: u16 = RELEASES.len() as u16;

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
            .set_type_version(QueueLayout::type_id(), row.layout)
            .set_type_version(ControlState::type_id(), row.control)
            .set_type_version(RssState::type_id(), row.rss)
            .set_type_version(CoalesceState::type_id(), row.coalesce)
            .set_type_version(LimiterState::type_id(), row.limiter)
            .set_type_version(BucketState::type_id(), row.bucket);
    }
    map
}

#[cfg(test)]
mod tests;
