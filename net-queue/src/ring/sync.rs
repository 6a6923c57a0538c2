//! The accesses to ring words and their fences: guarded ones, and in this crate's own unit tests
//! those of a model that shows each thread whatever a CPU is allowed to show it
//! (`testing::weak_memory`).

pub(super) use std::sync::atomic::Ordering;
#[cfg(not(test))]
pub(super) use std::sync::atomic::fence;

#[cfg(not(test))]
pub(super) use crate::memory::guard as words;
#[cfg(test)]
pub(super) use crate::testing::weak_memory::{self as words, fence};
