//! Times at which a limiter that says no is to be asked again.

/// When to try again, in nanoseconds of the caller's clock: the first at which the same request
/// passes if nothing else is taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("no tokens until {0} ns")]
pub struct Deadline(u64);

impl Deadline {
    /// A time that no clock reaches.
    pub const NEVER: Self = Self(u64::MAX);

    /// The deadline `ns` nanoseconds into the caller's clock.
    #[must_use]
    pub const fn at(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds on the caller's clock.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.0
    }
}
