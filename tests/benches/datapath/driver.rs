//! A driver's ring with buffers of its own, and the engine that serves it.

use std::sync::Arc;

use net_device::net_queue::header::{HDR_LEN, HdrSize};
use net_device::net_queue::ring::{AnyRing, RingConfig};
use net_device::net_queue::{
    Budget, FrameBackend, GuestRam, LinkConfig, Offloads, QueueCounters, RxConfig, RxEngine,
};
use net_device::port::{GsoPolicy, TapBackend};
use net_device::tap::Tap;
use net_device::{GsoTrust, Layout};
use net_queue::testing::{GuestRing, Piece, TestMemory};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::host;

/// Descriptors of each ring.
pub(crate) const SIZE: u16 = 256;
/// Chains that the driver makes available at once.
pub(crate) const BATCHES: [u16; 3] = [1, 32, 256];
/// Budget that a worker gives an engine at once.
pub(crate) const WORKER_BUDGET: u32 = 128;
const WORKER_BYTES: u64 = 1 << 20;

/// The worker's budget for at most `frames` frames.
pub(crate) fn budget(frames: u32) -> Budget {
    Budget {
        frames: frames.min(WORKER_BUDGET),
        bytes: WORKER_BYTES,
    }
}

/// A ring and as many buffers.
pub(crate) struct DriverRing {
    /// The memory of both.
    pub(crate) memory: TestMemory,
    /// The driver's end.
    pub(crate) ring: GuestRing,
    /// The buffers as the driver posts them.
    pub(crate) pieces: Vec<Piece>,
    /// The same as the kernel gets them.
    pub(crate) iovecs: Vec<libc::iovec>,
    next: usize,
    next_bare: usize,
}

impl DriverRing {
    /// A driver whose buffers have `len` bytes each.
    pub(crate) fn new(layout: Layout, len: usize, writable: bool) -> Self {
        let memory = TestMemory::new();
        let config = RingConfig {
            layout,
            size: SIZE,
            event_idx: true,
            indirect: true,
            ..RingConfig::default()
        };
        let ring = GuestRing::new(&memory, config);
        let place = |_| Piece {
            addr: memory.alloc(len, 64),
            len: len as u32,
            writable,
        };
        let pieces: Vec<Piece> = (0..SIZE).map(place).collect();
        let host = |piece: &Piece| {
            let host = memory.mmap().get_host_address(GuestAddress(piece.addr));
            host::iovec(host.expect("a buffer is mapped"), len)
        };
        let iovecs = pieces.iter().map(host).collect();
        Self {
            memory,
            ring,
            pieces,
            iovecs,
            next: 0,
            next_bare: 0,
        }
    }

    /// Makes the next `count` buffers available.
    pub(crate) fn post(&mut self, count: u16) {
        for _ in 0..count {
            self.ring.add(&[self.pieces[self.next]]);
            self.next = (self.next + 1) % self.pieces.len();
        }
        self.ring.publish();
    }

    /// The next `count` buffers for a bare loop: it goes round all of them as the driver does.
    pub(crate) fn bare(&mut self, count: u16) -> impl Iterator<Item = &libc::iovec> + use<'_> {
        let start = self.next_bare;
        self.next_bare = (start + usize::from(count)) % self.iovecs.len();
        self.iovecs.iter().cycle().skip(start).take(count.into())
    }

    /// An engine that receives into these buffers, as a Linux driver would negotiate it.
    pub(crate) fn receiver(&self, counters: Arc<QueueCounters>) -> RxEngine<AnyRing> {
        self.receiver_in(self.memory.ram(), counters)
    }

    /// The same over another view of the memory.
    pub(crate) fn receiver_in(
        &self,
        ram: GuestRam,
        counters: Arc<QueueCounters>,
    ) -> RxEngine<AnyRing> {
        self.receiver_with(ram, offloads(), counters)
    }

    /// The same for a driver that takes `offloads`.
    pub(crate) fn receiver_with(
        &self,
        ram: GuestRam,
        offloads: Offloads,
        counters: Arc<QueueCounters>,
    ) -> RxEngine<AnyRing> {
        let config = RxConfig {
            size: HdrSize::Base,
            offloads,
            merge: true,
            mtu: Some(1500),
            link_mtu: Some(1500),
        };
        let ring = AnyRing::new(&ram, &self.ring.config()).expect("the ring is mapped");
        RxEngine::new(ring, SIZE, config, counters)
    }

    /// Takes `count` used chains, which must be all.
    pub(crate) fn collect(&mut self, count: u16) {
        let used = std::iter::from_fn(|| self.ring.poll()).count();
        assert_eq!(used, usize::from(count), "every chain is used");
    }
}

/// The backend that a device puts in front of `tap`, set up for all offloads.
pub(crate) fn backend(tap: Tap) -> Box<dyn FrameBackend> {
    backend_with(tap, HDR_LEN)
}

/// The same for a driver whose headers have `hdr_len` bytes.
pub(crate) fn backend_with(tap: Tap, hdr_len: usize) -> Box<dyn FrameBackend> {
    let backend = TapBackend::new(tap, false, GsoPolicy::of_this_kernel(GsoTrust::Assume))
        .expect("a tap can be asked");
    let mut backend: Box<dyn FrameBackend> = Box::new(backend);
    let link = LinkConfig {
        hdr_len,
        rx: offloads(),
    };
    backend.configure(&link).expect("a tap can be configured");
    backend
}

/// Offloads of both sides here.
pub(crate) fn offloads() -> Offloads {
    Offloads::CSUM | Offloads::TSO4 | Offloads::TSO6
}
