//! The device's rate limits: the limiters of its queues, and how they change.

use std::sync::Arc;

use rate_limiter::{ConfigError, Group, Limiter, RateLimiter, RateLimiterConfig};

use crate::clock::Clock;
use crate::config::LimitScope;
use crate::error::LimitError;
use crate::wake_timer::{Asked, WakeTimer};

/// One queue's limiter and, if it can say no, its timer.
#[derive(Debug, Default)]
pub(crate) struct QueueLimit {
    pub(crate) limiter: Limiter,
    pub(crate) timer: Option<Arc<WakeTimer>>,
}

impl QueueLimit {
    /// Begins a question to the limiter.
    #[inline]
    pub(crate) fn ask(&self) -> Asked {
        let timer = self.timer.as_ref();
        timer.map_or_else(Asked::default, |timer| timer.ask())
    }

    /// Lets the timer expire at `deadline`, the answer to what was `asked`, or as soon as there is
    /// a better one.
    pub(crate) fn wait_until(&self, deadline: u64, asked: Asked) {
        self.timer
            .iter()
            .for_each(|timer| timer.set_deadline(deadline, asked));
    }

    /// Says that no frame waits for the limit: what is held of a shared one serves others.
    pub(crate) fn idle(&mut self) {
        if let Some(timer) = &self.timer {
            self.limiter.idle(timer.now_ns());
        }
    }

    /// The time on the limit's clock; 0 where there is no limit.
    pub(crate) fn now_ns(&self) -> u64 {
        self.timer.as_ref().map_or(0, |timer| timer.now_ns())
    }
}

impl QueueLimit {
    fn own(config: &RateLimiterConfig, clock: &Arc<dyn Clock>) -> Result<Self, LimitError> {
        Ok(Self {
            limiter: Limiter::Own(RateLimiter::new(config)?),
            timer: Some(Self::timer(clock)?),
        })
    }

    fn shared(group: &Group, clock: &Arc<dyn Clock>) -> Result<Self, LimitError> {
        let timer = Self::timer(clock)?;
        Ok(Self {
            limiter: Limiter::Shared(group.member(timer.clone())),
            timer: Some(timer),
        })
    }

    fn timer(clock: &Arc<dyn Clock>) -> Result<Arc<WakeTimer>, LimitError> {
        WakeTimer::new(clock)
            .map(Arc::new)
            .map_err(LimitError::Timer)
    }
}

/// Limit of one direction of a device, from which its limiters are made.
pub(crate) struct DirectionLimit<'a> {
    pub(crate) config: Option<RateLimiterConfig>,
    pub(crate) scope: LimitScope,
    /// Budget that others share as well.
    pub(crate) outer: Option<&'a Group>,
    pub(crate) clock: &'a Arc<dyn Clock>,
}

impl DirectionLimit<'_> {
    /// The limiters of `queues` queues.
    pub(crate) fn limiters(&self, queues: usize) -> Result<Vec<QueueLimit>, LimitError> {
        if !self.is_limited() {
            return Ok((0..queues).map(|_| QueueLimit::default()).collect());
        }
        if self.scope == LimitScope::Device && queues > 1 {
            let group = self.group()?;
            return (0..queues)
                .map(|_| QueueLimit::shared(&group, self.clock))
                .collect();
        }
        let one = |_| match (self.outer, self.config) {
            // Alone in its bucket: cheaper than a group.
            (None, Some(config)) => QueueLimit::own(&config, self.clock),
            _ => QueueLimit::shared(&self.group()?, self.clock),
        };
        (0..queues).map(one).collect()
    }

    /// Steps by which limiters that were made from this follow `next`.
    pub(crate) fn change(&self, next: &Self, queues: usize) -> Result<Change, LimitError> {
        if self.is_limited() && next.is_limited() {
            Ok(Change::Update(next.config.unwrap_or_default()))
        } else {
            Ok(Change::Replace(next.limiters(queues)?))
        }
    }

    /// A group of the device's own, even if it limits nothing: what is saved and changed is never
    /// the outer one.
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

/// Change to the limiters of one direction.
#[derive(Debug)]
pub(crate) enum Change {
    /// The buckets that are there go on, tokens and debt included, under these numbers.
    Update(RateLimiterConfig),
    /// Others, one for each queue.
    Replace(Vec<QueueLimit>),
}

impl Change {
    /// Changes one queue's limiter. Members of one group change it one after the other, to the
    /// same.
    pub(crate) fn apply(&mut self, limit: &mut QueueLimit) -> Result<(), ConfigError> {
        match self {
            Self::Update(config) => limit.limiter.update(limit.now_ns(), config)?,
            Self::Replace(others) => *limit = others.pop().unwrap_or_default(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
