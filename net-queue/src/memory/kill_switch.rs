//! Stores that do not take place any more, as those of a process that was killed, for tests
//! (feature `test-utils`, in builds with debug assertions).
//!
//! It is about the words of rings and journals, which tell who goes on where it stands, and about
//! the thread that asks for it.

#[cfg(all(debug_assertions, feature = "test-utils"))]
mod armed {
    use std::cell::Cell;

    thread_local! {
        /// Number of stores that take place before the end.
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Lets this thread's next `stores` stores take place, and none after them until [`revive`].
    pub fn kill_after(stores: u64) {
        LEFT.set(Some(stores));
    }

    /// Returns whether no store takes place any more.
    #[must_use]
    pub fn is_killed() -> bool {
        LEFT.get() == Some(0)
    }

    /// Lets all stores take place again; returns whether some might not have.
    pub fn revive() -> bool {
        LEFT.take() == Some(0)
    }

    /// Counts a store; returns whether it takes place.
    #[inline]
    pub(crate) fn lands() -> bool {
        match LEFT.get() {
            None => true,
            Some(0) => false,
            Some(left) => {
                LEFT.set(Some(left - 1));
                true
            }
        }
    }
}

#[cfg(all(debug_assertions, feature = "test-utils"))]
pub(crate) use armed::lands;
#[cfg(all(debug_assertions, feature = "test-utils"))]
pub use armed::{is_killed, kill_after, revive};

/// Returns that a store takes place.
#[cfg(not(all(debug_assertions, feature = "test-utils")))]
#[inline(always)]
pub(crate) fn lands() -> bool {
    true
}
