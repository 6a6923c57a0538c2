//! Receive: from the backend into the driver's buffers.
//!
//! The room that is offered for a frame is the pooled chains and, behind them, a spill buffer of this side whenever
//! a frame could be longer than those chains. So nothing is ever cut silently, a frame need not wait until the
//! driver has posted room for the longest one, and a small frame costs one short scatter list. What lands in the
//! spill buffer is copied on into further chains, or waits there until the driver posts them.

use std::io;
use std::sync::Arc;

use crate::backend::{Admit, Budget, FrameBackend, Limit, Outcome, RecvError};
use crate::counters::QueueCounters;
use crate::fault::{DropCause, QueueFault};
use crate::hdr::{ETH_HDR_LEN, HdrSize, NetHdr, RawHdr, RxRules, gso};
use crate::iovec::{HostSlice, Scatter};
use crate::offload::Offloads;
use crate::ram::GuestRam;
use crate::ring::{Cursor, Ring};
use crate::rx_pool::{Pull, RxPool};
use crate::tx::MAX_FRAME;

/// Bytes of a frame's start that a filter may look at: Ethernet header and VLAN tag.
const HEAD: usize = 18;
/// For how many small frames after a long one room for a long one is still offered directly.
const LONG_FRAMES_EXPECTED: u32 = 64;

/// Why [`RxEngine::run`] returned.
#[derive(Debug)]
pub enum RxStop {
    /// The backend has no frame: wait until it is readable.
    Drained,
    /// The driver has no buffer posted (or too few for the frame at hand): arm the ring and wait for a kick.
    NoBuffers,
    /// The budget is spent: call again.
    Budget,
    /// The limiter holds a frame until this time (ns).
    Limited(u64),
    /// The driver broke the ring; nothing more happens here until a reset.
    Fault(QueueFault),
    /// The backend is gone.
    Dead(io::Error),
}

/// What was negotiated for receiving.
#[derive(Clone, Copy, Debug)]
pub struct RxConfig {
    /// Length of the header.
    pub size: HdrSize,
    /// Work that frames may carry undone.
    pub offloads: Offloads,
    /// `VIRTIO_NET_F_MRG_RXBUF`: a frame may take several chains.
    pub merge: bool,
    /// The MTU that was negotiated, in bytes: longer frames are not delivered (NET-CFG-08).
    pub mtu: Option<u16>,
    /// The backend's MTU when it was asked, in bytes: what frames are expected to keep to.
    pub link_mtu: Option<u16>,
}

impl RxConfig {
    /// The most bytes, header included, that the backend is expected to deliver at once.
    fn expected(&self) -> usize {
        let segments =
            Offloads::TSO4 | Offloads::TSO6 | Offloads::UFO | Offloads::USO4 | Offloads::USO6;
        match self.link_mtu {
            Some(mtu) if !self.offloads.intersects(segments) => {
                self.size.bytes() + usize::from(mtu) + HEAD
            }
            _ => self.size.bytes() + MAX_FRAME,
        }
    }
}

/// A frame that was received and could not be delivered yet.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// It lies in the pool's chains; the limiter said no.
    Limited { len: usize },
    /// All but its first `direct` bytes lie in the spill buffer; there are too few chains.
    Spilled { len: usize, direct: usize },
}

/// What a refill left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    /// The driver may post more.
    Open,
    /// The pool can take no more chain.
    Full,
    /// A chain of no use is next.
    Blocked,
}

/// Moves frames from a backend to a driver's ring.
#[derive(Debug)]
pub struct RxEngine<R> {
    ring: R,
    pool: RxPool,
    config: RxConfig,
    rules: RxRules,
    ring_size: usize,
    /// The most bytes that one frame is expected to have; sticks at the maximum once a frame was longer.
    expected: usize,
    long_frames: u32,
    spill: Vec<u8>,
    held: Option<Held>,
    supply: Supply,
    counters: Arc<QueueCounters>,
    fault: Option<QueueFault>,
}

impl<R: Ring> RxEngine<R> {
    /// An engine on `ring`, a queue of `ring_size` whose buffers lie in `ram`.
    pub fn new(
        ring: R,
        ring_size: u16,
        ram: GuestRam,
        config: RxConfig,
        counters: Arc<QueueCounters>,
    ) -> Self {
        Self {
            ring,
            pool: RxPool::new(ram),
            rules: RxRules::new(config.offloads),
            ring_size: usize::from(ring_size),
            expected: config.expected(),
            long_frames: 0,
            // Zeroed memory is mapped lazily: a queue that never spills never pays for it.
            spill: vec![0; HdrSize::Base.bytes().max(config.size.bytes()) + MAX_FRAME],
            held: None,
            supply: Supply::Open,
            counters,
            config,
            fault: None,
        }
    }

    /// Changes the work that frames may carry undone (`GUEST_OFFLOADS_SET`, NET-CVQ-19).
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.config.offloads = offloads;
        self.rules = RxRules::new(offloads);
        self.expected = self.config.expected();
    }

    /// Delivers what the backend has, until there is a reason to stop.
    ///
    /// `now` is in nanoseconds of any clock that the limiter's deadlines shall be in. Without a `filter` every frame
    /// is delivered.
    pub fn run<B, L>(
        &mut self,
        backend: &mut B,
        limit: &mut L,
        filter: Option<&dyn Admit>,
        now: u64,
        mut budget: Budget,
    ) -> Outcome<RxStop>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        let (mut frames, mut bytes) = (0, 0);
        let stop = loop {
            if let Err(stop) = self.fill(&mut budget) {
                break stop;
            }
            let len = match self.next_frame(backend, filter) {
                Ok(Some(len)) => len,
                Ok(None) if budget.spend(0) => continue,
                Ok(None) => break RxStop::Budget,
                Err(stop) => break stop,
            };
            let frame = (len - self.config.size.bytes()) as u64;
            if let Err(deadline) = limit.take(now, frame) {
                self.held = Some(Held::Limited { len });
                self.counters.add_limited();
                break RxStop::Limited(deadline);
            }
            self.deliver(len);
            frames += 1;
            bytes += frame;
            if !budget.spend(frame) {
                break RxStop::Budget;
            }
        };
        self.counters.add_batch(frames, bytes);
        Outcome {
            stop,
            interrupt: self.publish(),
        }
    }

    /// Takes chains from the ring until the longest expected frame has room, and refuses those of no use.
    #[inline]
    fn fill(&mut self, budget: &mut Budget) -> Result<(), RxStop> {
        if let Some(fault) = self.fault {
            return Err(RxStop::Fault(fault));
        }
        // Without merging only the first chain counts, and it must hold at least the shortest frame.
        let header = self.config.size.bytes();
        let (want, least) = match self.held {
            Some(Held::Spilled { len, .. }) => (len, header),
            _ if self.config.merge => (self.expected, header),
            _ => (1, header + ETH_HDR_LEN as usize),
        };
        self.supply = Supply::Open;
        while self.pool.room() < want {
            match self.pool.pull(&mut self.ring, least) {
                Ok(Pull::Added) => {}
                Ok(Pull::Refused((chain, cause))) => {
                    self.counters.add_drop(cause);
                    self.ring.push_used(chain, 0);
                    // A driver that keeps posting useless chains must not keep this call from returning.
                    if !budget.spend(0) {
                        return Err(RxStop::Budget);
                    }
                }
                Ok(Pull::Empty) => break,
                Ok(Pull::Full) => {
                    self.supply = Supply::Full;
                    break;
                }
                Ok(Pull::Blocked) => {
                    self.supply = Supply::Blocked;
                    break;
                }
                Err(fault) => {
                    self.fault = Some(fault);
                    return Err(RxStop::Fault(fault));
                }
            }
        }
        if self.pool.chains() == 0 {
            Err(RxStop::NoBuffers)
        } else {
            Ok(())
        }
    }

    /// The length, header included, of a frame that lies in the pool's chains ready to be delivered; `None` when one
    /// was dropped.
    #[inline]
    fn next_frame<B>(
        &mut self,
        backend: &mut B,
        filter: Option<&dyn Admit>,
    ) -> Result<Option<usize>, RxStop>
    where
        B: FrameBackend + ?Sized,
    {
        let len = match self.held.take() {
            // It passed all checks before it was held.
            Some(Held::Limited { len }) => return Ok(Some(len)),
            Some(Held::Spilled { len, direct }) => {
                if !self.unspill(len, direct)? {
                    return Ok(None);
                }
                len
            }
            None => match self.receive(backend)? {
                Some(len) => len,
                None => return Ok(None),
            },
        };
        match self.check(len, filter) {
            Ok(()) => Ok(Some(len)),
            Err(cause) => {
                self.counters.add_drop(cause);
                Ok(None)
            }
        }
    }

    /// Receives one frame and returns its length; `None` when it was lost, or spilled and is held.
    #[inline]
    fn receive<B>(&mut self, backend: &mut B) -> Result<Option<usize>, RxStop>
    where
        B: FrameBackend + ?Sized,
    {
        let want = if self.config.merge && self.long_frames > 0 {
            self.expected
        } else {
            1
        };
        let (pieces, direct) = self.pool.front(want);
        let spill = (direct <= self.expected).then(|| HostSlice::of_buffer(&mut self.spill).io());
        let room = direct.saturating_add(spill.map_or(0, |spill| spill.len()));
        let received = self.pool.with_pieces(pieces, spill, |pieces| {
            backend.recv(&mut Scatter::new(pieces, room))
        });
        let len = match received {
            Ok(len) => len.min(room),
            Err(RecvError::WouldBlock) => return Err(RxStop::Drained),
            Err(RecvError::Lost) => {
                self.counters.add_drop(DropCause::Refused);
                return Ok(None);
            }
            Err(RecvError::Dead(error)) => return Err(RxStop::Dead(error)),
        };
        // Room that is filled to the last byte may have been too little.
        if len > direct || (len == direct && spill.is_none()) {
            self.outgrown(len, direct, spill.is_some());
            return Ok(None);
        }
        self.expect_long(len > self.pool.first_len());
        Ok(Some(len))
    }

    #[inline]
    fn expect_long(&mut self, long: bool) {
        self.long_frames = if long {
            LONG_FRAMES_EXPECTED
        } else {
            self.long_frames.saturating_sub(1)
        };
    }

    /// Holds or drops a frame that went beyond the chains offered to it.
    #[cold]
    fn outgrown(&mut self, len: usize, direct: usize, whole: bool) {
        if len > self.expected {
            // The link's MTU has grown.
            self.expected = self.spill.len();
        }
        if len > self.spill.len() {
            self.counters.add_drop(DropCause::TooLong);
        } else if self.config.merge && whole {
            self.expect_long(true);
            self.held = Some(Held::Spilled { len, direct });
        } else {
            self.counters.add_drop(DropCause::NoRoom);
        }
    }

    /// Copies what spilled on into further chains; false when the frame had to be dropped.
    #[cold]
    fn unspill(&mut self, len: usize, direct: usize) -> Result<bool, RxStop> {
        if self.pool.room() >= len {
            self.pool.poke(direct, &self.spill[..len - direct]);
            return Ok(true);
        }
        // The driver may still post more, unless it has nothing left to post.
        if self.supply == Supply::Open && self.pool.slots() < self.ring_size {
            self.held = Some(Held::Spilled { len, direct });
            return Err(RxStop::NoBuffers);
        }
        if self.supply == Supply::Blocked {
            // Or else one bad chain would keep all long frames out.
            self.pool.discard(&mut self.ring);
        }
        self.counters.add_drop(DropCause::NoRoom);
        Ok(false)
    }

    /// Decides whether the driver may see the frame of `len` bytes at the pool's front, and sanitises its header.
    ///
    /// The header is read back from where the backend put it. The driver could change it meanwhile, and would
    /// deceive nobody but itself.
    #[inline]
    fn check(&mut self, len: usize, filter: Option<&dyn Admit>) -> Result<(), DropCause> {
        let header = self.config.size.bytes();
        let frame_len = len.checked_sub(header).ok_or(DropCause::TooShort)?;
        let mut raw = RawHdr::new(self.config.size);
        self.pool.peek(0, raw.as_mut_bytes());
        let mut checked = NetHdr::check_rx(&raw, frame_len as u32, self.rules)?;
        if let Some(mtu) = self.config.mtu
            && frame_len > usize::from(mtu) + ETH_HDR_LEN as usize
            && checked.gso_type() == gso::NONE
        {
            self.check_mtu(frame_len, usize::from(mtu))?;
        }
        if let Some(filter) = filter {
            let mut head = [0; HEAD];
            let count = self.pool.peek(header, &mut head[..HEAD.min(frame_len)]);
            if !filter.admit(&head[..count]) {
                return Err(DropCause::Filtered);
            }
        }
        if self.config.merge {
            checked.set_num_buffers(self.pool.span(len) as u16);
        }
        self.pool
            .poke(0, checked.to_raw(self.config.size).as_bytes());
        Ok(())
    }

    /// A VLAN tag does not count towards the MTU; anything else above it does.
    #[cold]
    fn check_mtu(&self, frame_len: usize, mtu: usize) -> Result<(), DropCause> {
        let mut ethertype = [0; 2];
        self.pool
            .peek(self.config.size.bytes() + 12, &mut ethertype);
        let tagged = matches!(u16::from_be_bytes(ethertype), 0x8100 | 0x88a8);
        if tagged && frame_len <= mtu + HEAD {
            Ok(())
        } else {
            Err(DropCause::Mtu)
        }
    }

    /// Gives the chains that hold the frame of `len` bytes to the driver, with the next publish.
    #[inline]
    fn deliver(&mut self, len: usize) {
        self.pool.commit(&mut self.ring, len);
    }

    fn publish(&mut self) -> bool {
        let interrupt = self.ring.publish();
        if interrupt {
            self.counters.add_interrupt();
        }
        interrupt
    }

    /// Brings the ring into a state that its cursor tells all of: a held frame is delivered or dropped, pooled
    /// chains are given back. Returns whether the driver asks for an interrupt. The engine can go on afterwards.
    pub fn settle<L: Limit + ?Sized>(&mut self, limit: &mut L, now: u64) -> bool {
        match self.held.take() {
            Some(Held::Limited { len }) => {
                let frame = (len - self.config.size.bytes()) as u64;
                limit.force(now, frame);
                self.deliver(len);
                self.counters.add_batch(1, frame);
            }
            Some(Held::Spilled { .. }) => self.counters.add_drop(DropCause::Stopped),
            None => {}
        }
        self.pool.give_back(&mut self.ring);
        self.publish()
    }

    /// Asks the driver for kicks; true when buffers are there already and `run` must be called first.
    pub fn arm(&mut self) -> bool {
        self.fault.is_none() && self.ring.arm()
    }

    /// Tells the driver that it need not kick for now.
    pub fn disarm(&mut self) {
        if self.fault.is_none() {
            self.ring.disarm();
        }
    }

    /// Where the ring stands; complete after [`RxEngine::settle`].
    pub fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    /// The fault that stopped this queue, if any.
    pub fn fault(&self) -> Option<QueueFault> {
        self.fault
    }
}
