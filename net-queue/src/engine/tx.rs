//! Transmit: from the driver's ring to the backend.

mod config;

pub use config::TxConfig;

use std::sync::Arc;

use super::limit::Limit;
use super::{Budget, Engine, Outcome, Stop};
use crate::backend::{FrameBackend, SendError};
use crate::counters::QueueCounters;
use crate::drop_cause::{DropCause, QueueFault};
use crate::header::checksum;
use crate::header::packet::{HEADERS, Transport};
use crate::header::{HDR_LEN, HDR_MAX, HdrError, HdrSize, MAX_FRAME, NetHdr, RawHdr, TxRules, gso};
use crate::memory::bounce_buffer::{BounceBuffer, COPYBREAK};
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::segment::{Gather, HostSlice, IoVec, MAX_SEGMENTS, copy_from};
use crate::ring::walk::{Resolver, SegmentSink};
use crate::ring::{BufferSink, Chain, Cursor, PoppedChain, Ring, RingTask};

/// Host segments of one chain. Slot 0 stays free, so that what this side has checked can stand in
/// front of the first segment without moving any.
#[derive(Debug)]
struct Segments(Vec<IoVec>);

impl SegmentSink for Segments {
    #[inline(always)]
    fn push(&mut self, host: HostSlice, _gpa: u64) -> Result<(), DropCause> {
        if self.0.len() == MAX_SEGMENTS {
            return Err(DropCause::Segments);
        }
        self.0.push(host.io());
        Ok(())
    }
}

/// One chain's readable buffers.
#[derive(Debug)]
struct TxBuffers {
    resolver: Resolver,
    segments: Segments,
    len: u64,
}

impl TxBuffers {
    fn clear(&mut self) {
        self.segments.0.truncate(1);
        self.len = 0;
    }
}

impl BufferSink for TxBuffers {
    #[inline]
    fn buffer(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        writable: bool,
    ) -> Result<(), DropCause> {
        if writable {
            return Err(DropCause::Direction);
        }
        self.len += u64::from(len);
        if self.len > (MAX_FRAME + HDR_MAX) as u64 {
            return Err(DropCause::TooLong);
        }
        self.resolver
            .resolve(ram, addr, len, false, &mut self.segments)
    }

    /// DPDK's virtio-user fills its tables with entries that are writable, and clears that neither
    /// for the header nor for the entry whose index is the chain's slot in the ring. They are read
    /// like any other.
    #[inline]
    fn table_entry(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        _writable: bool,
    ) -> Result<(), DropCause> {
        self.buffer(ram, addr, len, false)
    }
}

/// Moves frames from a driver's ring to a backend.
#[derive(Debug)]
pub struct TxEngine<R> {
    ring: R,
    path: TxPath,
}

/// All of an engine but its ring.
#[derive(Debug)]
struct TxPath {
    buffers: TxBuffers,
    size: HdrSize,
    rules: TxRules,
    /// The checked header on its way out, and a short frame behind it.
    bounce: BounceBuffer,
    /// Frames up to this length, header included, pass through the bounce buffer as a whole.
    whole: usize,
    /// First bytes of the frame at hand that go out from the bounce buffer.
    copied: usize,
    counters: Arc<QueueCounters>,
    fault: Option<QueueFault>,
}

impl<R: Ring> TxEngine<R> {
    /// An engine on `ring` under the terms of `config`.
    pub fn new(ring: R, config: TxConfig, counters: Arc<QueueCounters>) -> Self {
        let TxConfig { size, rules, .. } = config;
        let mut segments = Vec::with_capacity(MAX_SEGMENTS);
        segments.push(IoVec::EMPTY);
        let buffers = TxBuffers {
            resolver: Resolver::default(),
            segments: Segments(segments),
            len: 0,
        };
        // What this side writes into a frame it writes into a copy.
        let whole = if rules.completes() {
            HDR_MAX + MAX_FRAME
        } else {
            COPYBREAK
        };
        let path = TxPath {
            buffers,
            size,
            rules,
            bounce: BounceBuffer::new(whole),
            whole,
            copied: 0,
            counters,
            fault: None,
        };
        Self { ring, path }
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
        self.ring.with(TxBatch {
            path: &mut self.path,
            backend,
            limit,
            now,
            budget,
        })
    }

    /// Takes what the driver made available and drops it under `cause`, without a look at it.
    #[cold]
    pub fn discard(&mut self, cause: DropCause, mut budget: Budget) -> Outcome {
        let stop = loop {
            match self.path.next(&mut self.ring) {
                Ok(Some(popped)) => {
                    let cause = popped.content.err().unwrap_or(cause);
                    self.path.give_back(&mut self.ring, popped.chain, cause);
                }
                Ok(None) => break Stop::Driver,
                Err(fault) => break Stop::Fault(fault),
            }
            if !budget.spend(0) {
                break Stop::Budget;
            }
        };
        let interrupt = self.ring.publish();
        self.path.counters.add_published(0, interrupt);
        Outcome {
            stop,
            frames: 0,
            interrupt,
        }
    }
}

impl<R: Ring> Engine for TxEngine<R> {
    fn enable_notification(&mut self) -> bool {
        self.path.fault.is_none() && self.ring.enable_notification()
    }

    fn disable_notification(&mut self) {
        if self.path.fault.is_none() {
            self.ring.disable_notification();
        }
    }

    fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    fn fault(&self) -> Option<QueueFault> {
        self.path.fault
    }

    fn count_kick(&self) {
        self.path.counters.add_kick();
    }
}

/// One call of [`TxEngine::run`].
struct TxBatch<'a, B: ?Sized, L: ?Sized> {
    path: &'a mut TxPath,
    backend: &'a mut B,
    limit: &'a mut L,
    now: u64,
    budget: Budget,
}

impl<B, L> RingTask for TxBatch<'_, B, L>
where
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    type Output = Outcome;

    // Compiled beside its caller, wherever the compiler draws the line between units.
    #[inline]
    fn run<R: Ring>(self, ring: &mut R) -> Outcome {
        let Self {
            path,
            backend,
            limit,
            now,
            mut budget,
        } = self;
        let (mut frames, mut bytes) = (0, 0);
        let stop = loop {
            let PoppedChain { chain, content } = match path.next(ring) {
                Ok(Some(popped)) => popped,
                Ok(None) => break Stop::Driver,
                Err(fault) => break Stop::Fault(fault),
            };
            let sent = content.and_then(|()| path.take_in());
            let frame_len = match sent {
                Ok(frame_len) => frame_len,
                Err(cause) => {
                    path.give_back(ring, chain, cause);
                    if budget.spend(0) {
                        continue;
                    } else {
                        break Stop::Budget;
                    }
                }
            };
            if let Err(deadline) = limit.take(now, frame_len) {
                ring.undo_pop(chain);
                path.counters.add_limited();
                break Stop::Limited(deadline);
            }
            match backend.send(&path.gather()) {
                Ok(()) => {
                    ring.push_used(chain, 0);
                    frames += 1;
                    bytes += frame_len;
                }
                Err(error) => {
                    limit.refund(frame_len);
                    if let Some(stop) = path.not_sent(ring, chain, error) {
                        break stop;
                    }
                }
            }
            if !budget.spend(frame_len) {
                break Stop::Budget;
            }
        };
        path.counters.add_batch(frames, bytes);
        let interrupt = ring.publish();
        path.counters.add_published(frames, interrupt);
        Outcome {
            stop,
            frames,
            interrupt,
        }
    }
}

impl TxPath {
    /// The next chain, its buffers at hand.
    #[inline(always)]
    fn next<R: Ring>(&mut self, ring: &mut R) -> Result<Option<PoppedChain>, QueueFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.buffers.clear();
        ring.pop(&mut self.buffers)
            .inspect_err(|fault| self.fault = Some(*fault))
    }

    /// Copies the header out once, and with it the rest of a short frame; checks the copy and
    /// sanitises it. Returns the frame's bytes. (NET-TX-02, NET-TX-11)
    #[inline]
    fn take_in(&mut self) -> Result<u64, DropCause> {
        let header = self.size.bytes();
        let len = self.buffers.len as usize;
        let frame_len = len.checked_sub(header).ok_or(DropCause::TooShort)?;
        let copied = if len <= self.whole { len } else { header };
        self.copied = copied;
        // Slot 0 may still hold what was sent before.
        let bounce = &mut self.bounce[..copied];
        copy_from(&self.buffers.segments.0[1..], 0, bounce)?;
        let mut raw = [0; HDR_LEN];
        raw.copy_from_slice(&bounce[..HDR_LEN]);
        let raw = RawHdr::from(raw);
        let mut checked = match NetHdr::check_tx(&raw, frame_len as u32, self.rules) {
            Err(HdrError::GsoWithoutCsum) => self.begin_checksum(raw, frame_len)?,
            checked => checked?,
        };
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
            copy_from(&self.buffers.segments.0[1..], header, head)?;
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
        let (header, len) = (self.size.bytes(), self.buffers.len as usize);
        let segments = &mut self.buffers.segments.0;
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

    /// Deals with a frame that the backend did not take; says whether that is a reason to stop.
    #[cold]
    fn not_sent<R: Ring>(&self, ring: &mut R, chain: Chain, error: SendError) -> Option<Stop> {
        match error {
            SendError::WouldBlock => {
                ring.undo_pop(chain);
                Some(Stop::Backend)
            }
            SendError::Refused => {
                self.give_back(ring, chain, DropCause::Refused);
                None
            }
            SendError::Memory => {
                self.give_back(ring, chain, MemoryFault.into());
                None
            }
            SendError::Dead(error) => {
                ring.undo_pop(chain);
                Some(Stop::Dead(error))
            }
        }
    }

    #[cold]
    fn give_back<R: Ring>(&self, ring: &mut R, chain: Chain, cause: DropCause) {
        self.counters.add_drop(cause);
        ring.push_used(chain, 0);
    }
}
