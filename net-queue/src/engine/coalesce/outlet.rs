//! The way out of an engine: the backend, and the accounts of what passes it.

use crate::backend::{FrameBackend, SendError};
use crate::counters::{Offload, OffloadCounts, QueueCounters};
use crate::drop_cause::DropCause;
use crate::engine::limit::Limit;
use crate::memory::iovec::Gather;

/// The backend during one run, the limiter that was charged for each frame, and the counters.
pub(in crate::engine) struct Outlet<'a, B: ?Sized, L: ?Sized> {
    backend: &'a mut B,
    pub(in crate::engine) limit: &'a mut L,
    pub(in crate::engine) counters: &'a QueueCounters,
    /// Frames that passed.
    pub(in crate::engine) frames: u64,
    /// Bytes of these, headers of virtio-net not counted.
    pub(in crate::engine) bytes: u64,
    /// Requests in their headers. What is elsewhere is neither made nor copied for each run.
    offloads: &'a mut OffloadCounts,
}

impl<'a, B: FrameBackend + ?Sized, L: Limit + ?Sized> Outlet<'a, B, L> {
    #[inline]
    pub(in crate::engine) fn new(
        backend: &'a mut B,
        limit: &'a mut L,
        counters: &'a QueueCounters,
        offloads: &'a mut OffloadCounts,
    ) -> Self {
        Self {
            backend,
            limit,
            counters,
            frames: 0,
            bytes: 0,
            offloads,
        }
    }

    /// Adds what passed to the counters.
    #[inline]
    pub(in crate::engine) fn count(&mut self) {
        self.counters.add_batch(self.frames, self.bytes);
        self.counters.add_offloads(self.offloads);
    }

    /// Sends what counts as `frames` frames of `bytes` together, each with the requests `offload`.
    #[inline]
    pub(in crate::engine) fn send(
        &mut self,
        frame: &Gather<'_>,
        frames: u64,
        bytes: u64,
        offload: Offload,
    ) -> Result<(), SendError> {
        self.backend.send(frame)?;
        self.frames += frames;
        self.bytes += bytes;
        self.offloads.add_frames(offload, frames, bytes);
        Ok(())
    }

    /// Counts the requests of `frames` of `bytes` together, which were sent in another shape.
    pub(in crate::engine) fn add_requests(&mut self, offload: Offload, frames: u64, bytes: u64) {
        self.offloads.add_frames(offload, frames, bytes);
    }

    /// Counts a frame of `bytes` as dropped.
    #[cold]
    pub(in crate::engine) fn drop_frame(&mut self, cause: DropCause, bytes: u64) {
        self.counters.add_drop(cause);
        self.limit.refund(bytes);
    }
}
