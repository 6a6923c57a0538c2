//! Token buckets for bytes and operations: exact at every rate, fair across queues.
//!
//! - [`TokenBucket`]: one bucket. Integers only, no clock, no file descriptor, no allocation.
//! - [`RateLimiter`]: bytes and operations together, all or nothing, from a [`RateLimiterConfig`].
//! - [`Limiter`]: any of them, for a data path that does not care which.
//!
//! # Use
//!
//! Time is an argument, so the caller brings clock and timer. Take before sending; on refusal sleep
//! until the deadline; refund what was not sent after all.
//!
//! ```
//! use rate_limiter::{Limiter, Rate, RateLimiter, RateLimiterConfig};
//!
//! let rate: Rate = "10Mbit".parse()?;
//! let config = RateLimiterConfig { bandwidth: Some(rate.bucket(0)?), ..Default::default() };
//! let mut limiter = Limiter::from(RateLimiter::new(&config)?);
//!
//! let (mut now_ns, mut sent) = (0, 0);
//! while now_ns < 1_000_000_000 {
//!     match limiter.take(now_ns, 1500, 1) {
//!         Ok(()) => sent += 1500,
//!         Err(deadline) => now_ns = deadline.ns(), // a program would arm its timer
//!     }
//! }
//! // 1.25 MB in the second, and the 12.5 kB that the bucket held at first.
//! assert_eq!(sent / 1500, (1_250_000 + 12_500) / 1500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod any;
mod bucket;
mod config;
mod group;
mod levels;
mod limiter;
mod rate;
mod sync;

pub use any::Limiter;
pub use bucket::{Deadline, TokenBucket};
pub use config::{ConfigError, RateLimiterConfig, TokenBucketConfig};
pub use group::{Group, Member, Wake};
pub use levels::{Level, Levels};
pub use limiter::RateLimiter;
pub use rate::{Quantity, Rate, RateError};
