//! The one type that a data path calls per frame, whichever limit is behind it.

use crate::bucket::Deadline;
use crate::levels::Levels;
use crate::limiter::RateLimiter;

/// A limit of any kind. [`Unlimited`](Self::Unlimited) costs one branch.
#[derive(Debug, Default)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per queue, and a box would cost a cache line per frame"
)]
pub enum Limiter {
    /// Everything passes.
    #[default]
    Unlimited,
    /// A budget of its own.
    Own(RateLimiter),
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
        }
    }

    /// Takes `bytes` and `ops` in any case, for a frame whose size is known only once it is there.
    #[inline]
    pub fn force(&mut self, now_ns: u64, bytes: u64, ops: u64) {
        match self {
            Self::Unlimited => {}
            Self::Own(limiter) => limiter.force(now_ns, bytes, ops),
        }
    }

    /// Gives back what was taken for a frame that was not sent.
    #[inline]
    pub fn refund(&mut self, bytes: u64, ops: u64) {
        match self {
            Self::Unlimited => {}
            Self::Own(limiter) => limiter.refund(bytes, ops),
        }
    }

    /// When `bytes` and `ops` can be taken; `None` is now. Takes nothing.
    #[inline]
    pub fn deadline(&mut self, now_ns: u64, bytes: u64, ops: u64) -> Option<Deadline> {
        match self {
            Self::Unlimited => None,
            Self::Own(limiter) => limiter.deadline(now_ns, bytes, ops),
        }
    }

    /// Says that no frame is waiting, so that what is held in advance serves others. To be called
    /// when a queue ran empty; only a shared limit has anything to do.
    #[inline]
    pub fn idle(&mut self, now_ns: u64) {
        let _ = now_ns;
    }

    /// How full the buckets are, to be saved.
    pub fn levels(&mut self, now_ns: u64) -> Levels {
        match self {
            Self::Unlimited => Levels::default(),
            Self::Own(limiter) => limiter.levels(now_ns),
        }
    }

    /// Takes over saved levels.
    pub fn restore(&mut self, now_ns: u64, levels: &Levels) {
        match self {
            Self::Unlimited => {}
            Self::Own(limiter) => limiter.restore(now_ns, levels),
        }
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
