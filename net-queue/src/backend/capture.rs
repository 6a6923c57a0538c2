//! Shows every frame that passes to an observer.

use std::io;
use std::os::fd::BorrowedFd;

use crate::backend::{Caps, FrameBackend, LinkConfig, RecvError, SendError};
use crate::header::{HDR_MAX, MAX_FRAME};
use crate::memory::iovec::{Gather, Scatter};

/// Sees frames as they pass, without their virtio-net headers.
pub trait FrameTap: Send {
    /// A frame that was sent or received.
    fn frame(&mut self, bytes: &[u8]);
}

/// A backend whose frames are shown to a [`FrameTap`]. Each frame is copied once more.
///
/// Frames that were coalesced into one are shown one by one, as the driver sent them, but for
/// checksums, which are partial then.
#[derive(Debug)]
pub struct Capture<B, T> {
    inner: B,
    tap: T,
    header: usize,
    buffer: Vec<u8>,
}

impl<B: FrameBackend, T: FrameTap> Capture<B, T> {
    /// Shows the frames of `inner` to `tap`.
    pub fn new(inner: B, tap: T) -> Self {
        Self {
            inner,
            tap,
            header: crate::header::HDR_LEN,
            buffer: vec![0; HDR_MAX + MAX_FRAME],
        }
    }
}

impl<B: FrameBackend, T: FrameTap> FrameBackend for Capture<B, T> {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn mtu(&self) -> Option<u16> {
        self.inner.mtu()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.header = link.hdr_len;
        self.inner.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.inner.send(frame)?;
        for index in 0..frame.frames() {
            // A frame that was sent and cannot be read any more is not shown.
            if let Ok(len) = frame.copy_frame(index, &mut self.buffer) {
                self.tap.frame(&self.buffer[self.header.min(len)..len]);
            }
        }
        Ok(())
    }

    fn is_mid_frame(&self) -> bool {
        self.inner.is_mid_frame()
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        let len = self.inner.recv(room)?;
        let frame = len.saturating_sub(self.header).min(self.buffer.len());
        if let Ok(count) = room.read_at(self.header, &mut self.buffer[..frame]) {
            self.tap.frame(&self.buffer[..count]);
        }
        Ok(len)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.inner.poll_fd()
    }

    fn check(&self) -> io::Result<()> {
        self.inner.check()
    }
}
