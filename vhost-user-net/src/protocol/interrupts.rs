//! How the device's workers reach the front-end: one event descriptor for each ring, swapped while they run.
//!
//! A worker writes to descriptors that cannot block, and nothing else: whatever takes more than that is left to the
//! thread that serves the connection, which [`Interrupts::config_event`] wakes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use net_device::{Interrupt, InterruptSource};

use crate::sys;
use crate::sys::foreign;

/// Takes a descriptor that a front-end passed for events, once it is known that using it asks nobody, and makes it
/// non-blocking.
///
/// # Errors
/// It is neither an event counter nor a pipe, or cannot be examined.
pub fn event_file(fd: OwnedFd) -> io::Result<File> {
    if !foreign::is_event(fd.as_fd())? {
        let what = "the descriptor is neither an eventfd nor a pipe";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    sys::set_nonblocking(fd.as_fd())?;
    Ok(File::from(fd))
}

/// Takes a descriptor that a front-end passed to be interrupted through: as [`event_file`], or an end of a pair of
/// sockets, by which user-mode Linux waits for its rings.
///
/// # Errors
/// It is none of these, or cannot be examined.
pub fn call_file(fd: OwnedFd) -> io::Result<File> {
    if foreign::is_socket(fd.as_fd())? {
        let socket = UnixStream::from(fd);
        // Both ends of a connection through a path are known by that path. One held here would keep the connection,
        // and so the device, from ending with its front-end.
        if !(socket.local_addr()?.is_unnamed() && socket.peer_addr()?.is_unnamed()) {
            let what = "the socket has a name; pass one of socketpair(), an eventfd or a pipe";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        socket.set_nonblocking(true)?;
        return Ok(File::from(OwnedFd::from(socket)));
    }
    event_file(fd)
}

/// The interrupt callback of one session.
#[derive(Debug)]
pub struct Interrupts {
    calls: Box<[Mutex<Option<File>>]>,
    config: File,
}

impl Interrupts {
    /// For `rings` rings, none of which has a descriptor yet.
    ///
    /// # Errors
    /// No event descriptor can be made.
    pub fn new(rings: usize) -> io::Result<Self> {
        Ok(Self {
            calls: (0..rings).map(|_| Mutex::new(None)).collect(),
            config: sys::event()?,
        })
    }

    /// Becomes readable when the configuration space changed, or the device needs a reset.
    #[must_use]
    pub fn config_event(&self) -> &File {
        &self.config
    }

    /// SET_VRING_CALL: the old descriptor is closed. Without a new one the driver polls.
    ///
    /// # Errors
    /// It is no descriptor for events, see [`call_file`].
    pub fn set_call(&self, ring: usize, fd: Option<OwnedFd>) -> io::Result<()> {
        let Some(slot) = self.calls.get(ring) else {
            return Ok(());
        };
        *lock(slot) = fd.map(call_file).transpose()?;
        Ok(())
    }
}

/// A poisoned lock still guards a whole value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds one to an event counter; one that is full has been signalled already.
///
/// # Errors
/// The descriptor cannot be written.
pub fn signal(event: Option<&File>) -> io::Result<()> {
    match event.map(|mut file| file.write_all(&1u64.to_ne_bytes())) {
        Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

impl Interrupt for Interrupts {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        match source {
            InterruptSource::Queue(ring) => self
                .calls
                .get(usize::from(ring))
                .map_or(Ok(()), |slot| signal(lock(slot).as_ref())),
            InterruptSource::Config => signal(Some(&self.config)),
        }
    }
}
