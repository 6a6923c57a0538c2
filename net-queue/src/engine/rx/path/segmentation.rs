//! Large frames that the driver did not ask for: they are cut here, from one read, into what the
//! driver takes.
//!
//! A frame that is being cut lies in the bounce buffer, and nothing else is received before it is
//! done. Each of its segments is a frame like any other to the limiter, the filter, the budget and
//! the counters, and is judged by what is in force when its turn comes.

use super::{Arrived, Held, RxPath};
use crate::counters::Offload;
use crate::drop_cause::DropCause;
use crate::engine::frame_filter::FrameFilter;
use crate::engine::limit::Limit;
use crate::engine::rx::config::HEAD;
use crate::engine::segmentation::{Checksum, Segmenter};
use crate::engine::{Budget, Stop};
use crate::header::{HDR_LEN, HdrError, NetHdr, RxRules};
use crate::offload::Offloads;
use crate::ring::Ring;

/// Bound of what a drain may look at: more chains than any ring has.
const DRAIN: Budget = Budget {
    frames: 1 << 17,
    bytes: u64::MAX,
};

impl RxPath {
    /// Begins to cut a frame that the driver does not take whole; drops it when it is refused for
    /// another `cause`, or cannot be cut.
    #[cold]
    pub(super) fn segment_or_drop(&mut self, frame: Arrived, cause: DropCause) {
        let refused = match cause {
            DropCause::Header(HdrError::GsoNotNegotiated | HdrError::GsoFamily) => {
                self.begin_segments(frame).err()
            }
            cause => Some(cause),
        };
        if let Some(cause) = refused {
            self.drop_frame(frame, cause);
        }
    }

    fn begin_segments(&mut self, frame: Arrived) -> Result<(), DropCause> {
        let Arrived { len, .. } = frame;
        self.bring_home(frame)?;
        // The next one is expected to be as this one: to be cut from private memory.
        self.long_frames = 0;
        self.expected = self.config.expected();
        let frame = Arrived::new(len, 0);
        let header = self.config.size.bytes();
        let raw = self.header_of(frame)?;
        let rules = RxRules::new(Offloads::DONE_HERE);
        let checked = match NetHdr::check_rx(&raw, (len - header) as u32, rules) {
            Err(HdrError::GsoWithoutCsum) => self.begin_checksum(frame, raw, rules)?,
            checked => checked?,
        };
        *self.segmenter = Some(Segmenter::new(&self.bounce[header..len], checked)?);
        self.counters.add_segmented();
        self.hold_segments();
        Ok(())
    }

    /// Keeps what is left of a frame that is being cut for later, if there is one.
    pub(super) fn hold_segments(&mut self) {
        let segments = self.segmenter.is_some();
        self.held = segments.then_some(Held::Segments { short: false });
    }

    /// Takes the frame that is held; `None` when it is a segment that is next.
    #[cold]
    pub(super) fn take_held(&mut self) -> Option<Arrived> {
        let held = self.held.take();
        self.hold_segments();
        match held? {
            Held::Limited(frame) | Held::Short(frame) => Some(frame),
            Held::Segments { .. } => None,
        }
    }

    /// The length, header included, of a segment that lies in the pool's chains ready to be
    /// delivered; `None` when one was dropped.
    #[inline(never)]
    pub(super) fn next_segment<R: Ring>(
        &mut self,
        ring: &mut R,
        filter: Option<&dyn FrameFilter>,
        budget: &mut Budget,
    ) -> Result<Option<usize>, Stop> {
        let Some(segmenter) = &*self.segmenter else {
            return Ok(None);
        };
        let head = segmenter.head();
        if filter.is_some_and(|filter| !filter.admit(&head[..HEAD.min(head.len())])) {
            self.drop_segments(DropCause::Filtered);
            return Ok(None);
        }
        let frame_len = segmenter.segment_len();
        let packet = frame_len - segmenter.link_len();
        let len = self.config.size.bytes() + frame_len;
        self.hold_segments();
        let stored = if self.config.mtu.is_some_and(|mtu| packet > mtu.into()) {
            Err(DropCause::Mtu)
        } else if self.segment_room(ring, len, budget)? {
            self.store_segment(ring, len)
        } else {
            Err(DropCause::NoRoom)
        };
        match stored {
            Ok(()) => {
                self.end_segment();
                Ok(Some(len))
            }
            Err(cause) => {
                self.drop_segment(cause);
                Ok(None)
            }
        }
    }

    /// Gets chains for the next segment, `len` bytes with its header; false when none can hold it.
    fn segment_room<R: Ring>(
        &mut self,
        ring: &mut R,
        len: usize,
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        self.fill(ring, len, budget)?;
        if self.pool.is_empty() {
            return Err(Stop::Driver);
        }
        if self.pool.writable_len() >= len {
            return Ok(true);
        }
        self.held = Some(Held::Segments { short: true });
        let room = self.room_for(ring, Arrived::new(len, 0), budget)?;
        self.hold_segments();
        Ok(room)
    }

    /// Puts the next segment, `len` bytes with its header, into the pool's chains, which have room
    /// for it.
    fn store_segment<R: Ring>(&mut self, ring: &mut R, len: usize) -> Result<(), DropCause> {
        let Some(segmenter) = &*self.segmenter else {
            return Ok(());
        };
        let checksum = if self.config.offloads.contains(Offloads::CSUM) {
            Checksum::Partial
        } else {
            Checksum::Complete
        };
        let size = self.config.size.bytes();
        // Every segment has the headers that tell its flow.
        let hash = self.hash_of_head(segmenter.headers());
        let (start, mut header) = segmenter.form(&mut self.bounce[size..], checksum);
        self.offload = Offload::of(header);
        if self.config.merge {
            header.set_num_buffers(self.pool.span(len) as u16);
        }
        // Where its frame begins behind the large one's header, its header does before it.
        let segment = &mut self.bounce[start..start + len];
        let front = &mut segment[..size];
        header.write_to(front);
        let behind = front.get_mut(HDR_LEN..).unwrap_or_default();
        if let Some(field) = behind.first_chunk_mut() {
            *field = hash.to_wire();
        }
        let stored = self.pool.poke(0, segment);
        if stored.is_err() {
            self.pool.waste(ring, len);
        }
        stored.map(|_| ()).map_err(DropCause::from)
    }

    /// Goes on to the next segment; behind the last one the frame is done.
    fn end_segment(&mut self) {
        if let Some(segmenter) = &mut *self.segmenter {
            segmenter.advance();
            if segmenter.remaining() == 0 {
                *self.segmenter = None;
            }
        }
        self.hold_segments();
    }

    /// Counts the next segment as a frame that is not delivered.
    #[cold]
    pub(super) fn drop_segment(&mut self, cause: DropCause) {
        self.counters.add_drop(cause);
        self.end_segment();
    }

    /// The same for all that are left.
    #[cold]
    pub(super) fn drop_segments(&mut self, cause: DropCause) {
        if let Some(segmenter) = (*self.segmenter).take() {
            self.counters.add_drops(cause, segmenter.remaining() as u64);
        }
        self.hold_segments();
    }

    /// Delivers what is left of a frame that is being cut, as far as there are chains, and drops
    /// the rest. Returns the frames and bytes that were delivered.
    pub(super) fn drain_segments<R, L>(
        &mut self,
        ring: &mut R,
        limit: &mut L,
        filter: Option<&dyn FrameFilter>,
        now: u64,
    ) -> (u64, u64)
    where
        R: Ring,
        L: Limit + ?Sized,
    {
        let (mut frames, mut bytes) = (0, 0);
        let mut budget = DRAIN;
        while self.segmenter.is_some() && ring.fault().is_none() {
            match self.next_segment(ring, filter, &mut budget) {
                Ok(Some(len)) => {
                    let frame = self.frame_len(len);
                    limit.force(now, frame);
                    self.deliver(ring, len);
                    frames += 1;
                    bytes += frame;
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        self.drop_segments(DropCause::Stopped);
        (frames, bytes)
    }
}
