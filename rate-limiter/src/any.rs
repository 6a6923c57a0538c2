//! The one type that a data path calls per frame, whichever limit is behind it.

use crate::config::{ConfigError, RateLimiterConfig};
use crate::deadline::Deadline;
use crate::group::Member;
use crate::levels::Levels;
use crate::limiter::RateLimiter;

/// A limit of any kind. [`Unlimited`](Self::Unlimited) costs one branch.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Limiter {
    /// Everything passes.
    #[default]
    Unlimited,
    /// A budget of its own.
    Own(RateLimiter),
    /// A part of a budget that others use as well.
    Shared(Member),
}

impl Limiter {
    /// Takes `bytes` and `ops`, all or nothing. To be called before the frame is sent.
    ///
    /// # Errors
    /// The [`Deadline`] at which to try again.
    #[inline]
    pub fn take(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Result<(), Deadline> {
        match self {
            Self::Unlimited => Ok(()),
            Self::Own(limiter) => limiter.take(now_ns, bytes, ops),
            Self::Shared(member) => member.take(now_ns, bytes, ops),
        }
    }

    /// Takes `bytes` and `ops` in any case, for a frame whose size is known only once it is there.
    #[inline]
    pub fn force(&mut self, now_ns: u64, bytes: u64, ops: u64) {
        match self {
            Self::Unlimited => {}
            Self::Own(limiter) => limiter.force(now_ns, bytes, ops),
            Self::Shared(member) => member.force(now_ns, bytes, ops),
        }
    }

    /// Gives back what was taken for a frame that was not sent.
    #[inline]
    pub fn refund(&mut self, bytes: u64, ops: u64) {
        match self {
            Self::Unlimited => {}
            Self::Own(limiter) => limiter.refund(bytes, ops),
            Self::Shared(member) => member.refund(bytes, ops),
        }
    }

    /// When `bytes` and `ops` can be taken; `None` is now. Takes nothing.
    #[inline]
    pub fn deadline(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Option<Deadline> {
        match self {
            Self::Unlimited => None,
            Self::Own(limiter) => limiter.deadline(now_ns, bytes, ops),
            Self::Shared(member) => member.deadline(now_ns, bytes, ops),
        }
    }

    /// Says that no frame is waiting, so that what is held in advance serves others. To be called
    /// when a queue ran empty; only a shared limit has anything to do.
    #[inline]
    pub fn idle(&mut self, now_ns: u64) {
        if let Self::Shared(member) = self {
            member.idle(now_ns);
        }
    }

    /// Changes the limits at once, of a shared limit for all its members. Tokens and debt stay.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid; the limits stay as they were.
    pub fn update(&mut self, now_ns: u64, config: &RateLimiterConfig) -> Result<(), ConfigError> {
        match self {
            Self::Unlimited => *self = RateLimiter::new(config)?.into(),
            Self::Own(limiter) => limiter.update(now_ns, config)?,
            Self::Shared(member) => member.group().update(now_ns, config)?,
        }
        Ok(())
    }

    /// Fill level of the buckets, to be saved; of a shared limit, those of its innermost group, to
    /// which this member gives back what it holds. Saving all members saves the same levels.
    pub fn levels(&mut self, now_ns: u64) -> Levels {
        match self {
            Self::Unlimited => Levels::default(),
            Self::Own(limiter) => limiter.levels(now_ns),
            Self::Shared(member) => {
                member.idle(now_ns);
                member.group().levels(now_ns)
            }
        }
    }

    /// Takes over saved levels.
    pub fn restore(&mut self, now_ns: u64, levels: &Levels) {
        match self {
            Self::Unlimited => {}
            Self::Own(limiter) => limiter.restore(now_ns, levels),
            Self::Shared(member) => member.group().restore(now_ns, levels),
        }
    }
}

impl From<Member> for Limiter {
    fn from(member: Member) -> Self {
        Self::Shared(member)
    }
}

/// [`Limiter::Unlimited`] where the limiter limits nothing.
impl From<RateLimiter> for Limiter {
    fn from(limiter: RateLimiter) -> Self {
        if limiter.is_unlimited() {
            Self::Unlimited
        } else {
            Self::Own(limiter)
        }
    }
}
