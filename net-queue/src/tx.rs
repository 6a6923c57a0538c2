//! Transmit: from the driver's ring to the backend.

use std::io;
use std::sync::Arc;

use crate::backend::{Budget, FrameBackend, Limit, Outcome, SendError};
use crate::counters::QueueCounters;
use crate::csum;
use crate::fault::{DropCause, QueueFault};
use crate::hdr::{HDR_LEN, HDR_MAX, HdrError, HdrSize, NetHdr, RawHdr, TxRules, gso};
use crate::memory::bounce_buffer::{BounceBuffer, COPYBREAK};
use crate::memory::guard::MemoryFault;
use crate::memory::guest_ram::GuestRam;
use crate::memory::segment::{Gather, HostSlice, IoVec, MAX_SEGMENTS, copy_from};
use crate::packet::{HEADERS, LINK_HEADERS, Transport};
use crate::ring::walk::{HostParts, Resolver};
use crate::ring::{Chain, Cursor, PieceSink, Popped, Ring, RingTask};

/// The longest frame that is passed on: a full IP packet behind an Ethernet header with three VLAN tags.
pub const MAX_FRAME: usize = 65535 + LINK_HEADERS;

/// Why [`TxEngine::run`] returned.
#[derive(Debug)]
pub enum TxStop {
    /// The ring is empty: arm it and wait for a kick.
    Empty,
    /// The budget is spent: call again.
    Budget,
    /// The limiter holds the next frame until this time (ns).
    Limited(u64),
    /// The backend is full: wait until it is writable.
    Blocked,
    /// The driver broke the ring; nothing more happens here until a reset.
    Fault(QueueFault),
    /// The backend is gone.
    Dead(io::Error),
}

/// Where one chain's bytes lie. Slot 0 stays free, so that what this side has checked can stand in front of the first
/// piece without moving any.
#[derive(Debug)]
struct Parts(Vec<IoVec>);

impl HostParts for Parts {
    #[inline(always)]
    fn push(&mut self, host: HostSlice, _gpa: u64) -> Result<(), DropCause> {
        if self.0.len() == MAX_SEGMENTS {
            return Err(DropCause::Pieces);
        }
        self.0.push(host.io());
        Ok(())
    }
}

/// One chain's readable pieces.
#[derive(Debug)]
struct TxPieces {
    resolver: Resolver,
    parts: Parts,
    len: u64,
}

impl TxPieces {
    fn clear(&mut self) {
        self.parts.0.truncate(1);
        self.len = 0;
    }
}

impl PieceSink for TxPieces {
    #[inline]
    fn piece(
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
            .resolve(ram, addr, len, false, &mut self.parts)
    }

    /// DPDK's virtio-user fills its tables with entries that are writable, and clears that neither for the header nor
    /// for the entry whose index is the chain's slot in the ring. They are read like any other.
    #[inline]
    fn table_entry(
        &mut self,
        ram: &GuestRam,
        addr: u64,
        len: u32,
        _writable: bool,
    ) -> Result<(), DropCause> {
        self.piece(ram, addr, len, false)
    }
}

/// Moves frames from a driver's ring to a backend.
#[derive(Debug)]
pub struct TxEngine<R> {
    ring: R,
    lane: TxLane,
}

/// All of an engine but its ring.
#[derive(Debug)]
struct TxLane {
    pieces: TxPieces,
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
    /// An engine on `ring` for headers of `size` under `rules`.
    pub fn new(ring: R, size: HdrSize, rules: TxRules, counters: Arc<QueueCounters>) -> Self {
        let mut pieces = Vec::with_capacity(MAX_SEGMENTS);
        pieces.push(IoVec::EMPTY);
        let pieces = TxPieces {
            resolver: Resolver::default(),
            parts: Parts(pieces),
            len: 0,
        };
        // What this side writes into a frame it writes into a copy.
        let whole = if rules.completes() {
            HDR_MAX + MAX_FRAME
        } else {
            COPYBREAK
        };
        let lane = TxLane {
            pieces,
            size,
            rules,
            bounce: BounceBuffer::new(whole),
            whole,
            copied: 0,
            counters,
            fault: None,
        };
        Self { ring, lane }
    }

    /// Sends what the driver made available, until there is a reason to stop.
    ///
    /// `now` is in nanoseconds of any clock that the limiter's deadlines shall be in.
    pub fn run<B, L>(
        &mut self,
        backend: &mut B,
        limit: &mut L,
        now: u64,
        budget: Budget,
    ) -> Outcome<TxStop>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        self.ring.with(TxBatch {
            lane: &mut self.lane,
            backend,
            limit,
            now,
            budget,
        })
    }

    /// Takes what the driver made available and drops it under `cause`, without a look at it.
    #[cold]
    pub fn discard(&mut self, cause: DropCause, mut budget: Budget) -> Outcome<TxStop> {
        let stop = loop {
            match self.lane.next(&mut self.ring) {
                Ok(Some((chain, content))) => {
                    let cause = content.err().unwrap_or(cause);
                    self.lane.give_back(&mut self.ring, chain, cause);
                }
                Ok(None) => break TxStop::Empty,
                Err(fault) => break TxStop::Fault(fault),
            }
            if !budget.spend(0) {
                break TxStop::Budget;
            }
        };
        let interrupt = self.ring.publish();
        if interrupt {
            self.lane.counters.add_interrupt();
        }
        Outcome {
            stop,
            frames: 0,
            interrupt,
        }
    }

    /// Asks the driver for kicks; true when frames are there already and `run` must be called first.
    pub fn arm(&mut self) -> bool {
        self.lane.fault.is_none() && self.ring.arm()
    }

    /// Tells the driver that it need not kick for now.
    pub fn disarm(&mut self) {
        if self.lane.fault.is_none() {
            self.ring.disarm();
        }
    }

    /// Where the ring stands.
    pub fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    /// The fault that stopped this queue, if any.
    pub fn fault(&self) -> Option<QueueFault> {
        self.lane.fault
    }
}

/// One call of [`TxEngine::run`].
struct TxBatch<'a, B: ?Sized, L: ?Sized> {
    lane: &'a mut TxLane,
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
    type Output = Outcome<TxStop>;

    fn run<R: Ring>(self, ring: &mut R) -> Outcome<TxStop> {
        let Self {
            lane,
            backend,
            limit,
            now,
            mut budget,
        } = self;
        let (mut frames, mut bytes) = (0, 0);
        let stop = loop {
            let (chain, content) = match lane.next(ring) {
                Ok(Some(popped)) => popped,
                Ok(None) => break TxStop::Empty,
                Err(fault) => break TxStop::Fault(fault),
            };
            let sent = content.and_then(|()| lane.take_in());
            let frame_len = match sent {
                Ok(frame_len) => frame_len,
                Err(cause) => {
                    lane.give_back(ring, chain, cause);
                    if budget.spend(0) {
                        continue;
                    } else {
                        break TxStop::Budget;
                    }
                }
            };
            if let Err(deadline) = limit.take(now, frame_len) {
                ring.undo_pop(chain);
                lane.counters.add_limited();
                break TxStop::Limited(deadline);
            }
            match backend.send(&lane.gather()) {
                Ok(()) => {
                    ring.push_used(chain, 0);
                    frames += 1;
                    bytes += frame_len;
                }
                Err(error) => {
                    limit.refund(frame_len);
                    if let Some(stop) = lane.not_sent(ring, chain, error) {
                        break stop;
                    }
                }
            }
            if !budget.spend(frame_len) {
                break TxStop::Budget;
            }
        };
        lane.counters.add_batch(frames, bytes);
        let interrupt = ring.publish();
        if interrupt {
            lane.counters.add_interrupt();
        }
        Outcome {
            stop,
            frames,
            interrupt,
        }
    }
}

impl TxLane {
    /// The next chain, its pieces at hand.
    #[inline(always)]
    fn next<R: Ring>(&mut self, ring: &mut R) -> Result<Option<Popped>, QueueFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.pieces.clear();
        ring.pop(&mut self.pieces)
            .inspect_err(|fault| self.fault = Some(*fault))
    }

    /// Copies the header out once, and with it the rest of a short frame; checks the copy and sanitises it.
    /// Returns the frame's bytes. (NET-TX-02, NET-TX-11)
    #[inline]
    fn take_in(&mut self) -> Result<u64, DropCause> {
        let header = self.size.bytes();
        let len = self.pieces.len as usize;
        let frame_len = len.checked_sub(header).ok_or(DropCause::TooShort)?;
        let copied = if len <= self.whole { len } else { header };
        self.copied = copied;
        // Slot 0 may still hold what was sent before.
        let bounce = &mut self.bounce[..copied];
        copy_from(&self.pieces.parts.0[1..], 0, bounce)?;
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
            csum::complete(&mut bounce[header..], checked);
            checked = NetHdr::PLAIN;
        }
        bounce[..HDR_LEN].copy_from_slice(&checked.to_bytes());
        Ok(frame_len as u64)
    }

    /// Makes the checksum of a frame partial that is to be segmented and has a whole one, as a router's do: its header
    /// as it is then. Only the frame's headers are copied. (NET-HDR-11)
    #[cold]
    #[inline(never)]
    fn begin_checksum(&mut self, raw: RawHdr, frame_len: usize) -> Result<NetHdr, DropCause> {
        let header = self.size.bytes();
        let head = &mut self.bounce[header..header + frame_len.min(HEADERS)];
        if self.copied == header {
            // The header itself was copied before; what was checked is what goes out.
            copy_from(&self.pieces.parts.0[1..], header, head)?;
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

    /// The frame as the backend gets it: all of it from the bounce buffer, or its first bytes from there and the rest from
    /// where the guest left it.
    #[inline]
    fn gather(&mut self) -> Gather<'_> {
        let (header, len) = (self.size.bytes(), self.pieces.len as usize);
        let pieces = &mut self.pieces.parts.0;
        if len <= self.whole {
            pieces[0] = HostSlice::of_buffer(&mut self.bounce[..len]).io();
            return Gather::new(&pieces[..1], header, len);
        }
        let (mut left, mut at) = (self.copied, 1);
        while let Some(piece) = pieces.get_mut(at) {
            if piece.len() > left {
                piece.advance(left);
                break;
            }
            left -= piece.len();
            at += 1;
        }
        pieces[at - 1] = HostSlice::of_buffer(&mut self.bounce[..self.copied]).io();
        Gather::new(&pieces[at - 1..], header, len)
    }

    /// Deals with a frame that the backend did not take; says whether that is a reason to stop.
    #[cold]
    fn not_sent<R: Ring>(&self, ring: &mut R, chain: Chain, error: SendError) -> Option<TxStop> {
        match error {
            SendError::WouldBlock => {
                ring.undo_pop(chain);
                Some(TxStop::Blocked)
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
                Some(TxStop::Dead(error))
            }
        }
    }

    #[cold]
    fn give_back<R: Ring>(&self, ring: &mut R, chain: Chain, cause: DropCause) {
        self.counters.add_drop(cause);
        ring.push_used(chain, 0);
    }
}
