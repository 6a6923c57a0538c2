//! Frames that were received and not delivered: they wait, are given up, or end with their queue.

use super::{Arrived, Held, Received, RxPath};
use crate::drop_cause::DropCause;
use crate::engine::frame_filter::FrameFilter;
use crate::engine::limit::Limit;
use crate::ring::Ring;

impl RxPath {
    /// Keeps a frame of `len` bytes that is ready to be delivered, since the limiter said no.
    #[cold]
    pub(in crate::engine::rx) fn hold(&mut self, len: usize) {
        self.held = Some(Held::Limited(Arrived::new(len, len)));
        self.counters.add_limited();
    }

    /// Implements [`RxEngine::missing`](super::super::RxEngine::missing).
    pub(in crate::engine::rx) fn missing(&self) -> Option<usize> {
        match self.held {
            Some(Held::Short(frame)) => Some(frame.len.saturating_sub(self.pool.writable_len())),
            Some(Held::Segments { short: true }) => {
                let len = self.config.size.bytes() + (*self.segmenter).as_ref()?.segment_len();
                Some(len.saturating_sub(self.pool.writable_len()))
            }
            _ => None,
        }
    }

    /// Implements [`RxEngine::give_up`](super::super::RxEngine::give_up).
    pub(in crate::engine::rx) fn give_up(&mut self) {
        if self.missing().is_some()
            && let Some(held) = self.held.take()
        {
            self.given_up = self.pool.writable_len();
            match held {
                Held::Limited(frame) | Held::Short(frame) => {
                    self.drop_frame(frame, DropCause::NoRoom);
                }
                Held::Segments { .. } => self.drop_segment(DropCause::NoRoom),
            }
        }
    }

    /// Counts a frame that is not delivered, and leaves nothing of it in the driver's buffers.
    ///
    /// The next frame is not received directly: it may be for somebody else as well, or be as much
    /// too long. Where its chains were given back for a memory fault, others are cleared, which
    /// does no harm.
    #[cold]
    pub(super) fn drop_frame(&mut self, frame: Arrived, cause: DropCause) {
        self.counters.add_drop(cause);
        self.long_frames = 0;
        self.pool.scrub(frame.direct);
    }

    /// Implements [`RxEngine::drain`](super::super::RxEngine::drain).
    pub(in crate::engine::rx) fn drain<R, L>(
        &mut self,
        ring: &mut R,
        limit: &mut L,
        filter: Option<&dyn FrameFilter>,
        now: u64,
    ) -> bool
    where
        R: Ring,
        L: Limit + ?Sized,
    {
        let (mut frames, mut bytes) = (0, 0);
        match self.held.take() {
            Some(Held::Limited(frame)) => match self
                .check(frame, filter)
                .and_then(|header| self.store(ring, Received::unhashed(frame), header))
            {
                Ok(()) => {
                    (frames, bytes) = (1, self.frame_len(frame.len));
                    limit.force(now, bytes);
                    self.deliver(ring, frame.len);
                }
                Err(cause) => self.segment_or_drop(frame, cause),
            },
            Some(Held::Short(frame)) => self.drop_frame(frame, DropCause::Stopped),
            Some(Held::Segments { .. }) | None => {}
        }
        let segments = self.drain_segments(ring, limit, filter, now);
        (frames, bytes) = (frames + segments.0, bytes + segments.1);
        self.pool.give_back(ring);
        self.publish(ring, frames, bytes)
    }

    /// Implements [`RxEngine::discard_held`](super::super::RxEngine::discard_held).
    pub(in crate::engine::rx) fn discard_held<R: Ring>(&mut self, ring: &mut R) {
        if let Some(Held::Limited(frame) | Held::Short(frame)) = self.held.take() {
            self.drop_frame(frame, DropCause::Stopped);
        }
        self.drop_segments(DropCause::Stopped);
        self.pool.give_back(ring);
    }
}
