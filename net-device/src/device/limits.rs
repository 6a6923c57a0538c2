//! Limits that change while the device lives, and budgets that it shares with other devices.

use rate_limiter::RateLimiterConfig;

use super::NetDevice;
use super::states::{Failure, State};
use crate::config::NetConfig;
use crate::error::LimitError;
use crate::rate_limit::Change;

impl NetDevice {
    /// Limits the device from now on, in whatever state it is; `None` lifts a limit. Where a bucket
    /// goes on, its tokens and its debt do too. A queue that waits for a limit tries again at once.
    ///
    /// # Errors
    /// The limits are unusable or cannot be set up, and the present ones stay; or a worker is lost.
    pub fn set_limits(
        &mut self,
        rx: Option<RateLimiterConfig>,
        tx: Option<RateLimiterConfig>,
    ) -> Result<(), LimitError> {
        let config = NetConfig {
            rx_limit: rx,
            tx_limit: tx,
            ..self.config.clone()
        };
        config.validate()?;
        let queues = usize::from(config.queue_pairs);
        let (old_rx, old_tx) = self.limit_groups.budgets(&self.config, &self.clock);
        let (new_rx, new_tx) = self.limit_groups.budgets(&config, &self.clock);
        let rx = old_rx.change(&new_rx, queues)?;
        let tx = old_tx.change(&new_tx, queues)?;
        self.config = config;
        self.change_limits(rx, tx)
    }

    fn change_limits(&mut self, mut rx: Change, mut tx: Change) -> Result<(), LimitError> {
        let detached = match &mut self.state {
            State::Paused(active, _) => return active.change_limits(rx, tx),
            State::Running(active) => {
                let changed = active.change_limits(rx, tx);
                active.run_or_fail()?;
                return changed;
            }
            State::Inactive(detached)
            | State::Restored(detached, _)
            | State::Failed(Failure {
                detached: Some(detached),
                ..
            }) => detached,
            State::Failed(failure) => return Err(failure.cause.clone().into()),
        };
        for resources in &mut detached.pairs {
            resources.change_limits(&mut rx, &mut tx)?;
        }
        Ok(())
    }
}
