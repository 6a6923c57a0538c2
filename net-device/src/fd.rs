//! Descriptors of types that do not know `AsFd` yet, as types that carry ownership.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

/// A type that owns the descriptor it shows.
pub(crate) trait Owner: AsRawFd {}
impl Owner for EventFd {}
impl Owner for TimerFd {}

/// The descriptor of `owner`, for as long as that is borrowed.
pub(crate) fn of<T: Owner>(owner: &T) -> BorrowedFd<'_> {
    // SAFETY: an `Owner` keeps its descriptor open, and the result does not outlive the borrow of
    // it.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }
}

/// The descriptor of `event`, which is used up.
pub(crate) fn into_owned(event: EventFd) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up the descriptor, so the result is its only owner.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}

/// A new epoll instance.
pub(crate) fn epoll() -> std::io::Result<OwnedFd> {
    let fd: RawFd = epoll::create(true)?;
    // SAFETY: the descriptor has just been made and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
