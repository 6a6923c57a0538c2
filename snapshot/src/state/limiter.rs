//! Levels of the rate limiters, so that a restored guest gets neither a free burst nor a pause.

use serde::{Deserialize, Serialize};
use versionize::{VersionMap, Versionize, VersionizeResult};
use versionize_derive::Versionize;

/// The limiter of one data queue; a bucket is `None` where nothing is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct LimiterState {
    /// Index of the queue.
    pub queue: u16,
    /// Bucket of bytes.
    pub bandwidth: Option<BucketState>,
    /// Bucket of operations.
    pub ops: Option<BucketState>,
    /// Bucket that caps bursts, in bytes.
    pub peak_bandwidth: Option<BucketState>,
}

/// Fill level of one token bucket. Its size and rate are configuration, not state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Versionize)]
pub struct BucketState {
    /// Whole tokens, rounded down; below zero is debt still to be served.
    pub tokens: i64,
    /// Fraction that `tokens` lacks, in 2^-64 of a token.
    pub fraction: u64,
    /// Tokens left of the one-time burst.
    pub one_time_burst: u64,
}
