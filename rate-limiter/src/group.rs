//! One budget for any number of queues, devices and threads.

mod holding;
mod member;
mod meter;
mod node;
#[cfg(test)]
mod tests;
mod wake;

use crate::config::{ConfigError, RateLimiterConfig};
use crate::levels::Levels;
use crate::sync::Arc;

pub use member::Member;
use node::Node;
pub use wake::Wake;

/// One budget that its [`Member`]s share, fairly and without a lock.
///
/// A device that is limited as a whole is a group with one member per queue. A group may be
/// [`within`](Self::within) another: its members then take from both, all or nothing.
///
/// - Exact: in any window all members together take at most `rate * window + burst` (where a cost
///   is larger than the burst, that cost instead of the burst), and greedy ones take all of `rate *
///   window`. Two things count on top when they are used after all: the advances that members keep,
///   an eighth of the burst at most, where a frame of almost the whole burst did not wait for them;
///   and a quantum that its member used only a whole refill time late.
/// - Fair: members that wait are served in rounds, each with a quantum of the same number of tokens
///   where the burst is at least twice the largest frame for each member, else one frame. Members
///   of several groups inside one share it as members, not as groups.
/// - No lost wake: a refused member knows when to try again without anyone telling it. Being woken
///   earlier is a gain only when others give back or the limits change.
///
/// A member that has nothing to send says so with [`idle`](Member::idle), and one that was refused
/// comes back at its deadline or is idle; otherwise it holds up others for up to a refill time.
///
/// ```
/// use std::sync::Arc;
/// use rate_limiter::{Group, RateLimiterConfig, TokenBucketConfig};
///
/// let bucket = TokenBucketConfig { size: 6000, one_time_burst: None, refill_time: 6 };
/// let group = Group::new(&RateLimiterConfig { bandwidth: Some(bucket), ..Default::default() })?;
/// let (mut a, mut b) = (group.member(Arc::new(|| {})), group.member(Arc::new(|| {})));
/// a.take(0, 6000, 1)?;
/// let deadline = b.take(0, 1500, 1).unwrap_err();
/// assert_eq!(deadline.ns(), 1_500_000);
/// b.take(deadline.ns(), 1500, 1)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Group {
    node: Arc<Node>,
}

impl Group {
    /// A group with full buckets.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid.
    pub fn new(config: &RateLimiterConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            node: Arc::new(Node::new(None, &config.limits()?)),
        })
    }

    /// A group inside this one.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid.
    pub fn within(&self, config: &RateLimiterConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            node: Arc::new(Node::new(Some(self.node.clone()), &config.limits()?)),
        })
    }

    /// A new member, which `wake` wakes.
    #[must_use]
    pub fn member(&self, wake: std::sync::Arc<dyn Wake>) -> Member {
        Member::new(self, wake)
    }

    /// Changes the limits while members go on; tokens and debt stay as far as the new burst holds
    /// them, and who waits is woken. Tokens that members hold already stay theirs.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid; the limits stay as they were.
    pub fn update(&self, now_ns: u64, config: &RateLimiterConfig) -> Result<(), ConfigError> {
        self.node
            .replace(now_ns, Some(&config.limits()?), &Levels::default());
        Ok(())
    }

    /// Fill level of the buckets. What members hold counts as used, so let them be
    /// [`idle`](Member::idle) first.
    #[must_use]
    pub fn levels(&self, now_ns: u64) -> Levels {
        self.node.levels(now_ns)
    }

    /// Takes over saved levels; a bucket without one stays as it is, a level without a bucket is
    /// ignored.
    pub fn restore(&self, now_ns: u64, levels: &Levels) {
        self.node.replace(now_ns, None, levels);
    }
}
