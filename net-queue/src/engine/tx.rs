//! Transmit: from the driver's ring to the backend.

mod config;
mod departure;
mod step;

pub use config::TxConfig;

use std::sync::Arc;

use departure::{Departure, Direct};

use super::coalesce::{Coalescer, KINDS, Outlet};
use super::limit::Limit;
use super::{Budget, Engine, Outcome, Stop};
use crate::backend::FrameBackend;
use crate::counters::{GroupEnd, Offload, QueueCounters};
use crate::drop_cause::{DropCause, QueueFault};
use crate::header::checksum;
use crate::header::packet::{HEADERS, Transport};
use crate::header::{HDR_LEN, HDR_MAX, HdrError, HdrSize, MAX_FRAME, NetHdr, RawHdr, TxRules, gso};
use crate::memory::bounce_buffer::{BounceBuffer, COPYBREAK};
use crate::memory::segment::{Gather, HostSlice, IoVec, MAX_SEGMENTS, copy_from};
use crate::offload::Offloads;
use crate::ring::{BufferRules, Cursor, Direction, PoppedChain, Ring, RingTask};

/// Buffers of a transmit chain. One segment less than a system call takes: the header has one of
/// its own.
const RULES: BufferRules = BufferRules {
    direction: Direction::Readable,
    most_segments: MAX_SEGMENTS,
};

/// Bytes of the longest frame with its header.
const LONGEST: usize = MAX_FRAME + HDR_MAX;

/// Moves frames from a driver's ring to a backend.
#[derive(Debug)]
pub struct TxEngine<R> {
    ring: R,
    path: TxPath,
    /// Frames of one flow on their way to becoming one, where that is on.
    coalescer: Option<Box<Coalescer>>,
    counters: Arc<QueueCounters>,
}

/// All of an engine but its ring and what it counts.
#[derive(Debug)]
struct TxPath {
    /// Those of one chain. Slot 0 stays free, so that what this side has checked can stand in front
    /// of the first one without moving any.
    segments: Vec<IoVec>,
    /// Their bytes.
    len: usize,
    size: HdrSize,
    rules: TxRules,
    /// The checked header on its way out, and a short frame behind it.
    bounce: BounceBuffer,
    /// Frames up to this length, header included, pass through the bounce buffer as a whole.
    whole: usize,
    /// First bytes of the frame at hand that go out from the bounce buffer.
    copied: usize,
    /// The header of the frame at hand.
    checked: NetHdr,
    /// Requests in it as the driver wrote it.
    offload: Offload,
}

impl<R: Ring> TxEngine<R> {
    /// An engine on `ring` under the terms of `config`.
    pub fn new(ring: R, config: TxConfig, counters: Arc<QueueCounters>) -> Self {
        let TxConfig {
            size,
            rules,
            coalesce,
        } = config;
        // A group has a partial checksum, too.
        let coalesces = coalesce.intersects(KINDS) && !rules.completes();
        let mut segments = Vec::with_capacity(MAX_SEGMENTS);
        segments.push(IoVec::EMPTY);
        // What this side writes into a frame it writes into a copy.
        let longest = HDR_MAX + MAX_FRAME;
        let whole = if rules.completes() {
            longest
        } else {
            COPYBREAK
        };
        // The buffer of a frame becomes that of its group.
        let room = if coalesces { longest } else { whole };
        let path = TxPath {
            segments,
            len: 0,
            size,
            rules,
            bounce: BounceBuffer::new(room),
            whole,
            copied: 0,
            checked: NetHdr::PLAIN,
            offload: Offload::default(),
        };
        Self {
            ring,
            path,
            coalescer: coalesces.then(|| Box::new(Coalescer::new(coalesce, size.bytes()))),
            counters,
        }
    }

    /// Sends what the driver made available, until there is a reason to stop.
    ///
    /// `now` is in nanoseconds of any clock that the limiter's deadlines shall be in.
    #[inline]
    pub fn run<B, L>(&mut self, backend: &mut B, limit: &mut L, now: u64, budget: Budget) -> Outcome
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let out = Outlet::new(backend, limit, &self.counters);
        let path = &mut self.path;
        match &mut self.coalescer {
            None => self.ring.with(TxBatch {
                path,
                departure: &mut Direct,
                out,
                now,
                budget,
            }),
            Some(coalescer) => self.ring.with(TxBatch {
                path,
                departure: &mut **coalescer,
                out,
                now,
                budget,
            }),
        }
    }

    /// Leaves a ring whose position tells all: sends what groups hold if the backend takes it now,
    /// and gives back to the ring what it does not take. Returns whether the driver wants an
    /// interrupt.
    ///
    /// To be called before [`Engine::cursor`] is what another engine goes on from. A frame of
    /// another flow that overtook one which is given back will be sent twice.
    pub fn drain<B, L>(&mut self, backend: &mut B, limit: &mut L) -> bool
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let Some(coalescer) = &mut self.coalescer else {
            return false;
        };
        let mut out = Outlet::new(backend, limit, &self.counters);
        // Whatever the error is, nothing is lost by it.
        let _ = coalescer.send_all(GroupEnd::Run, &mut out);
        out.count();
        let frames = out.frames;
        coalescer.undo(&mut self.ring, limit);
        self.publish(frames)
    }

    /// Kinds of groups that the backend refused since the last call, although it takes their
    /// frames one by one. They are not tried again.
    pub fn take_refused_groups(&mut self) -> Offloads {
        let coalescer = self.coalescer.as_mut();
        coalescer.map_or(Offloads::empty(), |coalescer| coalescer.take_refused())
    }

    /// Takes what the driver made available and drops it under `cause`, without a look at it.
    #[cold]
    pub fn discard(&mut self, cause: DropCause, mut budget: Budget) -> Outcome {
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.discard(&mut self.ring, cause, &self.counters);
        }
        let stop = loop {
            match self.path.next(&mut self.ring) {
                Some(popped) => {
                    let cause = popped.content.err().unwrap_or(cause);
                    self.counters.add_drop(cause);
                    self.ring.push_used(popped.chain, 0);
                }
                None => break Stop::no_chain(&self.ring),
            }
            if !budget.spend(0) {
                break Stop::Budget;
            }
        };
        Outcome {
            stop,
            frames: 0,
            interrupt: self.publish(0),
        }
    }

    fn publish(&mut self, frames: u64) -> bool {
        let interrupt = self.ring.publish();
        self.counters.add_published(frames, interrupt);
        interrupt
    }
}

impl<R: Ring> Engine for TxEngine<R> {
    fn enable_notification(&mut self) -> bool {
        self.ring.enable_notification()
    }

    fn disable_notification(&mut self) {
        self.ring.disable_notification();
    }

    fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    fn fault(&self) -> Option<QueueFault> {
        self.ring.fault()
    }

    fn count_kick(&self) {
        self.counters.add_kick();
    }
}

/// One call of [`TxEngine::run`].
struct TxBatch<'a, D, B: ?Sized, L: ?Sized> {
    path: &'a mut TxPath,
    departure: &'a mut D,
    out: Outlet<'a, B, L>,
    now: u64,
    budget: Budget,
}

impl<D, B, L> RingTask for TxBatch<'_, D, B, L>
where
    D: Departure,
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    type Output = Outcome;

    // Compiled beside its caller, wherever the compiler draws the line between units.
    #[inline]
    fn run<R: Ring>(self, ring: &mut R) -> Outcome {
        let Self {
            path,
            departure,
            mut out,
            now,
            mut budget,
        } = self;
        let stop = match departure.begin(&mut out) {
            Err(error) => error.into(),
            Ok(()) => loop {
                match path.step(departure, ring, now, &mut out) {
                    Ok(bytes) if budget.spend(bytes) => {}
                    Ok(_) => break Stop::Budget,
                    Err(reason) => break reason,
                }
            },
        };
        let stop = departure.finish(ring, stop, &mut out);
        out.count();
        let interrupt = ring.publish();
        out.counters.add_published(out.frames, interrupt);
        Outcome {
            stop,
            frames: out.frames,
            interrupt,
        }
    }
}

impl TxPath {
    /// The next chain, its buffers at hand.
    #[inline(always)]
    fn next<R: Ring>(&mut self, ring: &mut R) -> Option<PoppedChain> {
        self.segments.truncate(1);
        ring.pop(&mut self.segments, RULES)
    }

    /// Copies the header of a frame out once that has `len` bytes with it, and with it the rest of
    /// a short frame; checks the copy and sanitises it. Returns the frame's bytes. (NET-TX-02,
    /// NET-TX-11)
    #[inline]
    fn take_in(&mut self, len: usize) -> Result<u64, DropCause> {
        if len > LONGEST {
            return Err(DropCause::TooLong);
        }
        let header = self.size.bytes();
        self.len = len;
        let frame_len = len.checked_sub(header).ok_or(DropCause::TooShort)?;
        let copied = if len <= self.whole { len } else { header };
        self.copied = copied;
        // Slot 0 may still hold what was sent before.
        let bounce = &mut self.bounce[..copied];
        copy_from(&self.segments[1..], 0, bounce)?;
        let mut raw = [0; HDR_LEN];
        raw.copy_from_slice(&bounce[..HDR_LEN]);
        let raw = RawHdr::from(raw);
        let mut checked = match NetHdr::check_tx(&raw, frame_len as u32, self.rules) {
            Err(HdrError::GsoWithoutCsum) => self.begin_checksum(raw, frame_len)?,
            checked => checked?,
        };
        self.offload = Offload::of(checked);
        let bounce = &mut self.bounce[..copied];
        if header > HDR_LEN {
            // Nothing behind the base header means anything on transmit.
            bounce[HDR_LEN..header].fill(0);
        }
        if self.rules.completes() && checked.flags() != 0 && checked.gso_type() == gso::NONE {
            checksum::complete(&mut bounce[header..], checked);
            checked = NetHdr::PLAIN;
        }
        bounce[..HDR_LEN].copy_from_slice(&checked.to_bytes());
        self.checked = checked;
        Ok(frame_len as u64)
    }

    /// Makes the checksum of a frame partial that is to be segmented and has a whole one, as a
    /// router's do: its header as it is then. Only the frame's headers are copied. (NET-HDR-11)
    #[cold]
    #[inline(never)]
    fn begin_checksum(&mut self, raw: RawHdr, frame_len: usize) -> Result<NetHdr, DropCause> {
        let header = self.size.bytes();
        let head = &mut self.bounce[header..header + frame_len.min(HEADERS)];
        if self.copied == header {
            // The header itself was copied before; what was checked is what goes out.
            copy_from(&self.segments[1..], header, head)?;
        }
        let transport =
            Transport::of(head, frame_len, raw.gso_type()).ok_or(HdrError::GsoWithoutCsum)?;
        let raw = transport.make_partial(raw);
        let checked = NetHdr::check_tx(&raw, frame_len as u32, self.rules)?;
        let field = transport.field();
        head[field..field + 2].copy_from_slice(&transport.pseudo);
        self.copied = self.copied.max(header + transport.end);
        Ok(checked)
    }

    /// The frame as the backend gets it: all of it from the bounce buffer, or its first bytes from
    /// there and the rest from where the guest left it.
    #[inline]
    fn gather(&mut self) -> Gather<'_> {
        let (header, len) = (self.size.bytes(), self.len);
        let segments = &mut self.segments;
        if len <= self.whole {
            segments[0] = HostSlice::of_buffer(&mut self.bounce[..len]).io();
            return Gather::new(&segments[..1], header, len);
        }
        let (mut left, mut at) = (self.copied, 1);
        while let Some(segment) = segments.get_mut(at) {
            if segment.len() > left {
                segment.advance(left);
                break;
            }
            left -= segment.len();
            at += 1;
        }
        segments[at - 1] = HostSlice::of_buffer(&mut self.bounce[..self.copied]).io();
        Gather::new(&segments[at - 1..], header, len)
    }
}
