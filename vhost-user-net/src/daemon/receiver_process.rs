//! The process that receives a front-end's messages, from its start to its end.
//!
//! It is this program, started again. Its end is never waited for in a system call: one that cannot
//! close a descriptor cannot be killed either.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use log::debug;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::protocol::receiver::{ARGUMENT, Link};
use crate::sys::{self, Interest, Wanted};

/// Time that a receiver has to end before the next front-end is refused for its sake.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// A receiver at work.
#[derive(Debug)]
pub(crate) struct ReceiverProcess {
    child: Child,
    /// Readable once it has ended.
    ended: OwnedFd,
}

impl ReceiverProcess {
    /// Starts the receiver of the messages that come through `socket`.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn start(socket: &UnixStream) -> io::Result<(Self, Link)> {
        let (link, theirs) = Link::new()?;
        let socket = OwnedFd::from(socket.try_clone()?);
        if let Err(error) = sys::inherit_standard_only() {
            debug!("receivers may inherit descriptors: {error}");
        }
        // No signal of a terminal reaches it, and nobody waits for it to close the daemon's log.
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(socket)
            .stdout(theirs)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(ended) => Ok((Self { child, ended }, link)),
            Err(error) => {
                // It has not been asked for a message, so nothing keeps it from ending.
                let _ = child.kill().and_then(|()| child.wait());
                Err(error.into())
            }
        }
    }

    /// Has it end, whatever it does.
    pub(crate) fn end(mut self) -> LeavingReceiver {
        let _ = self.child.kill();
        LeavingReceiver {
            until: Instant::now() + GONE_WITHIN,
            process: self,
        }
    }
}

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        // One that has ended is not reaped before this, so the number is its own.
        let _ = self.child.kill();
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
    /// Event to wait for before [`LeavingReceiver::has_ended`] is called.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        (self.process.ended.as_fd(), Interest::Readable)
    }

    /// Returns whether it has ended, without a wait.
    pub(crate) fn has_ended(&mut self) -> bool {
        // An error says that somebody else has found out already.
        !matches!(self.process.child.try_wait(), Ok(None))
    }

    /// Milliseconds until it is taken for stuck; `None` when it is.
    pub(crate) fn patience_ms(&self) -> Option<u16> {
        (Instant::now() < self.until).then(|| sys::ms_until(self.until))
    }

    /// Number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }
}
