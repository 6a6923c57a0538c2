//! Ways of a frame from its chain to the backend: at once, or through groups.

use std::convert::Infallible;

use super::path::TxPath;
use crate::backend::{FrameBackend, SendError};
use crate::counters::GroupEnd;
use crate::engine::Stop;
use crate::engine::coalesce::{Coalescer, Held, Outlet};
use crate::engine::limit::Limit;
use crate::header::gso;
use crate::ring::{Chain, Ring};

/// A way out. The engine's step is compiled for each, so that one that never holds anything does
/// not pay for those that do.
pub(super) trait Departure<B: ?Sized, L: ?Sized> {
    /// Note of a frame that is held: its chain is to be kept.
    type Held;

    /// Sends all that is held, which `end` ends, and marks the chains as used: none is kept then.
    ///
    /// # Errors
    /// Some of it cannot be sent, and stays.
    fn flush<R: Ring>(
        &mut self,
        ring: &mut R,
        end: GroupEnd,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>;

    /// Sends the frame of `frame_len` bytes that is at hand in `path`, or holds it.
    ///
    /// # Errors
    /// It has not been sent, and is not held.
    fn forward<R: Ring>(
        &mut self,
        path: &mut TxPath,
        ring: &mut R,
        frame_len: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<Option<Self::Held>, SendError>;

    /// Keeps the chain of a frame of `frame_len` bytes that is held.
    ///
    /// # Errors
    /// Something cannot be sent; the frame is held all the same.
    fn keep<R: Ring>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        frame_len: u64,
        held: Self::Held,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>;

    /// Marks a chain as used that needs nothing any more, once those before it are.
    ///
    /// # Errors
    /// As for [`Self::keep`].
    fn pass<R: Ring>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError>;

    /// Sends all that is held before the driver is told what was used. If it cannot be sent, that
    /// is the reason to stop, except for a broken ring.
    fn finish<R: Ring>(&mut self, ring: &mut R, stop: Stop, out: &mut Outlet<'_, B, L>) -> Stop;
}

/// Every frame leaves at once.
pub(super) struct Direct;

impl<B: FrameBackend + ?Sized, L: Limit + ?Sized> Departure<B, L> for Direct {
    type Held = Infallible;

    #[inline(always)]
    fn flush<R: Ring>(
        &mut self,
        _: &mut R,
        _: GroupEnd,
        _: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError> {
        Ok(())
    }

    #[inline(always)]
    fn forward<R: Ring>(
        &mut self,
        path: &mut TxPath,
        _: &mut R,
        frame_len: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<Option<Infallible>, SendError> {
        let offload = path.offload;
        out.send(&path.gather(), 1, frame_len, offload)?;
        Ok(None)
    }

    #[inline(always)]
    fn keep<R: Ring>(
        &mut self,
        _: &mut R,
        _: Chain,
        _: u64,
        held: Infallible,
        _: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError> {
        match held {}
    }

    #[inline(always)]
    fn pass<R: Ring>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        _: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError> {
        ring.push_used(chain, 0);
        Ok(())
    }

    #[inline(always)]
    fn finish<R: Ring>(&mut self, _: &mut R, stop: Stop, _: &mut Outlet<'_, B, L>) -> Stop {
        stop
    }
}

impl<B: FrameBackend + ?Sized, L: Limit + ?Sized> Departure<B, L> for Coalescer {
    type Held = Held;

    #[inline(always)]
    fn flush<R: Ring>(
        &mut self,
        ring: &mut R,
        end: GroupEnd,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError> {
        if self.keeps_none() {
            return Ok(());
        }
        flush_kept(self, ring, end, out)
    }

    #[inline(always)]
    fn forward<R: Ring>(
        &mut self,
        path: &mut TxPath,
        ring: &mut R,
        frame_len: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<Option<Held>, SendError> {
        if path.len > path.whole || path.checked.gso_type() != gso::NONE {
            // Nobody has looked of which flow it is.
            self.send_all(GroupEnd::Order, out)?;
        } else {
            let more = ring.has_next();
            // Behind nothing and before nothing there is nothing to be found out.
            if (more || !self.is_idle())
                && !self.passes_over(out)?
                && let Some(held) = self.admit(path.candidate(), more, out)?
            {
                path.expect_to_join(self.is_growing());
                return Ok(Some(held));
            }
        }
        path.copy_rest()?;
        path.expect_to_join(false);
        let offload = path.offload;
        out.send(&path.gather(), 1, frame_len, offload)?;
        Ok(None)
    }

    #[inline]
    fn keep<R: Ring>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        frame_len: u64,
        held: Held,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError> {
        self.keep(ring, chain, frame_len, held, out)
    }

    #[inline]
    fn pass<R: Ring>(
        &mut self,
        ring: &mut R,
        chain: Chain,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<(), SendError> {
        self.pass(ring, chain, out)
    }

    #[inline(always)]
    fn finish<R: Ring>(&mut self, ring: &mut R, stop: Stop, out: &mut Outlet<'_, B, L>) -> Stop {
        if self.keeps_none() {
            return stop;
        }
        finish_kept(self, ring, stop, out)
    }
}

// Apart, since a lone frame has no use for what chains that are kept need.

/// Sends what a coalescer holds, and marks the chains that it keeps as used.
#[inline(never)]
fn flush_kept<R, B, L>(
    coalescer: &mut Coalescer,
    ring: &mut R,
    end: GroupEnd,
    out: &mut Outlet<'_, B, L>,
) -> Result<(), SendError>
where
    R: Ring,
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    coalescer.send_all(end, out)?;
    coalescer.release(ring);
    Ok(())
}

/// Ends a run of which a coalescer keeps chains.
#[inline(never)]
fn finish_kept<R, B, L>(
    coalescer: &mut Coalescer,
    ring: &mut R,
    stop: Stop,
    out: &mut Outlet<'_, B, L>,
) -> Stop
where
    R: Ring,
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    let sent = match stop {
        Stop::Backend | Stop::Dead(_) => Ok(()),
        _ => coalescer.send_all(GroupEnd::Run, out),
    };
    coalescer.release(ring);
    match (stop, sent) {
        (Stop::Fault(fault), _) => Stop::Fault(fault),
        (stop, Ok(())) => stop,
        (_, Err(error)) => error.into(),
    }
}
