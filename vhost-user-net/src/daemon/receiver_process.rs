//! The process that receives a front-end's messages, from its start to its end.
//!
//! Its end is never waited for in a system call: one that cannot close a descriptor cannot be
//! killed either.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::protocol::receiver::{Link, Receiver, ReceiverParent};
use crate::sys::{self, Interest, Wanted};

/// Time that a receiver has to end before the next front-end is refused for its sake.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// A receiver at work. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct ReceiverProcess(Receiver);

impl ReceiverProcess {
    /// Starts the receiver of the messages that come through `socket`.
    ///
    /// # Errors
    /// As for [`ReceiverParent::receive`].
    pub(crate) fn start(parent: &ReceiverParent, socket: &UnixStream) -> io::Result<(Self, Link)> {
        let (receiver, link) = parent.receive(socket.as_fd())?;
        Ok((Self(receiver), link))
    }

    /// Has it end, whatever it does.
    pub(crate) fn end(self) -> LeavingReceiver {
        self.0.kill();
        LeavingReceiver {
            until: Instant::now() + GONE_WITHIN,
            process: self,
        }
    }
}

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// A receiver that is to end.
#[derive(Debug)]
pub(crate) struct LeavingReceiver {
    process: ReceiverProcess,
    /// Time after which it is taken for stuck.
    until: Instant,
}

impl LeavingReceiver {
    /// Event to wait for: its end.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        (self.process.0.as_fd(), Interest::Readable)
    }

    /// Milliseconds until it is taken for stuck; `None` when it is.
    pub(crate) fn patience_ms(&self) -> Option<u16> {
        (Instant::now() < self.until).then(|| sys::ms_until(self.until))
    }

    /// Number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }
}
