//! Frames that are for another receive queue of the device, and those that came from one.
//!
//! A frame is judged where it arrives, and passed on as it is: a large one whole, with its header,
//! to be cut or completed where it is delivered. What the other queue does with it, how long it
//! waits there for buffers or for its limit, keeps nothing waiting here.

use super::{Arrived, Received, RxPath};
use crate::backend::FrameBackend;
use crate::drop_cause::DropCause;
use crate::engine::frame_filter::FrameFilter;
use crate::engine::rx::config::HEAD;
use crate::engine::steering::{Destination, Steer};
use crate::engine::{Budget, Stop};
use crate::header::ETH_HDR_LEN;
use crate::memory::bounce_buffer::BounceBuffer;
use crate::memory::guard::MemoryFault;
use crate::memory::iovec::Scatter;

impl RxPath {
    /// Returns a frame that the backend had if it is for this queue, and passes it on if it is not.
    #[inline(always)]
    pub(super) fn steer<S: Steer>(
        &mut self,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        frame: Arrived,
        budget: &mut Budget,
    ) -> Option<Received> {
        let mut hash = None;
        let to = steering.destination(|| {
            let found = self.hash_of(frame)?;
            hash = Some(found);
            Ok(found)
        });
        match to {
            Ok(Destination::Here) => Some(Received { frame, hash }),
            to => {
                self.pass_on(steering, filter, frame, to);
                // The copy is work, too.
                budget.spend(frame.len as u64);
                None
            }
        }
    }

    /// Apart, so that a frame for this queue, as most are where the kernel steers, finds its way
    /// straight ahead.
    #[cold]
    #[inline(never)]
    fn pass_on<S: Steer>(
        &mut self,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        frame: Arrived,
        to: Result<Destination, MemoryFault>,
    ) {
        match self.try_pass_on(steering, filter, frame, to) {
            // The next one may be for another queue, too: it is not to lie in this one's buffers.
            Ok(()) => self.long_frames = 0,
            Err(cause) => self.drop_frame(frame, cause),
        }
    }

    fn try_pass_on<S: Steer>(
        &mut self,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        frame: Arrived,
        to: Result<Destination, MemoryFault>,
    ) -> Result<(), DropCause> {
        let to = to?;
        if frame.len < self.config.size.bytes() + ETH_HDR_LEN as usize {
            return Err(DropCause::TooShort);
        }
        if let Some(filter) = filter {
            self.ask(frame, filter)?;
        }
        if to == Destination::Nowhere {
            return Err(DropCause::Stopped);
        }
        self.bring_home(frame)?;
        if !steering.pass(to, &self.bounce[..frame.len]) {
            return Err(DropCause::SteeringFull);
        }
        self.counters.add_steered();
        Ok(())
    }

    /// Brings the part of `frame` that was received directly into the bounce buffer, in front of
    /// the rest. What the driver could change is fetched once, and is none of its business before.
    pub(super) fn bring_home(&mut self, frame: Arrived) -> Result<(), MemoryFault> {
        let Arrived { len, direct } = frame;
        if direct > 0 {
            self.bounce.copy_within(..len - direct, direct);
            self.pool.peek(0, &mut self.bounce[..direct])?;
            self.pool.scrub(direct);
        }
        Ok(())
    }

    /// Implements [`RxEngine::distribute`](super::super::RxEngine::distribute).
    pub(in crate::engine::rx) fn distribute<B, S>(
        &mut self,
        backend: &mut B,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        mut budget: Budget,
    ) -> Stop
    where
        B: FrameBackend + ?Sized,
        S: Steer,
    {
        // The bounce buffer may hold a frame that waits.
        let spare = self.spare.take();
        let mut spare = spare.unwrap_or_else(|| BounceBuffer::new(self.config.most() + 1));
        let stop = loop {
            let received = Scatter::with_bytes(&mut spare, |room| backend.recv(room));
            let len = match received {
                Ok(len) => len.min(spare.len()),
                Err(error) => match self.not_received(error, 0) {
                    Ok(()) => 0,
                    Err(stop) => break stop,
                },
            };
            if len > 0
                && let Err(cause) = self.distribute_frame(steering, filter, &spare[..len])
            {
                self.counters.add_drop(cause);
            }
            if !budget.spend(len as u64) {
                break Stop::Budget;
            }
        };
        self.spare = Some(spare);
        stop
    }

    fn distribute_frame<S: Steer>(
        &self,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        bytes: &[u8],
    ) -> Result<(), DropCause> {
        if bytes.len() > self.config.most() {
            return Err(DropCause::TooLong);
        }
        let frame = bytes.get(self.config.size.bytes()..).unwrap_or_default();
        if frame.len() < ETH_HDR_LEN as usize {
            return Err(DropCause::TooShort);
        }
        if filter.is_some_and(|filter| !filter.admit(&frame[..HEAD.min(frame.len())])) {
            return Err(DropCause::Filtered);
        }
        let to = steering.destination(|| Ok(self.hash_of_head(frame)))?;
        if to == Destination::Nowhere {
            return Err(DropCause::Stopped);
        }
        if !steering.pass(to, bytes) {
            return Err(match to {
                Destination::Here => DropCause::NoRoom,
                _ => DropCause::SteeringFull,
            });
        }
        if to != Destination::Here {
            self.counters.add_steered();
        }
        Ok(())
    }
}
