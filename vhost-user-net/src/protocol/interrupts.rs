//! Way from the device's workers to the front-end: one event descriptor for each ring, swapped
//! while they run.
//!
//! A worker writes to descriptors that do not block, and nothing else: whatever takes more than
//! that is left to the thread that serves the connection, which [`Interrupts::config_event`] wakes.
//!
//! A front-end can make an eventfd or a pipe block again and fill it, at any moment. A worker that
//! writes then waits, and only its own front-end has a loss, until somebody needs that worker:
//! [`Interrupts::unblock`] ends the wait by a signal. What is full has been signalled, so nothing
//! is owed; but a descriptor that made a worker wait is not used any more.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use net_device::{Interrupt, InterruptSource};

use crate::sys;
use crate::sys::foreign;
use crate::sys::interruptible::{self, Interruptible};

/// Takes a descriptor that a front-end passed for events, once it is known that using it asks
/// nobody, and makes it non-blocking.
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

/// A descriptor that a front-end passed to be interrupted through.
#[derive(Debug)]
enum Call {
    /// An event counter or a pipe.
    Event(File),
    /// An end of a pair of sockets, by which user-mode Linux waits for its rings.
    Socket(UnixStream),
}

impl Call {
    /// Takes a descriptor of either kind.
    ///
    /// # Errors
    /// It is none of these, or cannot be examined.
    fn new(fd: OwnedFd) -> io::Result<Self> {
        if !foreign::is_socket(fd.as_fd())? {
            return event_file(fd).map(Self::Event);
        }
        let socket = UnixStream::from(fd);
        // Both ends of a connection through a path are known by that path. One held here would keep
        // the connection, and so the device, from ending with its front-end.
        if !(socket.local_addr()?.is_unnamed() && socket.peer_addr()?.is_unnamed()) {
            let what = "the socket has a name; pass one of socketpair(), an eventfd or a pipe";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self::Socket(socket))
    }

    /// Adds one to what the other end has not read; one that takes no more has been signalled
    /// already.
    fn signal(&self) -> io::Result<()> {
        match self {
            Self::Event(file) => signal_once(file),
            // The front-end may let its socket block, but not this call.
            Self::Socket(socket) => {
                match foreign::send_at_once(socket.as_fd(), &1u64.to_ne_bytes()) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Way to interrupt for one ring.
#[derive(Debug, Default)]
struct CallSlot {
    call: Mutex<Option<Call>>,
    /// The write to it by a worker.
    write: Interruptible,
}

impl CallSlot {
    /// For the worker of the ring. A descriptor on which it had to wait is closed.
    fn trigger(&self) -> io::Result<()> {
        let mut call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self
            .write
            .run(|| call.as_ref().map_or(Ok(()), Call::signal));
        forget_blocking(&mut call, &result);
        result
    }

    /// The descriptor, for a thread that must not wait for the worker.
    fn lock(&self) -> MutexGuard<'_, Option<Call>> {
        let mut patient = true;
        loop {
            match self.call.try_lock() {
                Ok(call) => return call,
                // A poisoned lock still guards a whole value.
                Err(TryLockError::Poisoned(call)) => return call.into_inner(),
                Err(TryLockError::WouldBlock) if patient => patient = false,
                Err(TryLockError::WouldBlock) => self.write.interrupt(),
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Closes a descriptor to which a write had to wait.
fn forget_blocking<T>(descriptor: &mut Option<T>, written: &io::Result<()>) {
    if matches!(written, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
        *descriptor = None;
    }
}

/// The interrupt callback of one session.
#[derive(Debug)]
pub struct Interrupts {
    calls: Box<[CallSlot]>,
    /// Sockets may be passed to be interrupted through.
    sockets: bool,
    config: File,
}

impl Interrupts {
    /// Interrupts of `rings` rings, none of which has a descriptor yet. To be made in the thread
    /// that starts the workers.
    ///
    /// Without `sockets` no socket is taken for one: on a connection without a name it could be the
    /// front-end's own end, and whoever holds that never sees the connection end.
    ///
    /// # Errors
    /// No event descriptor can be made.
    pub fn new(rings: usize, sockets: bool) -> io::Result<Self> {
        interruptible::prepare_thread()?;
        Ok(Self {
            sockets,
            calls: (0..rings).map(|_| CallSlot::default()).collect(),
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
    /// It is neither an event counter, a pipe nor an unnamed socket, or a socket where none may be
    /// passed.
    pub fn set_call(&self, ring: usize, fd: Option<OwnedFd>) -> io::Result<()> {
        let Some(slot) = self.calls.get(ring) else {
            return Ok(());
        };
        let call = fd.map(Call::new).transpose()?;
        if matches!(call, Some(Call::Socket(_))) && !self.sockets {
            let what = "a socket may be the other end of this connection, which has no name; pass an eventfd";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        *slot.lock() = call;
        Ok(())
    }

    /// As [`Interrupt::trigger`] for a ring, from a thread that nobody would unblock.
    ///
    /// # Errors
    /// The descriptor cannot be written.
    pub fn trigger_in_time(&self, ring: usize) -> io::Result<()> {
        let Some(slot) = self.calls.get(ring) else {
            return Ok(());
        };
        let mut call = slot.lock();
        let Some(descriptor) = call.as_ref() else {
            return Ok(());
        };
        let result = interruptible::in_time(|| descriptor.signal());
        forget_blocking(&mut call, &result);
        result
    }
}

/// Adds one to an event counter of this process's own; one that is full has been signalled already.
///
/// # Errors
/// The descriptor cannot be written.
pub fn signal(event: Option<&File>) -> io::Result<()> {
    event.map_or(Ok(()), signal_once)
}

/// As [`signal`], to a descriptor that a front-end may have made block, which is forgotten then.
///
/// # Errors
/// The descriptor cannot be written.
pub fn signal_in_time(event: &mut Option<File>) -> io::Result<()> {
    let Some(file) = event.as_ref() else {
        return Ok(());
    };
    let result = interruptible::in_time(|| signal_once(file));
    forget_blocking(event, &result);
    result
}

/// Adds one. `Interrupted` says that it is full, and that the call waited.
fn signal_once(mut event: &File) -> io::Result<()> {
    match event.write(&1u64.to_ne_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

impl Interrupt for Interrupts {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        match source {
            InterruptSource::Queue(ring) => {
                let slot = self.calls.get(usize::from(ring));
                slot.map_or(Ok(()), CallSlot::trigger)
            }
            InterruptSource::Config => signal(Some(&self.config)),
        }
    }

    fn unblock(&self) {
        self.calls.iter().for_each(|slot| slot.write.interrupt());
    }
}

#[cfg(test)]
mod tests;
