//! The seam between the engines and whatever limits them.

#[cfg(test)]
mod tests;

/// Says when the next frame may pass; the other seam of the engines.
pub trait Limit: Send {
    /// Charges one frame of `bytes` at `now` (ns), or says at which time to ask again.
    ///
    /// # Errors
    /// The deadline in nanoseconds; nothing was charged.
    fn take(&mut self, now: u64, bytes: u64) -> Result<(), u64>;

    /// Charges one frame whatever the level: the debt delays the ones to come.
    fn force(&mut self, now: u64, bytes: u64);

    /// Gives back the charge of a frame that did not pass.
    fn refund(&mut self, bytes: u64);

    /// Notes that no frame is waiting, so that a shared budget can be left to others.
    fn idle(&mut self, _now: u64) {}
}

/// No limit at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Limit for Unlimited {
    fn take(&mut self, _now: u64, _bytes: u64) -> Result<(), u64> {
        Ok(())
    }

    fn force(&mut self, _now: u64, _bytes: u64) {}

    fn refund(&mut self, _bytes: u64) {}
}

impl Limit for rate_limiter::Limiter {
    // A queue without a limit makes one comparison and no call; what takes tokens is not compiled
    // into its path.
    #[inline]
    fn take(&mut self, now: u64, bytes: u64) -> Result<(), u64> {
        match self {
            Self::Unlimited => Ok(()),
            limited => take_tokens(limited, now, bytes),
        }
    }

    fn force(&mut self, now: u64, bytes: u64) {
        rate_limiter::Limiter::force(self, now, bytes, 1);
    }

    fn refund(&mut self, bytes: u64) {
        rate_limiter::Limiter::refund(self, bytes, 1);
    }

    fn idle(&mut self, now: u64) {
        rate_limiter::Limiter::idle(self, now);
    }
}

#[inline(never)]
fn take_tokens(limiter: &mut rate_limiter::Limiter, now: u64, bytes: u64) -> Result<(), u64> {
    let taken = limiter.take(now, bytes, 1);
    taken.map_err(|deadline| deadline.ns())
}
