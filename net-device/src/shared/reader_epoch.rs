//! Epochs of the readers of a policy, by which its writer knows that none acts on the old one.

use std::sync::atomic::Ordering;

#[cfg(not(test))]
use std::{
    sync::atomic::{AtomicU64, fence},
    thread::yield_now,
};

// In this crate's unit tests, those of a model that shows each thread whatever a CPU may show it.
#[cfg(test)]
use {
    net_queue::testing::weak_memory::{AtomicU64, fence},
    shuttle::thread::yield_now,
};

/// Marks the times in which a worker acts on what it has read of the policy.
///
/// The count is odd while the worker is inside. Whoever changed the policy waits until every worker
/// has been outside once; from then on the old one has no effect any more.
#[derive(Debug, Default)]
pub(crate) struct ReaderEpoch(AtomicU64);

impl ReaderEpoch {
    /// Goes inside until the result is dropped, a panic included. One thread at a time.
    #[inline]
    pub(crate) fn enter(&self) -> impl Drop + use<'_> {
        struct Inside<'a>(&'a AtomicU64);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.store(
                    self.0.load(Ordering::Relaxed).wrapping_add(1),
                    Ordering::Release,
                );
            }
        }
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        // Either this worker sees the new policy, or the one who changed it sees this worker
        // inside.
        fence(Ordering::SeqCst);
        Inside(&self.0)
    }

    /// Waits until the worker is, or has been, outside. Its stay is bounded by its budget.
    pub(super) fn wait(&self) {
        fence(Ordering::SeqCst);
        let seen = self.0.load(Ordering::Acquire);
        while seen % 2 == 1 && self.0.load(Ordering::Acquire) == seen {
            yield_now();
        }
    }
}

#[cfg(test)]
mod tests;
