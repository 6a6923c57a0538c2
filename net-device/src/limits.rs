//! The device's rate limits, and the timers that end a wait for them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rate_limiter::{ConfigError, Group, Limiter, RateLimiter, RateLimiterConfig, Wake};
use vmm_sys_util::timerfd::TimerFd;

use crate::config::LimitScope;
use crate::error::LimitError;

/// Nanoseconds on the clock that all limits of the process share, so that budgets can be shared too. Whoever changes
/// a [`Group`] that devices are within does it at this time.
#[must_use]
pub fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A timer that a worker waits for while its limiter says no. A shared budget makes it expire early when tokens
/// come back.
#[derive(Debug)]
pub(crate) struct LimitTimer(Mutex<TimerFd>);

impl LimitTimer {
    fn new() -> io::Result<Self> {
        Ok(Self(Mutex::new(TimerFd::new()?)))
    }

    /// Expires at `deadline`, on the clock of [`now_ns`].
    pub(crate) fn arm(&self, deadline: u64) {
        // Zero would disarm it.
        self.set(Duration::from_nanos(
            deadline.saturating_sub(now_ns()).max(1),
        ));
    }

    fn set(&self, after: Duration) {
        let mut timer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails for durations beyond what the kernel's clock can hold; such a wait never ends anyway.
        let _ = timer.reset(after, None);
    }

    pub(crate) fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        let timer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(crate::fd::of(&*timer))
    }
}

impl Wake for LimitTimer {
    fn wake(&self) {
        self.set(Duration::from_nanos(1));
    }
}

/// One queue's limiter and, if it can say no, its timer.
#[derive(Debug, Default)]
pub(crate) struct QueueLimit {
    pub(crate) limiter: Limiter,
    pub(crate) timer: Option<Arc<LimitTimer>>,
}

impl QueueLimit {
    fn own(config: &RateLimiterConfig) -> Result<Self, LimitError> {
        Ok(Self {
            limiter: Limiter::Own(RateLimiter::new(config)?),
            timer: Some(Self::timer()?),
        })
    }

    fn shared(group: &Group) -> Result<Self, LimitError> {
        let timer = Self::timer()?;
        Ok(Self {
            limiter: Limiter::Shared(group.member(timer.clone())),
            timer: Some(timer),
        })
    }

    fn timer() -> Result<Arc<LimitTimer>, LimitError> {
        LimitTimer::new().map(Arc::new).map_err(LimitError::Timer)
    }
}

/// What the limiters of one direction of a device are made from.
pub(crate) struct Budget<'a> {
    pub(crate) config: Option<RateLimiterConfig>,
    pub(crate) scope: LimitScope,
    /// What others share as well.
    pub(crate) outer: Option<&'a Group>,
}

impl Budget<'_> {
    /// The limiters of `queues` queues.
    pub(crate) fn limiters(&self, queues: usize) -> Result<Vec<QueueLimit>, LimitError> {
        if !self.is_limited() {
            return Ok((0..queues).map(|_| QueueLimit::default()).collect());
        }
        if self.scope == LimitScope::Device && queues > 1 {
            let group = self.group()?;
            return (0..queues).map(|_| QueueLimit::shared(&group)).collect();
        }
        let one = |_| match (self.outer, self.config) {
            // Alone in its bucket: cheaper than a group.
            (None, Some(config)) => QueueLimit::own(&config),
            _ => QueueLimit::shared(&self.group()?),
        };
        (0..queues).map(one).collect()
    }

    /// How limiters that were made from this come to follow `next`.
    pub(crate) fn change(&self, next: &Self, queues: usize) -> Result<Change, LimitError> {
        if self.is_limited() && next.is_limited() {
            Ok(Change::Update(next.config.unwrap_or_default()))
        } else {
            Ok(Change::Replace(next.limiters(queues)?))
        }
    }

    /// A group of the device's own, even if it limits nothing: what is saved and changed is never the outer one.
    fn group(&self) -> Result<Group, LimitError> {
        let config = self.config.unwrap_or_default();
        Ok(match self.outer {
            Some(outer) => outer.within(&config)?,
            None => Group::new(&config)?,
        })
    }

    fn is_limited(&self) -> bool {
        self.outer.is_some() || self.config.is_some()
    }
}

/// What happens to the limiters of one direction.
#[derive(Debug)]
pub(crate) enum Change {
    /// The buckets that are there go on, tokens and debt included, under these numbers.
    Update(RateLimiterConfig),
    /// Others, one for each queue.
    Replace(Vec<QueueLimit>),
}

impl Change {
    /// Changes one queue's limiter. Members of one group change it one after the other, to the same.
    pub(crate) fn apply(&mut self, limit: &mut QueueLimit) -> Result<(), ConfigError> {
        match self {
            Self::Update(config) => limit.limiter.update(now_ns(), config)?,
            Self::Replace(others) => *limit = others.pop().unwrap_or_default(),
        }
        Ok(())
    }
}
