//! Budgets that a device shares with others.

use std::sync::Arc;

use rate_limiter::{Group, RateLimiter, RateLimiterConfig};

use crate::clock::Clock;
use crate::config::NetConfig;
use crate::rate_limit::DirectionLimit;

/// The budgets around a device's own, by direction.
#[derive(Clone, Debug, Default)]
pub(super) struct LimitGroups {
    pub(super) rx: Option<Group>,
    pub(super) tx: Option<Group>,
}

impl LimitGroups {
    /// Limits of both directions of a device with this configuration.
    pub(super) fn budgets<'a>(
        &'a self,
        config: &NetConfig,
        clock: &'a Arc<dyn Clock>,
    ) -> (DirectionLimit<'a>, DirectionLimit<'a>) {
        let budget = |limit: Option<RateLimiterConfig>, outer| DirectionLimit {
            config: limit.filter(limits_something),
            scope: config.limit_scope,
            outer,
            clock,
        };
        (
            budget(config.rx_limit, self.rx.as_ref()),
            budget(config.tx_limit, self.tx.as_ref()),
        )
    }
}

/// Zeros mean "no limit", which is cheaper without a limiter.
fn limits_something(config: &RateLimiterConfig) -> bool {
    !RateLimiter::new(config).is_ok_and(|limiter| limiter.is_unlimited())
}
