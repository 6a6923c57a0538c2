//! Limits of an activated device: read, and changed.

use rate_limiter::Levels;

use super::{ActiveDevice, Pair};
use crate::error::{LimitError, WorkerLost};
use crate::rate_limit::Change;

impl ActiveDevice {
    /// Reads what is left of every queue's limit. Pairs whose worker runs are left alone and out.
    pub(crate) fn limits(&mut self) -> Result<Vec<(u16, Levels)>, WorkerLost> {
        let mut limits = Vec::new();
        for (pair, state) in (0..).zip(&mut self.pairs) {
            let levels = match state {
                Pair::Idle(resources) => Some(resources.levels(pair)),
                Pair::Worker(handle) => handle.with_parked(|worker| worker.resources.levels(pair)),
                Pair::Lost(lost) => return Err(lost.clone()),
            };
            limits.extend(levels.into_iter().flatten());
        }
        Ok(limits)
    }

    /// Changes every pair's limits between two frames and leaves the workers parked. A queue that
    /// waits for a limit tries again when it goes on.
    pub(crate) fn change_limits(
        &mut self,
        mut rx: Change,
        mut tx: Change,
    ) -> Result<(), LimitError> {
        let mut result = Ok(());
        for pair in &mut self.pairs {
            // A pair that is lost keeps none of the others from going on.
            let changed = pair
                .resources()
                .map_err(LimitError::from)
                .and_then(|resources| {
                    resources.change_limits(&mut rx, &mut tx)?;
                    Ok(())
                });
            result = result.and(changed);
        }
        result
    }
}
