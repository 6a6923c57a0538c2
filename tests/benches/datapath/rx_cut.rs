//! Receive: a large frame that the driver did not ask for, cut by the device, against its segments,
//! cut by the kernel, by one `readv` each.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{FrameBackend, Offloads, QueueCounters, RxEngine, Stop};
use net_device::rate_limiter::Limiter;
use net_device::tap::Tap;
use net_queue::header::HDR_LEN;
use net_queue::testing::LAYOUTS;

use crate::driver::{self, DriverRing, SIZE};
use crate::frames::{Kind, SEGMENT};
use crate::host::{self, PacketSocket};
use crate::paired::{self, Paired, timed};
use crate::report::{Case, Cost, Report};

/// Segments of a large frame, each of which takes one of the driver's buffers.
const SEGMENTS: u16 = (Kind::GsoCut.len() - 54).div_ceil(SEGMENT - 54) as u16;

struct RxCut {
    driver: DriverRing,
    engine: RxEngine<AnyRing>,
    counters: Arc<QueueCounters>,
    backend: Box<dyn FrameBackend>,
    bare: Tap,
    sender: PacketSocket,
    large: Vec<u8>,
    segment: Vec<u8>,
}

impl RxCut {
    /// A driver that takes `offloads`.
    fn new(layout: net_device::Layout, offloads: Offloads) -> Self {
        let mut driver = DriverRing::new(layout, Kind::GsoCut.room(), true);
        let tap = host::open_taps(1).remove(0);
        let bare = tap.try_clone().expect("a descriptor can be duplicated");
        let sender = PacketSocket::open(&tap, 0).expect("a packet socket can be opened");
        let counters = Arc::<QueueCounters>::default();
        let engine = driver.receiver_with(driver.memory.ram(), offloads, counters.clone());
        driver.post(SIZE);
        Self {
            driver,
            engine,
            counters,
            backend: driver::backend(tap),
            bare,
            sender,
            large: Kind::GsoCut.bytes(),
            segment: Kind::Plain(SEGMENT).bytes(),
        }
    }

    /// Work of a worker on one large frame.
    fn step(&mut self) {
        let mut limit = Limiter::Unlimited;
        let end = self.counters.frames() + u64::from(SEGMENTS);
        while self.counters.frames() < end {
            let left = (end - self.counters.frames()) as u32;
            let budget = driver::budget(left);
            let done = self
                .engine
                .run(&mut *self.backend, &mut limit, None, 0, budget);
            assert!(matches!(done.stop, Stop::Budget), "{:?}", done.stop);
        }
    }

    fn recycle(&mut self) {
        self.driver.collect(SEGMENTS);
        self.driver.post(SEGMENTS);
    }

    fn cost(&mut self) -> Cost {
        self.sender.send(&self.large);
        let cost = Cost::of(1, || self.step());
        self.recycle();
        cost
    }
}

impl Paired for RxCut {
    fn device(&mut self) -> u64 {
        self.sender.send(&self.large);
        let time = timed(|| self.step());
        self.recycle();
        time
    }

    fn bare(&mut self) -> u64 {
        for _ in 0..SEGMENTS {
            self.sender.send(&self.segment);
        }
        let fd = self.bare.as_fd().as_raw_fd();
        let buffers: Vec<_> = self.driver.bare(SEGMENTS).collect();
        timed(|| {
            for buffer in buffers {
                let len = host::readv(fd, std::slice::from_ref(buffer));
                assert_eq!(len, (HDR_LEN + SEGMENT) as isize, "the frame is there");
            }
        })
    }
}

/// Each layout, for drivers that take partial checksums and for those that do not.
pub(crate) fn run(report: &mut Report) {
    for (kind, offloads) in [
        (Kind::GsoCut, Offloads::CSUM),
        (Kind::GsoCutWhole, Offloads::empty()),
    ] {
        for layout in LAYOUTS {
            let mut rx = RxCut::new(layout, offloads);
            let case = Case {
                dir: "RX",
                kind,
                layout,
                batch: SEGMENTS,
            };
            let score = paired::hold(&mut rx, 1, kind.rounds());
            report.add(case, score, rx.cost());
        }
    }
}
