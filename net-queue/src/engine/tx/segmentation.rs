//! Large frames of a driver that the backend does not take: they are cut here.
//!
//! The whole frame is copied once into the bounce buffer, in which each segment is formed and from
//! which it is sent. Each is a frame of its own to limiter, budget and counters. A stop between two
//! of them leaves the chain taken, and the next run goes on with the segment that is next. When the
//! queue is drained meanwhile and the backend takes no more, the chain goes back to the ring: the
//! segments that have left will be sent twice, and none is lost.

pub(super) mod state;

use self::state::SegmentedFrame;
use super::departure::Departure;
use super::path::TxPath;
use crate::backend::{FrameBackend, SendError};
use crate::counters::{GroupEnd, Offload, QueueCounters};
use crate::drop_cause::DropCause;
use crate::engine::coalesce::Outlet;
use crate::engine::limit::Limit;
use crate::engine::segmentation::Segmenter;
use crate::engine::{Budget, Stop};
use crate::header::{HdrError, NetHdr};
use crate::memory::guard::MemoryFault;
use crate::memory::iovec::{Gather, HostSlice, copy_from};
use crate::ring::{Chain, Ring};

impl TxPath {
    /// Returns whether a frame is being cut: it is done with before another one is looked at.
    #[inline]
    pub(super) fn is_segmenting(&self) -> bool {
        let segmentation = self.segmentation.as_ref();
        segmentation.is_some_and(|segmentation| segmentation.frame.is_some())
    }

    /// Begins to cut the frame of `chain`, which was refused for `cause`; drops it if that is not
    /// because it is large, or if it cannot be cut. Returns whether it has begun.
    ///
    /// # Errors
    /// The reason to stop; the chain is in the ring again, or done with.
    #[cold]
    #[inline(never)]
    pub(super) fn segment_or_give_back<D, R, B, L>(
        &mut self,
        departure: &mut D,
        ring: &mut R,
        chain: Chain,
        cause: DropCause,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<bool, Stop>
    where
        D: Departure<B, L>,
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let begun = match self.segmenter_for(cause) {
            Ok(segmenter) => segmenter,
            Err(cause) => {
                out.counters.add_drop(cause);
                departure.pass(ring, chain, out)?;
                return Ok(false);
            }
        };
        // Nobody looks of which flow it is.
        if let Err(error) = departure.flush(ring, GroupEnd::Order, out) {
            ring.undo_pop(chain);
            return Err(error.into());
        }
        if let Some(segmentation) = &mut self.segmentation {
            out.counters.add_segmented();
            segmentation.frame = Some(SegmentedFrame {
                segmenter: begun,
                chain,
            });
        }
        Ok(true)
    }

    /// Fetches all of the frame at hand, which was refused for `cause`.
    fn segmenter_for(&mut self, cause: DropCause) -> Result<Segmenter, DropCause> {
        let rules = match (&self.segmentation, cause) {
            (Some(segmentation), DropCause::Header(HdrError::GsoNotNegotiated)) => {
                segmentation.rules
            }
            _ => return Err(cause),
        };
        let (header, len) = (self.size.bytes(), self.len);
        let rest = &mut self.bounce[self.copied..len];
        copy_from(&self.iovecs[1..], self.copied, rest)?;
        self.copied = len;
        let raw = self.raw_header();
        let frame_len = len - header;
        let checked = match NetHdr::check_tx(&raw, frame_len as u32, rules) {
            Err(HdrError::GsoWithoutCsum) => self.begin_checksum(raw, frame_len, rules)?,
            checked => checked?,
        };
        Ok(Segmenter::new(&self.bounce[header..len], checked)?)
    }

    /// Sends the segments that are left of the frame that is being cut.
    ///
    /// # Errors
    /// The reason to stop. Some may be left.
    #[cold]
    #[inline(never)]
    pub(super) fn send_segments<D, R, B, L>(
        &mut self,
        departure: &mut D,
        ring: &mut R,
        now: u64,
        out: &mut Outlet<'_, B, L>,
        budget: &mut Budget,
    ) -> Result<(), Stop>
    where
        D: Departure<B, L>,
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        while let Some(len) = self.segment_len() {
            if let Err(deadline) = out.limit.take(now, len) {
                out.counters.add_limited();
                return Err(Stop::Limited(deadline));
            }
            if let Some(chain) = self.send_segment(len, out)? {
                departure.pass(ring, chain, out)?;
            }
            if !budget.spend(len) {
                return Err(Stop::Budget);
            }
        }
        Ok(())
    }

    /// Sends what is left of the frame that is being cut as far as the backend takes it, and gives
    /// its chain back to the ring if that is not all.
    pub(super) fn drain_segments<R, B, L>(
        &mut self,
        ring: &mut R,
        now: u64,
        out: &mut Outlet<'_, B, L>,
    ) where
        R: Ring,
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        while let Some(len) = self.segment_len() {
            out.limit.force(now, len);
            match self.send_segment(len, out) {
                Ok(None) => {}
                Ok(Some(chain)) => ring.push_used(chain, 0),
                Err(_) => break,
            }
        }
        if let Some(frame) = self.take_segmented() {
            ring.undo_pop(frame.chain);
        }
    }

    /// Drops what is left of the frame that is being cut, each segment under `cause`.
    pub(super) fn discard_segments<R: Ring>(
        &mut self,
        ring: &mut R,
        cause: DropCause,
        counters: &QueueCounters,
    ) {
        if let Some(SegmentedFrame { segmenter, chain }) = self.take_segmented() {
            counters.add_drops(cause, segmenter.remaining() as u64);
            ring.push_used(chain, 0);
        }
    }

    fn take_segmented(&mut self) -> Option<SegmentedFrame> {
        self.segmentation.as_mut()?.frame.take()
    }

    /// Bytes of the segment that is next, if there is one.
    fn segment_len(&self) -> Option<u64> {
        let frame = self.segmentation.as_ref()?.frame.as_ref()?;
        Some(frame.segmenter.segment_len() as u64)
    }

    /// Sends the segment of `len` bytes that is next, which was charged; returns the frame's chain
    /// if it is the last one.
    ///
    /// # Errors
    /// The backend takes nothing now, or any more. The segment is still the next.
    fn send_segment<B, L>(
        &mut self,
        len: u64,
        out: &mut Outlet<'_, B, L>,
    ) -> Result<Option<Chain>, SendError>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let Some(segmentation) = &mut self.segmentation else {
            return Ok(None);
        };
        let Some(SegmentedFrame { segmenter, .. }) = &mut segmentation.frame else {
            return Ok(None);
        };
        let size = self.size.bytes();
        let (start, header) = segmenter.form(&mut self.bounce[size..], segmentation.checksum);
        // Its header stands right in front of it, over what has left.
        let segment = &mut self.bounce[start..start + size + len as usize];
        header.write_to(&mut segment[..size]);
        let slice = HostSlice::of_buffer(segment).io();
        let gather = Gather::new(std::slice::from_ref(&slice), size, size + len as usize);
        match out.send(&gather, 1, len, Offload::default()) {
            Ok(()) => {}
            Err(SendError::Refused) => out.drop_frame(DropCause::Refused, len),
            Err(SendError::Memory) => out.drop_frame(MemoryFault.into(), len),
            Err(error @ (SendError::WouldBlock | SendError::Dead(_))) => {
                out.limit.refund(len);
                return Err(error);
            }
        }
        segmenter.advance();
        if segmenter.remaining() > 0 {
            return Ok(None);
        }
        // The driver asked for it once.
        let (header, len) = segmenter.frame();
        out.add_requests(Offload::of(header), 1, len as u64);
        Ok(segmentation.frame.take().map(|frame| frame.chain))
    }
}

#[cfg(test)]
mod tests;
