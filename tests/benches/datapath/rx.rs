//! Receive: the device against one `readv` into one buffer per frame.
//!
//! Both sides read as many frames as there are and do not look for more: the call that finds the
//! tap empty is one a batch for either, and would only hide the difference.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use net_device::Layout;
use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{Engine, FrameBackend, QueueCounters, RxEngine, Stop};
use net_device::rate_limiter::Limiter;
use net_device::tap::Tap;
use net_queue::header::HDR_LEN;
use net_queue::testing::LAYOUTS;

use crate::driver::{self, BATCHES, DriverRing, SIZE};
use crate::frames::Kind;
use crate::host;
use crate::host::PacketSocket;
use crate::paired::{self, Paired, timed};
use crate::report::{Case, Cost, Report};

/// Frames of 64 KB whose buffers of 1536 bytes fit the ring.
const MERGED_BATCHES: [u16; 2] = [1, 5];

struct Rx {
    driver: DriverRing,
    engine: RxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    backend: Box<dyn FrameBackend>,
    bare: Tap,
    /// Buffers of whole frames for the bare side, where the driver's are too short.
    whole: Option<DriverRing>,
    sender: PacketSocket,
    frame: Vec<u8>,
    /// Chains that a frame takes.
    chains: u16,
    batch: u16,
}

impl Rx {
    fn new(kind: Kind, layout: Layout, batch: u16) -> Self {
        let mut driver = DriverRing::new(layout, kind.room(), true);
        let tap = host::open_taps(1).remove(0);
        let bare = tap.try_clone().expect("a descriptor can be duplicated");
        let sender = PacketSocket::open(&tap, 0).expect("a packet socket can be opened");
        let counters = Arc::<QueueCounters>::default();
        let engine = driver.receiver(counters.clone());
        driver.post(SIZE);
        let chains = (kind.len() + HDR_LEN).div_ceil(kind.room()) as u16;
        Self {
            driver,
            engine,
            counters,
            backend: driver::backend(tap),
            bare,
            whole: (chains > 1).then(|| DriverRing::new(layout, Kind::Gso.room(), true)),
            sender,
            frame: kind.bytes(),
            chains,
            batch,
        }
    }

    fn send_batch(&self) {
        for _ in 0..self.batch {
            self.sender.send(&self.frame);
        }
    }

    /// Work of a worker when the tap became readable.
    fn step(&mut self) {
        let mut limit = Limiter::Unlimited;
        let end = self.counters.frames() + u64::from(self.batch);
        loop {
            let left = end - self.counters.frames();
            if left == 0 {
                break;
            }
            self.engine.disable_notification();
            let budget = driver::budget(left as u32);
            let done = self
                .engine
                .run(&mut *self.backend, &mut limit, None, 0, budget);
            assert!(
                matches!(done.stop, Stop::Budget),
                "the engine stopped: {:?}",
                done.stop
            );
        }
    }

    /// The driver takes what was received and posts the buffers again.
    fn recycle(&mut self) {
        self.driver.collect(self.batch * self.chains);
        self.driver.post(self.batch * self.chains);
    }

    fn cost(&mut self) -> Cost {
        self.send_batch();
        let cost = Cost::of(u32::from(self.batch), || self.step());
        self.recycle();
        cost
    }
}

impl Paired for Rx {
    fn device(&mut self) -> u64 {
        self.send_batch();
        let time = timed(|| self.step());
        self.recycle();
        time
    }

    fn bare(&mut self) -> u64 {
        self.send_batch();
        let fd = self.bare.as_fd().as_raw_fd();
        let driver = self.whole.as_mut().unwrap_or(&mut self.driver);
        let len = self.frame.len() as isize;
        let buffers: Vec<_> = driver.bare(self.batch).collect();
        timed(|| {
            for buffer in buffers {
                assert_eq!(
                    host::readv(fd, std::slice::from_ref(buffer)),
                    len,
                    "the frame is there"
                );
            }
        })
    }
}

/// Every kind of frame, layout and batch.
pub(crate) fn run(report: &mut Report) {
    for kind in Kind::ALL.into_iter().chain([Kind::GsoMerged]) {
        let batches = match kind {
            Kind::GsoMerged => &MERGED_BATCHES[..],
            _ => &BATCHES,
        };
        for layout in LAYOUTS {
            for &batch in batches {
                let mut rx = Rx::new(kind, layout, batch);
                let score = paired::hold(&mut rx, batch, kind.rounds());
                let case = Case {
                    dir: "RX",
                    kind,
                    layout,
                    batch,
                };
                report.add(case, score, rx.cost());
            }
        }
    }
}
