//! One step of transmission: a chain, and the way of its frame.

use super::TxPath;
use crate::backend::{FrameBackend, SendError};
use crate::counters::GroupEnd;
use crate::drop_cause::DropCause;
use crate::engine::Stop;
use crate::engine::coalesce::{Admission, Outlet};
use crate::engine::limit::Limit;
use crate::header::gso;
use crate::memory::guard::MemoryFault;
use crate::ring::{Chain, PoppedChain, Ring};

/// Reason to stop that an error of the backend is before anything else is tried.
fn stop_of(error: SendError) -> Stop {
    match error {
        SendError::Dead(error) => Stop::Dead(error),
        _ => Stop::Backend,
    }
}

impl TxPath {
    /// Takes one chain and passes its frame on; returns the frame's bytes, 0 if it was dropped.
    ///
    /// # Errors
    /// The reason to stop.
    #[inline(always)]
    pub(super) fn step<R, B, L>(
        &mut self,
        ring: &mut R,
        now: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<u64, Stop>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let Some(PoppedChain { chain, content }) = self.next(ring) else {
            return Err(Stop::no_chain(ring));
        };
        let frame_len = match content.and_then(|buffers| self.take_in(buffers.readable_len())) {
            Ok(frame_len) => frame_len,
            Err(cause) => {
                out.counters.add_drop(cause);
                self.pass(ring, chain, out)?;
                return Ok(0);
            }
        };
        if let Err(deadline) = out.limit.take(now, frame_len) {
            ring.undo_pop(chain);
            out.counters.add_limited();
            return Err(Stop::Limited(deadline));
        }
        match self.forward(ring, frame_len, out) {
            Ok(Admission::Alone) => self.pass(ring, chain, out)?,
            Ok(Admission::Held(held)) => {
                if let Some(coalescer) = &mut self.coalescer {
                    let kept = coalescer.keep(ring, chain, frame_len, held, out);
                    kept.map_err(stop_of)?;
                }
            }
            Err(error) => {
                out.limit.refund(frame_len);
                self.not_sent(ring, chain, error, out)?;
            }
        }
        Ok(frame_len)
    }

    /// Sends the frame at hand, unless it becomes part of a group.
    #[inline(always)]
    fn forward<R, B, L>(
        &mut self,
        ring: &mut R,
        frame_len: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<Admission, SendError>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        if let Some(coalescer) = &mut self.coalescer {
            let len = self.len;
            if len > self.whole || self.checked.gso_type() != gso::NONE {
                // Nobody has looked of which flow it is.
                coalescer.send_all(GroupEnd::Order, out)?;
            } else {
                let more = ring.has_next();
                // Behind nothing and before nothing there is nothing to be found out.
                if more || !coalescer.is_idle() {
                    let header = (self.size.bytes(), self.checked);
                    let admitted = coalescer.admit(&mut self.bounce, len, header, more, out)?;
                    if admitted != Admission::Alone {
                        return Ok(admitted);
                    }
                }
            }
        }
        out.send(&self.gather(), 1, frame_len)?;
        Ok(Admission::Alone)
    }

    /// Marks a chain as used that needs nothing any more.
    #[inline(always)]
    fn pass<R, B, L>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), Stop>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        match &mut self.coalescer {
            None => {
                ring.push_used(chain, 0);
                Ok(())
            }
            Some(coalescer) => coalescer.pass(ring, chain, out).map_err(stop_of),
        }
    }

    /// Sends what the last run had to leave.
    pub(super) fn send_held<B, L>(&mut self, out: &mut Outlet<'_, B, L>) -> Result<(), Stop>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        match &mut self.coalescer {
            None => Ok(()),
            Some(coalescer) => coalescer.send_all(GroupEnd::Run, out).map_err(stop_of),
        }
    }

    /// Sends all that is held before the driver is told what was used. If it cannot be sent, that
    /// is the reason to stop, except for a broken ring.
    pub(super) fn finish<R, B, L>(
        &mut self,
        ring: &mut R,
        stop: Stop,
        out: &mut Outlet<'_, B, L>,
    ) -> Stop
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let Some(coalescer) = &mut self.coalescer else {
            return stop;
        };
        let sent = match stop {
            Stop::Backend | Stop::Dead(_) => Ok(()),
            _ => coalescer.send_all(GroupEnd::Run, out),
        };
        coalescer.release(ring);
        match (stop, sent) {
            (Stop::Fault(fault), _) => Stop::Fault(fault),
            (stop, Ok(())) => stop,
            (_, Err(error)) => stop_of(error),
        }
    }

    /// Deals with a frame that the backend did not take.
    ///
    /// # Errors
    /// The reason to stop.
    #[cold]
    fn not_sent<R, B, L>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        error: SendError,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), Stop>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let cause = match error {
            SendError::Refused => DropCause::Refused,
            SendError::Memory => MemoryFault.into(),
            error @ (SendError::WouldBlock | SendError::Dead(_)) => {
                ring.undo_pop(chain);
                return Err(stop_of(error));
            }
        };
        out.counters.add_drop(cause);
        self.pass(ring, chain, out)
    }
}
