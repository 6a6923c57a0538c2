//! Ports of queue pairs: a frame backend, and the handle its link is steered by.

use std::io;
use std::os::fd::BorrowedFd;

use net_queue::{FrameBackend, Offloads};

use crate::config::MacAddr;

mod gso;
pub(crate) mod link;
mod socket;
mod tap;

pub use gso::GsoPolicy;
pub use link::Link;
pub use socket::{DatagramBackend, StreamBackend, datagram_port, stream_port};
pub use tap::{TapBackend, tap_port};

/// Steers a backend's link from another thread than the one that moves its frames.
pub trait PortControl: Send {
    /// Lets frames for this queue in, or keeps them out (NET-MQ-02). To be told twice changes
    /// nothing.
    ///
    /// # Errors
    /// The link refuses.
    fn attach(&self, on: bool) -> io::Result<()>;

    /// Changes the work that received frames may carry undone; of the whole link, whichever port is
    /// told.
    ///
    /// # Errors
    /// The link refuses; the set is what it was.
    fn set_offloads(&self, rx: Offloads) -> io::Result<()>;

    /// Lets an eBPF program choose the queue of each received frame, or none; for the whole link,
    /// whichever port is told. Of several attached ports the program says the number, in the order
    /// in which they were attached, where one that is detached leaves its place to the last one.
    ///
    /// # Errors
    /// The link refuses, or has no such choice.
    fn set_steering(&self, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let _ = program;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Lets an eBPF program drop received frames before any port has them, or none; for the whole
    /// link, whichever port is told. It returns how many bytes of a frame are kept.
    ///
    /// # Errors
    /// The link refuses, or has no such filter.
    fn set_filter(&self, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let _ = program;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// One queue pair's connection to the network.
pub struct Port {
    pub(crate) backend: Box<dyn FrameBackend>,
    pub(crate) control: Box<dyn PortControl>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("caps", &self.backend.caps())
            .finish_non_exhaustive()
    }
}

impl Port {
    /// A port that moves frames by `backend` and is steered by `control`.
    #[must_use]
    pub fn new(backend: Box<dyn FrameBackend>, control: Box<dyn PortControl>) -> Self {
        Self { backend, control }
    }

    /// The same port with a decorator around its backend.
    #[must_use]
    pub fn map(
        self,
        decorate: impl FnOnce(Box<dyn FrameBackend>) -> Box<dyn FrameBackend>,
    ) -> Self {
        Self {
            backend: decorate(self.backend),
            control: self.control,
        }
    }
}

/// The host's end of a device's link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// Name of the interface.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddr,
}
