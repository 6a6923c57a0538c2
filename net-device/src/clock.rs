//! Clock of all limits and deadlines.

use std::sync::LazyLock;
use std::time::Instant;

/// Nanoseconds on the clock that all limits of the process share, so that budgets can be shared
/// too. Whoever changes a [`Group`](rate_limiter::Group) that devices are within does it at this
/// time.
#[must_use]
pub fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
