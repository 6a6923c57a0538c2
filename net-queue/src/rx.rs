//! Receive: from the backend into the driver's buffers.

mod lane;

use std::io;
use std::sync::Arc;

use crate::backend::{Admit, Budget, FrameBackend, Limit, Outcome};
use crate::counters::QueueCounters;
use crate::fault::{DropCause, QueueFault};
use crate::hdr::HdrSize;
use crate::memory::guest_ram::GuestRam;
use crate::offload::Offloads;
use crate::ring::{Cursor, Ring, RingTask};
use crate::tx::MAX_FRAME;
use lane::{HEAD, RxLane};

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
    /// The most bytes of a frame and its header.
    fn most(&self) -> usize {
        self.size.bytes() + MAX_FRAME
    }

    /// The most bytes, header included, that the backend is expected to deliver at once.
    fn expected(&self) -> usize {
        let segments =
            Offloads::TSO4 | Offloads::TSO6 | Offloads::UFO | Offloads::USO4 | Offloads::USO6;
        match self.link_mtu {
            Some(mtu) if !self.offloads.intersects(segments) => {
                self.size.bytes() + usize::from(mtu) + HEAD
            }
            _ => self.most(),
        }
    }
}

/// Moves frames from a backend to a driver's ring.
#[derive(Debug)]
pub struct RxEngine<R> {
    ring: R,
    lane: RxLane,
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
        let lane = RxLane::new(ring_size, ram, config, counters);
        Self { ring, lane }
    }

    /// Changes the work that frames may carry undone (`GUEST_OFFLOADS_SET`, NET-CVQ-19).
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.lane.set_offloads(offloads);
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
        budget: Budget,
    ) -> Outcome<RxStop>
    where
        B: FrameBackend + ?Sized,
        L: Limit + ?Sized,
    {
        self.ring.with(RxBatch {
            lane: &mut self.lane,
            backend,
            limit,
            filter,
            now,
            budget,
        })
    }

    /// Bytes that the driver has to post before a frame that waits for buffers can be delivered; `None` when none
    /// waits. A driver may never do it: whoever waits for it counts the time from when this changed last, and ends
    /// the wait by [`RxEngine::give_up`].
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        self.lane.missing()
    }

    /// Drops a frame that waits for buffers. Others as long are then dropped at once, until more than now is posted.
    pub fn give_up(&mut self) {
        self.lane.give_up();
    }

    /// Brings the ring into a state that its cursor tells all of: a held frame is delivered, or dropped if it lacks
    /// buffers or is not for the driver any more; pooled chains are given back. Returns whether the driver asks for
    /// an interrupt. The engine can go on afterwards.
    pub fn settle<L: Limit + ?Sized>(
        &mut self,
        limit: &mut L,
        filter: Option<&dyn Admit>,
        now: u64,
    ) -> bool {
        self.lane.settle(&mut self.ring, limit, filter, now)
    }

    /// The same for a queue that must get no frame any more: a held frame is dropped (NET-MQ-02).
    pub fn abandon(&mut self) {
        self.lane.abandon(&mut self.ring);
    }

    /// Takes what the backend has and drops it under `cause`; nothing of it reaches the driver.
    #[cold]
    pub fn discard<B>(&mut self, backend: &mut B, cause: DropCause, mut budget: Budget) -> RxStop
    where
        B: FrameBackend + ?Sized,
    {
        self.lane.abandon(&mut self.ring);
        loop {
            if let Err(stop) = self.lane.discard(backend, cause) {
                return stop;
            }
            if !budget.spend(0) {
                return RxStop::Budget;
            }
        }
    }

    /// Asks the driver for kicks; true when buffers are there already and `run` must be called first.
    pub fn arm(&mut self) -> bool {
        self.lane.fault().is_none() && self.ring.arm()
    }

    /// Tells the driver that it need not kick for now.
    pub fn disarm(&mut self) {
        if self.lane.fault().is_none() {
            self.ring.disarm();
        }
    }

    /// Where the ring stands; complete after [`RxEngine::settle`].
    pub fn cursor(&self) -> Cursor {
        self.ring.cursor()
    }

    /// The fault that stopped this queue, if any.
    pub fn fault(&self) -> Option<QueueFault> {
        self.lane.fault()
    }
}

/// One call of [`RxEngine::run`].
struct RxBatch<'a, B: ?Sized, L: ?Sized> {
    lane: &'a mut RxLane,
    backend: &'a mut B,
    limit: &'a mut L,
    filter: Option<&'a dyn Admit>,
    now: u64,
    budget: Budget,
}

impl<B, L> RingTask for RxBatch<'_, B, L>
where
    B: FrameBackend + ?Sized,
    L: Limit + ?Sized,
{
    type Output = Outcome<RxStop>;

    fn run<R: Ring>(mut self, ring: &mut R) -> Outcome<RxStop> {
        let (mut frames, mut bytes) = (0, 0);
        let stop = loop {
            let next = self
                .lane
                .next_frame(ring, self.backend, self.filter, &mut self.budget);
            let len = match next {
                Ok(Some(len)) => len,
                Ok(None) if self.budget.spend(0) => continue,
                Ok(None) => break RxStop::Budget,
                Err(stop) => break stop,
            };
            let frame = self.lane.frame_len(len);
            if let Err(deadline) = self.limit.take(self.now, frame) {
                self.lane.hold(len);
                break RxStop::Limited(deadline);
            }
            self.lane.deliver(ring, len);
            frames += 1;
            bytes += frame;
            if !self.budget.spend(frame) {
                break RxStop::Budget;
            }
        };
        let interrupt = self.lane.publish(ring, frames, bytes);
        Outcome {
            stop,
            frames,
            interrupt,
        }
    }
}
