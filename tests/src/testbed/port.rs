//! A port whose other end the test holds.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError,
};
use net_device::{Port, PortControl};
use net_queue::testing::{ScriptedBackend, Wire};

use crate::testbed::Doorbell;

#[derive(Debug, Default)]
struct Shared {
    bell: Doorbell,
    panic: AtomicBool,
    panic_at_change: AtomicBool,
    endless: AtomicBool,
    full: AtomicBool,
    refuse: AtomicBool,
    greeting: AtomicBool,
    receives: AtomicU64,
    attached: Mutex<Vec<bool>>,
    offloads: Mutex<Vec<Offloads>>,
}

/// The network behind one port.
#[derive(Debug)]
pub struct Network {
    /// The frames' other end.
    pub wire: Wire,
    shared: Arc<Shared>,
}

/// Packets in tunnels, for which a header is longer.
const TUNNELS: Offloads = Offloads::UDP_TUNNEL.union(Offloads::UDP_TUNNEL_CSUM);

/// Capabilities of a port that can do all that needs no longer header.
#[must_use]
pub fn all_caps() -> Caps {
    Caps {
        tx: Offloads::all() - TUNNELS,
        rx: Offloads::all() - TUNNELS,
        // Tests look at each frame.
        coalesce: Offloads::empty(),
        mtu: None,
        multi_queue: true,
    }
}

/// A port that can do `caps`, and the network behind it.
#[must_use]
pub fn port(caps: Caps) -> (Port, Network) {
    let (inner, wire) = Wire::new();
    wire.set_caps(caps);
    let shared = Arc::<Shared>::default();
    let backend = Observed {
        inner,
        shared: shared.clone(),
    };
    let control = Steered(shared.clone(), wire.clone());
    let port = Port::new(Box::new(backend), Box::new(control));
    (port, Network { wire, shared })
}

impl Network {
    /// Waits until `count` frames were sent, and takes all there are: each with its header, in
    /// order.
    #[must_use]
    pub fn wait_sent(&self, count: usize) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let what = format!("{count} frames to be sent");
        self.shared.bell.wait_until(&what, || {
            sent.extend(self.wire.take_sent());
            sent.len() >= count
        });
        sent
    }

    /// Waits until nothing is left to be received.
    pub fn wait_drained(&self) {
        self.wait_until("all frames to be received", || self.wire.waiting() == 0);
    }

    /// Returns when `done` does true, which is asked now and each time the device uses the port.
    pub fn wait_until(&self, what: &str, done: impl FnMut() -> bool) {
        self.shared.bell.wait_until(what, done);
    }

    /// Number of times that the device asked for a frame.
    #[must_use]
    pub fn receives(&self) -> u64 {
        self.shared.receives.load(Ordering::Acquire)
    }

    /// The next use of the port panics.
    pub fn panic_next(&self) {
        self.shared.panic.store(true, Ordering::Release);
    }

    /// The next change of the link panics.
    pub fn panic_at_change(&self) {
        self.shared.panic_at_change.store(true, Ordering::Release);
    }

    /// Lets the frame at the head of the line come again and again.
    pub fn set_endless(&self, on: bool) {
        self.shared.endless.store(on, Ordering::Release);
    }

    /// Lets the port have no room for frames.
    pub fn set_full(&self, on: bool) {
        self.shared.full.store(on, Ordering::Release);
    }

    /// Has a frame there the moment that the link lets frames in.
    pub fn set_greeting(&self, on: bool) {
        self.shared.greeting.store(on, Ordering::Release);
    }

    /// Makes the link refuse to be changed.
    pub fn set_refusing(&self, on: bool) {
        self.shared.refuse.store(on, Ordering::Release);
    }

    /// Calls to attach and detach the link, in order.
    #[must_use]
    pub fn attachments(&self) -> Vec<bool> {
        let attached = self.shared.attached.lock();
        attached.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the link lets frames in.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attachments().last() == Some(&true)
    }

    /// The sets of offloads that the link was switched to, in order.
    #[must_use]
    pub fn offloads(&self) -> Vec<Offloads> {
        let offloads = self.shared.offloads.lock();
        offloads.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Observed {
    inner: ScriptedBackend,
    shared: Arc<Shared>,
}

impl Observed {
    fn used(&self) {
        assert!(
            !self.shared.panic.swap(false, Ordering::AcqRel),
            "as the test asked for"
        );
    }
}

impl FrameBackend for Observed {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.inner.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.used();
        if self.shared.full.load(Ordering::Acquire) {
            return Err(SendError::WouldBlock);
        }
        let result = self.inner.send(frame);
        self.shared.bell.ring();
        result
    }

    fn is_mid_frame(&self) -> bool {
        self.inner.is_mid_frame()
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.used();
        if self.shared.endless.load(Ordering::Acquire) {
            let len = room.write_at(0, &crate::testbed::frame(64, 0))?;
            self.shared.receives.fetch_add(1, Ordering::AcqRel);
            return Ok(len);
        }
        let result = self.inner.recv(room);
        self.shared.receives.fetch_add(1, Ordering::AcqRel);
        self.shared.bell.ring();
        result
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.inner.poll_fd()
    }

    fn check(&self) -> io::Result<()> {
        self.inner.check()
    }
}

struct Steered(Arc<Shared>, Wire);

impl Steered {
    fn record<T>(&self, list: &Mutex<Vec<T>>, value: T) -> io::Result<()> {
        assert!(
            !self.0.panic_at_change.swap(false, Ordering::AcqRel),
            "as the test asked for"
        );
        if self.0.refuse.load(Ordering::Acquire) {
            return Err(io::Error::other("as the test asked for"));
        }
        list.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(value);
        Ok(())
    }
}

impl PortControl for Steered {
    fn attach(&self, on: bool) -> io::Result<()> {
        self.record(&self.0.attached, on)?;
        if on && self.0.greeting.load(Ordering::Acquire) {
            self.1.inject(crate::testbed::frame(60, 0));
            // A worker that looks too early shall have its chance to.
            for _ in 0..100 {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    fn set_offloads(&self, rx: Offloads) -> io::Result<()> {
        self.record(&self.0.offloads, rx)
    }
}
