//! Transmit: the device against one `writev` of one buffer per frame.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use net_device::Layout;
use net_device::net_queue::header::TxRules;
use net_device::net_queue::ring::AnyRing;
use net_device::net_queue::{Engine, FrameBackend, Stop, TxConfig, TxEngine};
use net_device::rate_limiter::Limiter;
use net_device::tap::Tap;
use net_queue::testing::LAYOUTS;

use crate::driver::{self, BATCHES, DriverRing, WORKER_BUDGET};
use crate::frames::Kind;
use crate::host;
use crate::paired::{self, Paired, timed};
use crate::report::{Case, Cost, Report};

struct Tx {
    driver: DriverRing,
    engine: TxEngine<AnyRing>,
    backend: Box<dyn FrameBackend>,
    bare: Tap,
    batch: u16,
}

impl Tx {
    fn new(kind: Kind, layout: Layout, batch: u16) -> Self {
        let bytes = kind.bytes();
        let driver = DriverRing::new(layout, bytes.len(), false);
        for piece in &driver.pieces {
            driver.memory.write(piece.addr, &bytes);
        }
        let tap = host::open_taps(1).remove(0);
        let bare = tap.try_clone().expect("a descriptor can be duplicated");
        let rules = TxRules::new(driver::offloads());
        Self {
            engine: TxEngine::new(driver.ring.device(), TxConfig::new(rules), Arc::default()),
            driver,
            backend: driver::backend(tap),
            bare,
            batch,
        }
    }

    /// Work of a worker from a kick until it waits again.
    fn step(&mut self) {
        let mut limit = Limiter::Unlimited;
        loop {
            self.engine.disable_notification();
            let done = self.engine.run(
                &mut *self.backend,
                &mut limit,
                0,
                driver::budget(WORKER_BUDGET),
            );
            match done.stop {
                Stop::Budget => {}
                Stop::Driver if self.engine.enable_notification() => {}
                Stop::Driver => break,
                stop => panic!("the engine stopped: {stop:?}"),
            }
        }
    }

    fn cost(&mut self) -> Cost {
        self.driver.post(self.batch);
        let cost = Cost::of(u32::from(self.batch), || self.step());
        self.driver.collect(self.batch);
        cost
    }
}

impl Paired for Tx {
    fn device(&mut self) -> u64 {
        self.driver.post(self.batch);
        let time = timed(|| self.step());
        self.driver.collect(self.batch);
        time
    }

    fn bare(&mut self) -> u64 {
        let fd = self.bare.as_fd().as_raw_fd();
        let buffers: Vec<_> = self.driver.bare(self.batch).collect();
        timed(|| {
            for buffer in buffers {
                let sent = host::writev(fd, std::slice::from_ref(buffer));
                assert_eq!(sent, buffer.iov_len as isize, "the kernel takes the frame");
            }
        })
    }
}

/// Every kind of frame, layout and batch.
pub(crate) fn run(report: &mut Report) {
    for kind in Kind::ALL {
        for layout in LAYOUTS {
            for batch in BATCHES {
                let mut tx = Tx::new(kind, layout, batch);
                let score = paired::hold(&mut tx, batch, kind.rounds());
                let case = Case {
                    dir: "TX",
                    kind,
                    layout,
                    batch,
                };
                report.add(case, score, tx.cost());
            }
        }
    }
}
