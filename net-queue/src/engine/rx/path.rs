//! The path of one received frame.
//!
//! A frame arrives in the bounce buffer, is checked there, and is copied into as many chains as it
//! takes. So nothing is ever cut, a frame need not wait until the driver has posted room for the
//! longest one, and the system call gets one buffer. Where frames are so long that the copy would
//! cost more than that saves, the pooled chains are offered in front of the bounce buffer, which
//! then takes only what does not fit.
//!
//! Bytes of a frame that is not delivered, in the driver's buffers, are overwritten with zeros and
//! told to the dirty log: they may be somebody else's, and a migration has to see it.

mod arrived;
mod check;
mod hash;
mod held;
mod segmentation;
mod steer;
mod store;

use std::sync::Arc;

use arrived::{Arrived, Received};

use super::config::RxConfig;
use super::pool::{Pull, Refused, RxPool};
use crate::backend::{FrameBackend, RecvError};
use crate::counters::{Offload, OffloadCounts, QueueCounters};
use crate::drop_cause::DropCause;
use crate::engine::frame_filter::FrameFilter;
use crate::engine::segmentation::Segmenter;
use crate::engine::steering::{FrameSteering, Steer};
use crate::engine::{Budget, Stop};
use crate::hash::FrameHasher;
use crate::header::{ETH_HDR_LEN, RxRules};
use crate::memory::bounce_buffer::{BounceBuffer, COPYBREAK};
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::iovec::{HostSlice, Scatter};
use crate::offload::Offloads;
use crate::ring::Ring;

/// After so many short frames a long one is not expected any more: to receive a short one directly
/// costs about a tenth of what it costs to copy a long one.
const LONG_FRAMES_EXPECTED: u32 = 16;

/// A frame that was received and could not be delivered yet. What decided about it may change until
/// it is.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// It lies in the pool's chains; the limiter said no.
    Limited(Arrived),
    /// There are too few chains.
    Short(Arrived),
    /// The rest of a frame that is being cut; there are too few chains for its next segment if
    /// `short`.
    Segments { short: bool },
}

/// State of the supply of chains after a refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    /// The driver may post more.
    Open,
    /// The pool can take no more chain.
    Full,
    /// A chain of no use is next.
    Blocked,
}

/// All of an engine but its ring.
#[derive(Debug)]
pub(super) struct RxPath {
    pool: RxPool,
    config: RxConfig,
    rules: RxRules,
    ring_size: usize,
    /// The most bytes that one frame is expected to have; sticks at the maximum once a frame was
    /// longer.
    expected: usize,
    long_frames: u32,
    bounce: BounceBuffer,
    held: Option<Held>,
    /// A frame that lies in the bounce buffer and is being cut; nothing is received meanwhile.
    ///
    /// Apart from what every frame needs, so that this stays together.
    segmenter: Box<Option<Segmenter>>,
    /// Room, in bytes, that was posted when a frame had waited for more in vain; 0 once a longer
    /// one found room.
    given_up: usize,
    supply: Supply,
    /// Requests in the header of the frame that was stored last.
    offload: Offload,
    /// Those of the frames that were delivered since the last publish.
    offloads: OffloadCounts,
    counters: Arc<QueueCounters>,
    /// Hash of frames, for their headers and for steering.
    hasher: Option<Arc<FrameHasher>>,
    /// Room for frames that are distributed while another one waits in the bounce buffer; made
    /// when it is first needed.
    spare: Option<BounceBuffer>,
}

impl RxPath {
    pub(super) fn new(
        ring_size: u16,
        ram: GuestRam,
        config: RxConfig,
        counters: Arc<QueueCounters>,
    ) -> Self {
        Self {
            pool: RxPool::new(ram),
            rules: RxRules::new(config.offloads),
            ring_size: usize::from(ring_size),
            expected: config.expected(),
            long_frames: 0,
            // One more, so that a frame that was cut shows.
            bounce: BounceBuffer::new(config.most() + 1),
            held: None,
            segmenter: Box::new(None),
            given_up: 0,
            supply: Supply::Open,
            offload: Offload::default(),
            offloads: OffloadCounts::default(),
            counters,
            hasher: None,
            spare: None,
            config,
        }
    }

    pub(super) fn set_offloads(&mut self, offloads: Offloads) {
        self.config.offloads = offloads;
        self.rules = RxRules::new(offloads);
        self.expected = self.config.expected();
    }

    /// Bytes of the frame in `len` bytes with its header.
    #[inline]
    pub(super) fn frame_len(&self, len: usize) -> u64 {
        (len - self.config.size.bytes()) as u64
    }

    /// Takes chains from the ring until they have room for `want` bytes, and refuses those of no
    /// use.
    #[inline(always)]
    fn fill<R: Ring>(
        &mut self,
        ring: &mut R,
        want: usize,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        let header = self.config.size.bytes();
        // Without merging only the first chain counts, and it must hold at least the shortest
        // frame.
        let (want, least) = if self.config.merge {
            (want, header)
        } else {
            (1, header + ETH_HDR_LEN as usize)
        };
        self.supply = Supply::Open;
        while self.pool.writable_len() < want {
            let pulled = self.pool.pull(ring, least);
            if !matches!(pulled, Pull::Added) && !self.not_pulled(ring, pulled, budget)? {
                break;
            }
        }
        Ok(())
    }

    /// The same, where it is rarely needed.
    #[cold]
    fn fill_more<R: Ring>(
        &mut self,
        ring: &mut R,
        want: usize,
        budget: &mut Budget,
    ) -> Result<(), Stop> {
        self.fill(ring, want, budget)
    }

    /// Deals with what the pool did not take; false when there is no use in asking for more.
    #[cold]
    fn not_pulled<R: Ring>(
        &mut self,
        ring: &mut R,
        pulled: Pull,
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        match pulled {
            Pull::Added => return Ok(true),
            Pull::Refused(Refused { chain, cause }) => {
                self.counters.add_drop(cause);
                ring.push_used(chain, 0);
                // A driver that keeps posting useless chains must not keep this call from
                // returning.
                return if budget.spend(0) {
                    Ok(true)
                } else {
                    Err(Stop::Budget)
                };
            }
            Pull::Empty => {
                if let Some(fault) = ring.fault() {
                    return Err(Stop::Fault(fault));
                }
            }
            Pull::Full => self.supply = Supply::Full,
            Pull::Blocked => self.supply = Supply::Blocked,
        }
        Ok(false)
    }

    /// The length, header included, of a frame that lies in the pool's chains ready to be
    /// delivered; `None` when one was dropped.
    #[inline(always)]
    pub(super) fn next_frame<R, B, S>(
        &mut self,
        ring: &mut R,
        backend: &mut B,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        budget: &mut Budget,
    ) -> Result<Option<usize>, Stop>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        S: Steer,
    {
        let received = if self.held.is_none() {
            match self.receive(ring, backend, steering, filter, budget)? {
                Some(received) => received,
                None => return Ok(None),
            }
        } else {
            match self.take_held() {
                Some(frame) => Received::unhashed(frame),
                None => return self.next_segment(ring, filter, budget),
            }
        };
        let frame = received.frame;
        let stored = match self.check(frame, filter) {
            Ok(_)
                if self.pool.writable_len() < frame.len
                    && !self.make_room(ring, frame, budget)? =>
            {
                Err(DropCause::NoRoom)
            }
            Ok(header) => self.store(ring, received, header),
            Err(cause) => Err(cause),
        };
        match stored {
            Ok(()) => Ok(Some(frame.len)),
            Err(cause) => {
                self.segment_or_drop(frame, cause);
                Ok(None)
            }
        }
    }

    /// Receives one frame once there is a chain for it; `None` when it was lost.
    #[inline(always)]
    fn receive<R, B, S>(
        &mut self,
        ring: &mut R,
        backend: &mut B,
        steering: &mut S,
        filter: Option<&dyn FrameFilter>,
        budget: &mut Budget,
    ) -> Result<Option<Received>, Stop>
    where
        R: Ring,
        B: FrameBackend + ?Sized,
        S: Steer,
    {
        let long = self.long_frames > 0;
        let want = if long { self.expected } else { 1 };
        self.fill(ring, want, budget)?;
        if self.pool.is_empty() {
            return Err(Stop::Driver);
        }
        // Where a frame comes from that another queue has received is where it was judged.
        if let Some(len) = steering.take(&mut self.bounce) {
            return Ok(Some(Received::unhashed(Arrived::new(len, 0))));
        }
        let (segments, direct) = if long { self.pool.front(want) } else { (0, 0) };
        let room = direct.saturating_add(self.bounce.len());
        let bounce = HostSlice::of_buffer(&mut self.bounce).io();
        let received = self.pool.with_segments(segments, bounce, |segments| {
            backend.recv(&mut Scatter::new(segments, room))
        });
        let len = match received {
            Ok(len) => len.min(room),
            Err(error) => {
                if matches!(error, RecvError::WouldBlock)
                    && let Some(len) = steering.take_instead(&mut self.bounce)
                {
                    return Ok(Some(Received::unhashed(Arrived::new(len, 0))));
                }
                if matches!(error, RecvError::Memory) {
                    self.pool.waste(ring, direct);
                }
                self.not_received(error, direct)?;
                return Ok(None);
            }
        };
        self.expect(len);
        let direct = direct.min(len);
        let frame = Arrived::new(len, direct);
        if len > self.config.most() {
            self.drop_frame(frame, DropCause::TooLong);
            return Ok(None);
        }
        Ok(self.steer(steering, filter, frame, budget))
    }

    /// Receives one frame into the bounce buffer, the start of a long one, and drops it.
    pub(super) fn discard<B>(&mut self, backend: &mut B, cause: DropCause) -> Result<(), Stop>
    where
        B: FrameBackend + ?Sized,
    {
        let room = &mut self.bounce[..COPYBREAK];
        match Scatter::with_bytes(room, |room| backend.recv(room)) {
            Ok(_) => self.counters.add_drop(cause),
            Err(error) => {
                // No buffer of the driver was offered.
                self.not_received(error, 0)?;
            }
        }
        Ok(())
    }

    /// Implements [`RxEngine::discard_steered`](super::RxEngine::discard_steered).
    pub(super) fn discard_steered(&mut self, steering: &mut dyn FrameSteering, cause: DropCause) {
        let mut turns = 2;
        // The backend's turn, which is not taken, is passed over.
        while turns > 0 {
            match steering.take(&mut []) {
                Some(_) => {
                    turns = 2;
                    self.counters.add_drop(cause);
                }
                None => turns -= 1,
            }
        }
    }

    /// Of a frame that is lost nobody knows how much of it came to lie in the `direct` bytes that
    /// were offered.
    #[cold]
    fn not_received(&mut self, error: RecvError, direct: usize) -> Result<(), Stop> {
        match error {
            RecvError::WouldBlock => Err(Stop::Backend),
            RecvError::Lost => {
                self.drop_frame(Arrived::new(direct, direct), DropCause::Refused);
                Ok(())
            }
            RecvError::Memory => {
                self.counters.add_drop(MemoryFault.into());
                self.long_frames = 0;
                Ok(())
            }
            RecvError::Dead(error) => {
                self.pool.scrub(direct);
                Err(Stop::Dead(error))
            }
        }
    }

    /// Learns from a frame of `len` bytes what the next ones may be like.
    #[inline]
    fn expect(&mut self, len: usize) {
        if len > COPYBREAK {
            self.long_frames = LONG_FRAMES_EXPECTED;
        } else {
            self.long_frames = self.long_frames.saturating_sub(1);
        }
        if len > self.expected {
            // The link's MTU has grown.
            self.expected = self.config.most();
        }
    }

    /// Gets chains for all of a frame that has found too few.
    #[cold]
    fn make_room<R: Ring>(
        &mut self,
        ring: &mut R,
        frame: Arrived,
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        // So it is not lost if this stops here.
        let before = self.held.replace(Held::Short(frame));
        let enough = self.room_for(ring, frame, budget)?;
        self.held = before;
        Ok(enough)
    }

    /// Gets chains for all of `frame`; false when there is no way to get enough of them.
    ///
    /// # Errors
    /// There may be more later: the frame waits.
    fn room_for<R: Ring>(
        &mut self,
        ring: &mut R,
        frame: Arrived,
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        if !self.config.merge {
            return Ok(self.pool.writable_len() >= frame.len);
        }
        self.fill_more(ring, frame.len, budget)?;
        let room = self.pool.writable_len();
        let enough = room >= frame.len;
        // The driver may still post more, unless it has nothing left to post, or let one wait with
        // no less.
        let may_post = self.pool.descriptors() < self.ring_size && room > self.given_up;
        if !enough && self.supply == Supply::Open && may_post {
            return Err(Stop::Driver);
        }
        if enough {
            self.given_up = 0;
        } else if self.supply == Supply::Blocked {
            // Or else one bad chain would keep all long frames out.
            self.pool.scrub(frame.direct);
            self.pool.discard(ring);
        }
        Ok(enough)
    }

    /// Gives the chains that hold the frame of `len` bytes to the driver, with the next publish.
    #[inline(always)]
    pub(super) fn deliver<R: Ring>(&mut self, ring: &mut R, len: usize) {
        self.offloads.add(self.offload, self.frame_len(len));
        self.pool.commit(ring, len);
    }

    /// Shows the driver what was delivered since the last call, `frames` of `bytes` in all; returns
    /// whether it asks for an interrupt.
    pub(super) fn publish<R: Ring>(&mut self, ring: &mut R, frames: u64, bytes: u64) -> bool {
        self.counters.add_batch(frames, bytes);
        self.counters.add_offloads(&mut self.offloads);
        let interrupt = ring.publish();
        self.counters.add_published(frames, interrupt);
        interrupt
    }

    pub(super) fn count_interrupt(&self) {
        self.counters.add_interrupt();
    }

    pub(super) fn count_kick(&self) {
        self.counters.add_kick();
    }
}
