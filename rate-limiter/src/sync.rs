//! The atomics and locks of [`Group`](crate::Group): those of `std`, and in this crate's own unit
//! tests those of `shuttle`, which tries every kind of interleaving.

#[cfg(not(test))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

#[cfg(test)]
pub(crate) use shuttle::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};
#[cfg(test)]
pub(crate) use std::sync::PoisonError;

/// The guard, even after another thread panicked with the lock: no critical section of this crate
/// leaves its data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
