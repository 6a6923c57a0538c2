//! One step of transmission: a chain, and the way of its frame.

use super::departure::Departure;
use super::path::TxPath;
use crate::backend::{FrameBackend, SendError};
use crate::drop_cause::DropCause;
use crate::engine::coalesce::Outlet;
use crate::engine::limit::Limit;
use crate::engine::{Budget, Stop};
use crate::memory::guard::MemoryFault;
use crate::ring::{Chain, PoppedChain, Ring};

/// The reason to stop that an error of the backend is, before anything else is tried.
impl From<SendError> for Stop {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Dead(error) => Self::Dead(error),
            _ => Self::Backend,
        }
    }
}

/// Reason not to take the next chain.
pub(super) enum Interruption {
    /// The run stops.
    Stop(Stop),
    /// A large frame is to be cut first.
    Segment,
}

impl<T: Into<Stop>> From<T> for Interruption {
    fn from(stop: T) -> Self {
        Self::Stop(stop.into())
    }
}

impl TxPath {
    /// Passes frames on until there is a reason not to.
    #[inline(always)]
    pub(super) fn steps<D, R, B, L>(
        &mut self,
        departure: &mut D,
        ring: &mut R,
        now: u64,
        out: &mut Outlet<'_, B, L>,
        budget: &mut Budget,
    ) -> Interruption
    where
        D: Departure<B, L>,
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        loop {
            match self.step(departure, ring, now, out) {
                Ok(bytes) if budget.spend(bytes) => {}
                Ok(_) => return Stop::Budget.into(),
                Err(reason) => return reason,
            }
        }
    }

    /// Takes one chain and passes its frame on; returns the frame's bytes, 0 if it was dropped.
    ///
    /// # Errors
    /// The reason to stop, or to cut the frame.
    #[inline(always)]
    fn step<D, R, B, L>(
        &mut self,
        departure: &mut D,
        ring: &mut R,
        now: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<u64, Interruption>
    where
        D: Departure<B, L>,
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let Some(PoppedChain { chain, content }) = self.next(ring) else {
            return Err(Stop::no_chain(ring).into());
        };
        let frame_len = match content.and_then(|buffers| self.take_in(buffers.readable_len())) {
            Ok(frame_len) => frame_len,
            Err(cause) => {
                return if self.segment_or_give_back(departure, ring, chain, cause, out)? {
                    Err(Interruption::Segment)
                } else {
                    Ok(0)
                };
            }
        };
        if let Err(deadline) = out.limit.take(now, frame_len) {
            ring.undo_pop(chain);
            out.counters.add_limited();
            return Err(Stop::Limited(deadline).into());
        }
        match departure.forward(self, ring, frame_len, out) {
            Ok(None) => departure.pass(ring, chain, out)?,
            Ok(Some(held)) => departure.keep(ring, chain, frame_len, held, out)?,
            Err(error) => {
                out.limit.refund(frame_len);
                not_sent(departure, ring, chain, error, out)?;
            }
        }
        Ok(frame_len)
    }
}

/// Deals with a frame that the backend did not take.
///
/// # Errors
/// The reason to stop.
#[cold]
fn not_sent<D, R, B, L>(
    departure: &mut D,
    ring: &mut R,
    chain: Chain,
    error: SendError,
    out: &mut Outlet<'_, B, L>,
) -> Result<(), Stop>
where
    D: Departure<B, L>,
    R: Ring,
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    let cause = match error {
        SendError::Refused => DropCause::Refused,
        SendError::Memory => MemoryFault.into(),
        error @ (SendError::WouldBlock | SendError::Dead(_)) => {
            ring.undo_pop(chain);
            return Err(error.into());
        }
    };
    out.counters.add_drop(cause);
    departure.pass(ring, chain, out)?;
    Ok(())
}
