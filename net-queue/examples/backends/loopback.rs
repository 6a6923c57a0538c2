//! A link that brings back each frame that is sent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use net_queue::{Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError};

/// Frames on their way; more are lost, as in a full switch.
const DEPTH: usize = 64;

/// Such a link.
pub(crate) struct Loopback {
    frames: VecDeque<Vec<u8>>,
    /// A byte for each frame, to be polled for.
    doorbell: (UnixStream, UnixStream),
}

impl Loopback {
    pub(crate) fn new() -> io::Result<Self> {
        let doorbell = UnixStream::pair()?;
        doorbell.0.set_nonblocking(true)?;
        doorbell.1.set_nonblocking(true)?;
        Ok(Self {
            frames: VecDeque::new(),
            doorbell,
        })
    }
}

impl FrameBackend for Loopback {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        if self.frames.len() == DEPTH {
            return Err(SendError::Refused);
        }
        let mut bytes = vec![0; frame.len()];
        frame.copy_to(&mut bytes)?;
        self.frames.push_back(bytes);
        // A doorbell that is full has been rung.
        let _ = self.doorbell.0.write(&[1]);
        Ok(())
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        let Some(bytes) = self.frames.pop_front() else {
            let mut rung = [0; DEPTH];
            while matches!(self.doorbell.1.read(&mut rung), Ok(1..)) {}
            return Err(RecvError::WouldBlock);
        };
        Ok(room.write_at(0, &bytes)?)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.doorbell.1.as_fd()
    }
}
