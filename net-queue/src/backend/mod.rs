//! The seam between the engines and whatever carries frames.

mod caps;
pub mod capture;

pub use caps::{Caps, LinkConfig};

use std::io;
use std::os::fd::BorrowedFd;

use crate::memory::guard::MemoryFault;
use crate::memory::iovec::{Gather, Scatter};

#[cfg(test)]
mod tests;

/// Cause for which a frame was not sent.
#[non_exhaustive]
#[derive(Debug)]
pub enum SendError {
    /// Not now: the frame stays with the caller until the backend is writable.
    WouldBlock,
    /// Not this frame, ever; the next one may pass.
    Refused,
    /// The frame's bytes cannot be read: guest memory is not there. The next frame may pass.
    Memory,
    /// Nothing will be sent any more.
    Dead(io::Error),
}

/// Cause for which no frame was received.
#[non_exhaustive]
#[derive(Debug)]
pub enum RecvError {
    /// None is there: wait until the backend is readable.
    WouldBlock,
    /// One was there and is lost; the next one may come through.
    Lost,
    /// One was there and is lost, since the room for it could not be written: guest memory is not
    /// there.
    Memory,
    /// Nothing will be received any more.
    Dead(io::Error),
}

impl From<MemoryFault> for SendError {
    fn from(_: MemoryFault) -> Self {
        Self::Memory
    }
}

/// Frames that cannot be sent now, and memory that is not there, are told apart; every other error
/// is [`SendError::Dead`], in which a backend looks for those that its link survives.
impl From<io::Error> for SendError {
    #[inline]
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::WouldBlock,
            _ if error.raw_os_error() == Some(libc::EFAULT) => Self::Memory,
            _ => Self::Dead(error),
        }
    }
}

/// No frame, and memory that is not there, are told apart; every other error is
/// [`RecvError::Dead`], in which a backend looks for those that its link survives.
impl From<io::Error> for RecvError {
    #[inline]
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::WouldBlock,
            _ if error.raw_os_error() == Some(libc::EFAULT) => Self::Memory,
            _ => Self::Dead(error),
        }
    }
}

impl From<MemoryFault> for RecvError {
    fn from(_: MemoryFault) -> Self {
        Self::Memory
    }
}

/// Carries frames, each behind a virtio-net header of [`LinkConfig::hdr_len`] bytes.
pub trait FrameBackend: Send {
    /// Capabilities of this backend.
    fn caps(&self) -> Caps;

    /// MTU of the backend in bytes as it is now, if it has one: for links whose MTU changes after
    /// they were opened.
    fn mtu(&self) -> Option<u16> {
        self.caps().mtu
    }

    /// Follows what was negotiated; called before any frame moves and again when offloads change.
    ///
    /// # Errors
    /// It cannot follow.
    fn configure(&mut self, link: &LinkConfig) -> io::Result<()>;

    /// Sends one frame whole.
    ///
    /// # Errors
    /// See [`SendError`].
    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError>;

    /// Returns whether a part of a frame has left that was refused with
    /// [`SendError::WouldBlock`]. That frame is to be sent again next: a backend over a stream
    /// knows it by its bytes, and would take it for another one behind a frame in between.
    fn is_mid_frame(&self) -> bool {
        false
    }

    /// Receives one frame and returns the bytes of header and frame. A frame longer than the room
    /// is cut; the caller offers room beyond what it can use, to notice.
    ///
    /// # Errors
    /// See [`RecvError`].
    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError>;

    /// Descriptor to poll for readable and writable.
    fn poll_fd(&self) -> BorrowedFd<'_>;

    /// Checks that frames can still pass; asked when the descriptor reports an error or a hang-up,
    /// of which a caller that has nothing to send and no room to receive into would not hear
    /// otherwise.
    ///
    /// # Errors
    /// Nothing will be sent or received any more.
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

impl<B: FrameBackend + ?Sized> FrameBackend for Box<B> {
    fn caps(&self) -> Caps {
        (**self).caps()
    }

    fn mtu(&self) -> Option<u16> {
        (**self).mtu()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        (**self).configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        (**self).send(frame)
    }

    fn is_mid_frame(&self) -> bool {
        (**self).is_mid_frame()
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        (**self).recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        (**self).poll_fd()
    }

    fn check(&self) -> io::Result<()> {
        (**self).check()
    }
}
