//! The device's rate limits, and the timers that end a wait for them.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rate_limiter::{ConfigError, Group, Limiter, RateLimiter, RateLimiterConfig, Wake};
use vmm_sys_util::timerfd::TimerFd;

use crate::error::NewError;

/// Nanoseconds on the clock that all limits of the process share, so that budgets can be shared too.
pub(crate) fn now_ns() -> u64 {
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

/// The limit of one direction of a device, shared by its queues.
#[derive(Debug)]
pub(crate) enum DirectionLimit {
    /// None.
    Unlimited,
    /// One queue has it all.
    Single(RateLimiterConfig),
    /// Several queues share it.
    Shared(Group),
}

impl DirectionLimit {
    pub(crate) fn new(
        config: Option<&RateLimiterConfig>,
        queues: usize,
    ) -> Result<Self, ConfigError> {
        Ok(match config {
            None => Self::Unlimited,
            Some(config) if queues == 1 => Self::Single(*config),
            Some(config) => Self::Shared(Group::new(config)?),
        })
    }

    /// The limiter of one more queue.
    pub(crate) fn queue(&self) -> Result<QueueLimit, NewError> {
        let timer = || LimitTimer::new().map(Arc::new).map_err(NewError::Timer);
        Ok(match self {
            Self::Unlimited => QueueLimit::default(),
            Self::Single(config) => QueueLimit {
                limiter: Limiter::Own(RateLimiter::new(config)?),
                timer: Some(timer()?),
            },
            Self::Shared(group) => {
                let timer = timer()?;
                let limiter = Limiter::Shared(group.member(timer.clone()));
                QueueLimit {
                    limiter,
                    timer: Some(timer),
                }
            }
        })
    }
}
