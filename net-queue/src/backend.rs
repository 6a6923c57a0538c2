//! The seam between the engines and whatever carries frames.

use std::io;
use std::os::fd::BorrowedFd;

use crate::memory::guard::MemoryFault;
use crate::memory::segment::{Gather, Scatter};
use crate::offload::Offloads;

/// What a backend can do, as found when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Work that frames sent to it may leave undone. Checksums are completed for a backend without `CSUM`.
    pub tx: Offloads,
    /// Work that it may leave undone in frames received from it.
    pub rx: Offloads,
    /// Its MTU in bytes, if it has one.
    pub mtu: Option<u16>,
    /// Several backends of this kind can be queues of one link.
    pub multi_queue: bool,
}

/// What was negotiated, for the backend to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Bytes of the virtio-net header in front of every frame, both ways.
    pub hdr_len: usize,
    /// Work that received frames may carry undone.
    pub rx: Offloads,
}

/// Why a frame was not sent.
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

/// Why no frame was received.
#[derive(Debug)]
pub enum RecvError {
    /// None is there: wait until the backend is readable.
    WouldBlock,
    /// One was there and is lost; the next one may come through.
    Lost,
    /// One was there and is lost, since the room for it could not be written: guest memory is not there.
    Memory,
    /// Nothing will be received any more.
    Dead(io::Error),
}

impl From<MemoryFault> for SendError {
    fn from(_: MemoryFault) -> Self {
        Self::Memory
    }
}

impl From<MemoryFault> for RecvError {
    fn from(_: MemoryFault) -> Self {
        Self::Memory
    }
}

/// Carries frames, each behind a virtio-net header of [`LinkConfig::hdr_len`] bytes.
pub trait FrameBackend: Send {
    /// What it can do.
    fn caps(&self) -> Caps;

    /// Its MTU in bytes as it is now, if it has one: for links whose MTU changes after they were opened.
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

    /// Receives one frame and returns the bytes of header and frame. A frame longer than the room is cut; the
    /// caller offers room beyond what it can use, to notice.
    ///
    /// # Errors
    /// See [`RecvError`].
    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError>;

    /// What to poll for readable and writable.
    fn poll_fd(&self) -> BorrowedFd<'_>;

    /// Whether frames can still pass; asked when the descriptor reports an error or a hang-up, of
    /// which a caller that has nothing to send and no room to receive into would not hear
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

/// Says when the next frame may pass; the other seam of the engines.
pub trait Limit: Send {
    /// Charges one frame of `bytes` at `now` (ns), or says at which time to ask again.
    ///
    /// # Errors
    /// The deadline in nanoseconds; nothing was charged.
    fn take(&mut self, now: u64, bytes: u64) -> Result<(), u64>;

    /// Charges one frame whatever the level: the debt delays the ones to come.
    fn force(&mut self, now: u64, bytes: u64);

    /// Gives back the charge of a frame that did not pass.
    fn refund(&mut self, bytes: u64);

    /// Is told that no frame is waiting, so that a shared budget can be left to others.
    fn idle(&mut self, _now: u64) {}
}

/// No limit at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Limit for Unlimited {
    fn take(&mut self, _now: u64, _bytes: u64) -> Result<(), u64> {
        Ok(())
    }

    fn force(&mut self, _now: u64, _bytes: u64) {}

    fn refund(&mut self, _bytes: u64) {}
}

/// Decides which received frames the driver wants to see.
pub trait Admit: Sync {
    /// Looks at the first bytes of a frame: 18, or all of a shorter one.
    fn admit(&self, head: &[u8]) -> bool;
}

/// How much one call may do before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Chains looked at.
    pub frames: u32,
    /// Bytes moved.
    pub bytes: u64,
}

impl Budget {
    /// Takes one frame of `bytes` off; false when nothing is left for another.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: u64) -> bool {
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.frames > 0 && self.bytes > 0
    }
}

/// What a call did: why it stopped, and whether the driver asks for an interrupt.
#[derive(Debug)]
pub struct Outcome<S> {
    /// Why it stopped.
    pub stop: S,
    /// Frames that passed.
    pub frames: u64,
    /// The driver wants to be told of what was used.
    pub interrupt: bool,
}
