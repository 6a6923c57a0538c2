//! The guest's one interrupt line.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use net_device::{Interrupt, InterruptSource};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const QUEUE: u32 = 1 << 0;
const CONFIG: u32 = 1 << 1;

/// An interrupt that a guest thread can sleep on: pending causes and an event.
///
/// The event is written only when the first cause becomes pending, so a busy guest that has not
/// looked yet costs the device no further system call.
pub struct GuestInterrupt {
    pending: AtomicU32,
    event: EventFd,
    epoll: Epoll,
}

/// Causes that were pending when the guest looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Causes(u32);

impl Causes {
    /// A queue has used buffers.
    pub fn queue(self) -> bool {
        self.0 & QUEUE != 0
    }

    /// The configuration or the device status changed.
    pub fn config(self) -> bool {
        self.0 & CONFIG != 0
    }

    /// The causes as the bits of the ISR status register (VirtIO 1.4 §4.1.4.5).
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl GuestInterrupt {
    /// A line with nothing pending.
    ///
    /// # Errors
    /// When the host gives no more descriptors.
    pub fn new() -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        let event = EventFd::new(EFD_NONBLOCK)?;
        let epoll = Epoll::new()?;
        let interest = EpollEvent::new(EventSet::IN, 0);
        epoll.ctl(ControlOperation::Add, event.as_raw_fd(), interest)?;
        Ok(Self {
            pending: AtomicU32::new(0),
            event,
            epoll,
        })
    }

    /// Takes the pending causes. Look at the rings after this, never before.
    pub fn acknowledge(&self) -> Causes {
        // The event may still be set; it then ends the next wait early, once. Emptying it here
        // could swallow the event of a cause that became pending in between.
        Causes(self.pending.swap(0, Ordering::SeqCst))
    }

    /// Sleeps until an interrupt or the end of `at_most`, rounded up to a millisecond.
    /// Returns whether an interrupt came.
    ///
    /// # Errors
    /// Errors of the host; an interrupted call is not one.
    pub fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let millis = at_most.as_micros().div_ceil(1000);
        let millis = i32::try_from(millis).unwrap_or(i32::MAX);
        match self.epoll.wait(millis, &mut [EpollEvent::default()]) {
            Ok(0) => Ok(false),
            Ok(_) => {
                let _ = self.event.read();
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Interrupt for GuestInterrupt {
    fn trigger(&self, source: InterruptSource) -> io::Result<()> {
        let cause = match source {
            InterruptSource::Queue(_) => QUEUE,
            InterruptSource::Config => CONFIG,
        };
        if self.pending.fetch_or(cause, Ordering::SeqCst) == 0 {
            self.event.write(1)?;
        }
        Ok(())
    }
}
