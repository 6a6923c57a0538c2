//! The atomics and fences of ring words: those of `std`, and in this crate's own unit tests those of a model
//! that shows each thread whatever a CPU is allowed to show it (`testing::weak_memory`).

pub(super) use std::sync::atomic::Ordering;
#[cfg(not(test))]
pub(super) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};

#[cfg(test)]
pub(super) use crate::testing::weak_memory::{AtomicU16, AtomicU32, AtomicU64, fence};
