//! The seam between reception and the other receive queues of a device.

use crate::hash::FrameHash;
use crate::memory::guard::MemoryFault;

/// Queue that a received frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The one that has received it.
    Here,
    /// Another one, by a number that means something to the steering alone.
    Queue(u16),
    /// One that takes no frames: it is dropped.
    Nowhere,
}

/// Moves received frames between the receive queues of a device, where a table of the driver's says
/// which queue each is for. VirtIO 1.4 §5.1.9.5.7 (NET-MQ-08).
pub trait FrameSteering {
    /// Says for which queue a frame with `hash` is.
    fn destination(&self, hash: FrameHash) -> Destination;

    /// Passes a frame, its header first, on to the queue at `to`, behind all that were passed there
    /// before; one for [`Destination::Here`] is kept for this queue. Returns whether there was room
    /// for it.
    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool;

    /// Takes a frame that was passed to this queue, as much of it as there is `room` for, and
    /// returns its length. With `None` it is the backend's turn; if that has none, this is asked
    /// once more, and `None` means then that there is none. As long as a frame is kept for this
    /// queue it is never the backend's turn.
    fn take(&mut self, room: &mut [u8]) -> Option<usize>;
}

/// Steering, or none, which costs nothing.
pub(super) trait Steer {
    fn destination(
        &self,
        hash: impl FnOnce() -> Result<FrameHash, MemoryFault>,
    ) -> Result<Destination, MemoryFault>;
    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool;
    fn take(&mut self, room: &mut [u8]) -> Option<usize>;
}

/// Every frame is for the queue that receives it.
pub(super) struct Unsteered;

impl Steer for Unsteered {
    #[inline(always)]
    fn destination(
        &self,
        _: impl FnOnce() -> Result<FrameHash, MemoryFault>,
    ) -> Result<Destination, MemoryFault> {
        Ok(Destination::Here)
    }

    #[inline(always)]
    fn pass(&mut self, _: Destination, _: &[u8]) -> bool {
        false
    }

    #[inline(always)]
    fn take(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }
}

impl Steer for &mut dyn FrameSteering {
    #[inline]
    fn destination(
        &self,
        hash: impl FnOnce() -> Result<FrameHash, MemoryFault>,
    ) -> Result<Destination, MemoryFault> {
        Ok((**self).destination(hash()?))
    }

    #[inline]
    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool {
        (**self).pass(to, frame)
    }

    #[inline]
    fn take(&mut self, room: &mut [u8]) -> Option<usize> {
        (**self).take(room)
    }
}
