//! Time that stands still: what an input does comes out the same whenever it is run.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use net_device::{Clock, Timer};

/// A clock on which no time passes.
#[derive(Clone, Copy, Debug)]
pub struct StillClock;

impl Clock for StillClock {
    fn now_ns(&self) -> u64 {
        0
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(StillTimer(File::open("/dev/null")?)))
    }
}

/// A timer that nothing reads: an event at it is the input's.
#[derive(Debug)]
struct StillTimer(File);

impl Timer for StillTimer {
    fn set(&mut self, _: u64) {}

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
