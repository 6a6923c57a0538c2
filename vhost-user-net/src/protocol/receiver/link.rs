//! The daemon's end of the way from a receiver.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::READY_WITHIN;
use super::packet::{self, Packet};
use crate::protocol::message_reader::{ConnectionError, RawMessage};
use crate::sys::foreign;

/// Messages that a receiver passes on, one at a time.
#[derive(Debug)]
pub struct Link {
    channel: OwnedFd,
    /// A message that came, and when the receiver has to be ready for the next one.
    arrived: Option<(RawMessage, Instant)>,
}

impl Link {
    /// A link, and the descriptor that its receiver has to have as standard output.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (channel, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let link = Self {
            channel,
            arrived: None,
        };
        // The receiver finds it once it is there.
        link.go()?;
        Ok((link, theirs))
    }

    fn go(&self) -> io::Result<()> {
        foreign::send_at_once(self.channel.as_fd(), &[0]).map(|_| ())
    }

    /// Time that is left for the receiver to be ready, where it has to be.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.arrived.as_ref().map(|(_, deadline)| *deadline)
    }

    /// Takes what is there, and returns a message that the receiver has nothing left of.
    ///
    /// # Errors
    /// Any end of the connection, the normal one included.
    pub(crate) fn read(&mut self) -> Result<Option<RawMessage>, ConnectionError> {
        loop {
            let packet = packet::receive(&self.channel).map_err(ConnectionError::Socket)?;
            match (packet, self.arrived.take()) {
                (None, Some((_, deadline))) if deadline <= Instant::now() => {
                    return Err(ConnectionError::Overdue);
                }
                (None, arrived) => {
                    self.arrived = arrived;
                    return Ok(None);
                }
                (Some(Packet::Message(message)), None) => {
                    self.arrived = Some((message, Instant::now() + READY_WITHIN));
                }
                (Some(Packet::Ready), Some((message, _))) => {
                    // One that is gone by now is found to be so by the next call.
                    let _ = self.go();
                    return Ok(Some(message));
                }
                (Some(Packet::End(end)), None) => return Err(end),
                (Some(_), _) => return Err(ConnectionError::ReceiverLost),
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
