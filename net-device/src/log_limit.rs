//! Log lines that somebody else can cause: a few of them, then a count.
//!
//! A guest breaks its ring and resets the device, a front-end connects and leaves, a client sets a
//! limit, each as fast as it likes. So every line that they can cause goes through a [`LogLimit`]:
//! one for each device, and one for each socket that a program serves. What is withheld is counted,
//! and the next line that passes says how many there were.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use log::Level;

use rate_limiter::{Quantity, Rate, TokenBucket};

/// Lines of one level that pass at once.
pub const LOG_BURST: u64 = 10;
/// Time after which another one passes, in nanoseconds: ten seconds.
pub const LOG_INTERVAL_NS: u64 = 10_000_000_000;

const LEVELS: usize = Level::Trace as usize;

/// Limits the log lines of one source. Each level has its own limit, so that chatter does not hide
/// an error.
#[derive(Debug, Default)]
pub struct LogLimit {
    levels: [Mutex<LevelLimit>; LEVELS],
    withheld: AtomicU64,
}

#[derive(Debug)]
struct LevelLimit {
    bucket: TokenBucket,
    /// Since the last line that passed.
    withheld: u64,
}

impl Default for LevelLimit {
    fn default() -> Self {
        // One token in an interval, which is neither zero nor too long.
        let rate = Rate::new(1, LOG_INTERVAL_NS, Quantity::Operations).ok();
        let bucket = rate.map(|rate| TokenBucket::new(LOG_BURST, rate, 0));
        Self {
            bucket: bucket.expect("a constant"),
            withheld: 0,
        }
    }
}

impl LogLimit {
    /// Decides on a line of `level` at `now_ns`: `Some` if it may be written, with the number of
    /// lines of this level that were withheld before it.
    pub fn admit(&self, now_ns: u64, level: Level) -> Option<u64> {
        let limit = &self.levels[level as usize - 1];
        let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.bucket.take(now_ns, 1).is_ok() {
            return Some(std::mem::take(&mut limit.withheld));
        }
        limit.withheld = limit.withheld.saturating_add(1);
        self.withheld.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Lines withheld so far.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Writes `message` at `now_ns`, or counts it. A line that nobody would see takes no other
    /// one's place. Usually called by [`log_limited!`](crate::log_limited), which fills in the time
    /// and the module.
    pub fn log(
        &self,
        now_ns: u64,
        level: Level,
        module: &'static str,
        message: fmt::Arguments<'_>,
    ) {
        if level > log::max_level() || !log::log_enabled!(target: module, level) {
            return;
        }
        match self.admit(now_ns, level) {
            Some(0) => write(level, module, message),
            Some(count) => write(
                level,
                module,
                format_args!("{message} ({count} messages withheld before this one)"),
            ),
            None => {}
        }
    }
}

fn write(level: Level, module: &'static str, message: fmt::Arguments<'_>) {
    let record = log::Record::builder()
        .level(level)
        .target(module)
        .module_path_static(Some(module))
        .args(message)
        .build();
    log::logger().log(&record);
}

/// Writes a line to the log within a [`LogLimit`]: `log_limited!(limit, Warn, "ring {index} is
/// broken")`.
///
/// ```
/// use net_device::log_limit::LogLimit;
/// use net_device::log_limited;
///
/// let limit = LogLimit::default();
/// for round in 0..1000 {
///     log_limited!(limit, Warn, "round {round}");
/// }
/// ```
#[macro_export]
macro_rules! log_limited {
    ($limit:expr, $level:ident, $($message:tt)+) => {
        $limit.log(
            $crate::now_ns(),
            $crate::log_limit::Level::$level,
            module_path!(),
            format_args!($($message)+),
        )
    };
}

#[cfg(test)]
mod tests;
