//! Clock of all limits and deadlines.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

/// Nanoseconds on the clock that all limits of the process share, so that budgets can be shared
/// too: [`MonotonicClock`]. Whoever changes a [`Group`](rate_limiter::Group) that devices are
/// within does it at this time.
#[must_use]
pub fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Time of a device: what its limits, deadlines and waits are measured on. A VMM that replays a
/// run, or a simulation, brings one of its own; devices that share a budget share their clock too.
///
/// Threads of a device wait for the kernel's time. One whose clock runs otherwise had better be in
/// an event loop, which waits as the clock says.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Nanoseconds since some point in the past. They never go back.
    fn now_ns(&self) -> u64;

    /// A timer on this clock, which is not set.
    ///
    /// # Errors
    /// The host has none.
    fn timer(&self) -> io::Result<Box<dyn Timer>>;
}

/// A timer that workers wait for.
pub trait Timer: fmt::Debug + Send {
    /// Expires `wait_ns` nanoseconds from now, and not when it was set to before; 0: at once.
    fn set(&mut self, wait_ns: u64);

    /// Descriptor that becomes readable when the timer expires.
    fn fd(&self) -> BorrowedFd<'_>;
}

/// The kernel's clock, CLOCK_MONOTONIC, from [`now_ns`].
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(KernelTimer(TimerFd::new()?)))
    }
}

struct KernelTimer(TimerFd);

impl fmt::Debug for KernelTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KernelTimer").finish_non_exhaustive()
    }
}

impl Timer for KernelTimer {
    fn set(&mut self, wait_ns: u64) {
        // Zero would disarm it. It fails for durations beyond what the kernel's clock can hold;
        // such a wait never ends anyway.
        let _ = self.0.reset(Duration::from_nanos(wait_ns.max(1)), None);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        crate::fd::of(&self.0)
    }
}
