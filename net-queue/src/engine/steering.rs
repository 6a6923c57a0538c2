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

/// Most frames that are received from the backend before steering is asked for those of other
/// queues again.
const BACKEND_TURN: u32 = 32;

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
    /// returns its length. With `None` it is the backend's turn, for a number of frames; if that
    /// has none, this is asked once more, and `None` means then that there is none. As long as a
    /// frame is kept for this queue it is never the backend's turn.
    fn take(&mut self, room: &mut [u8]) -> Option<usize>;
}

/// Steering, or none, which costs nothing.
pub(super) trait Steer {
    fn destination(
        &self,
        hash: impl FnOnce() -> Result<FrameHash, MemoryFault>,
    ) -> Result<Destination, MemoryFault>;
    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool;
    /// Takes a frame that was passed to this queue, unless it is the backend's turn.
    fn take(&mut self, room: &mut [u8]) -> Option<usize>;
    /// The same when the backend has none.
    fn take_instead(&mut self, room: &mut [u8]) -> Option<usize>;
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

    #[inline(always)]
    fn take_instead(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }
}

/// Steering of one call, which is not asked before each frame.
pub(super) struct Steered<'a, S: ?Sized> {
    steering: &'a mut S,
    /// Frames that the backend has its turn for.
    turn: u32,
}

impl<'a, S: FrameSteering + ?Sized> Steered<'a, S> {
    pub(super) fn new(steering: &'a mut S) -> Self {
        Self { steering, turn: 0 }
    }
}

impl<S: FrameSteering + ?Sized> Steer for Steered<'_, S> {
    #[inline]
    fn destination(
        &self,
        hash: impl FnOnce() -> Result<FrameHash, MemoryFault>,
    ) -> Result<Destination, MemoryFault> {
        Ok(self.steering.destination(hash()?))
    }

    #[inline]
    fn pass(&mut self, to: Destination, frame: &[u8]) -> bool {
        self.steering.pass(to, frame)
    }

    #[inline]
    fn take(&mut self, room: &mut [u8]) -> Option<usize> {
        if self.turn > 0 {
            self.turn -= 1;
            return None;
        }
        let taken = self.steering.take(room);
        if taken.is_none() {
            self.turn = BACKEND_TURN - 1;
        }
        taken
    }

    #[inline]
    fn take_instead(&mut self, room: &mut [u8]) -> Option<usize> {
        self.turn = 0;
        self.steering.take(room)
    }
}
