//! Token buckets for bytes and operations: exact at every rate, fair across queues.
//!
//! - [`Limiter`]: what a data path calls per frame, whichever of the following is behind it.
//! - [`RateLimiter`]: bytes and operations together, all or nothing, from a [`RateLimiterConfig`]
//!   or a [`Rate`] as typed on a command line.
//! - [`Group`]: one budget for many queues, devices and threads; each has a [`Member`].
//! - [`TokenBucket`]: one bucket, the arithmetic.
//! - [`Levels`]: fill levels to be saved in a snapshot and restored elsewhere.
//!
//! There is no clock, no file descriptor, no thread and no allocation per frame in here, and no
//! `unsafe`.
//!
//! # Why it is exact
//!
//! A token is divided into parts of which a whole number arrives each nanosecond, so there is
//! nothing to round. A bucket may owe: a cost larger than the bucket is granted when that is full,
//! and the rest is debt. So each frame size passes, none is charged too little, and a deadline,
//! rounded up to the next nanosecond, is when the same request passes for certain.
//!
//! A [`Group`] counts in time instead, as the generic cell rate algorithm does: members reserve
//! intervals from the theoretical arrival time on, with one atomic operation, and each reservation
//! has a time at which it conforms. That makes a fair queue without a lock or a list (see [`Group`]
//! for what it promises).
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
//!
//! To limit the queues of a device together, give each a member of one group; nothing else changes:
//!
//! ```
//! # use std::sync::Arc;
//! # use rate_limiter::{Group, Limiter, Rate, RateLimiterConfig};
//! # let rate: Rate = "10Mbit".parse()?;
//! # let config = RateLimiterConfig { bandwidth: Some(rate.bucket(0)?), ..Default::default() };
//! let device = Group::new(&config)?;
//! let wake = Arc::new(|| { /* write to the queue's eventfd */ });
//! let mut queues = [0, 1].map(|_| Limiter::from(device.member(wake.clone())));
//! queues[0].take(0, 12_500 - 1500, 1)?;
//! queues[1].take(0, 1500, 1)?;
//! assert!(queues[0].take(0, 1500, 1).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod any;
mod bucket;
mod config;
mod credit;
mod deadline;
mod group;
mod levels;
mod limiter;
mod rate;
mod sync;

pub use any::Limiter;
pub use bucket::TokenBucket;
pub use config::{ConfigError, RateLimiterConfig, TokenBucketConfig};
pub use deadline::Deadline;
pub use group::{Group, Member, Wake};
pub use levels::{Level, Levels};
pub use limiter::RateLimiter;
pub use rate::{Quantity, Rate, RateError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
