//! One front-end's socket: whole messages in, whole replies out, and never a wait inside.
//!
//! The socket does not block. What has arrived of a message is kept until the rest comes, and what
//! a slow front-end has not read of a reply is kept until it does; no further request is taken
//! meanwhile. So the caller's one wait covers every case, and a front-end that stalls half-way
//! holds up nothing but itself.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

pub use crate::protocol::message_reader::ConnectionError;
use crate::protocol::message_reader::{MessageReader, RawMessage};
use crate::protocol::receiver::Link;
use crate::protocol::wire::{Answer, Header, Request};
use crate::sys::{Interest, foreign};

#[cfg(test)]
mod tests;

/// A request as it came.
pub struct Message {
    /// Its header.
    pub header: Header,
    /// The request.
    pub request: Request,
}

/// The way that messages come.
#[derive(Debug)]
enum Inbound {
    /// Straight from the socket.
    Socket(MessageReader),
    /// Through a process that receives them.
    Receiver(Link),
}

/// A socket with a front-end at its other end, which is shut when this is dropped.
#[derive(Debug)]
pub struct Connection {
    // Closed before the receiver can end: then what waits in it is closed there, and not here.
    socket: UnixStream,
    inbound: Inbound,
    /// Bytes of replies that are left to send.
    outbound: Vec<u8>,
    /// Descriptor that goes with the first of them.
    attached: Option<OwnedFd>,
}

impl Connection {
    /// Takes the socket over, and makes it non-blocking. Messages are received here.
    ///
    /// # Errors
    /// The socket refuses to be non-blocking.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        Self::with(socket, Inbound::Socket(MessageReader::new()))
    }

    /// As [`Connection::new`], of a socket whose messages a process at the other end of `link`
    /// receives.
    ///
    /// # Errors
    /// As for [`Connection::new`].
    pub fn received_by(link: Link, socket: UnixStream) -> io::Result<Self> {
        Self::with(socket, Inbound::Receiver(link))
    }

    fn with(socket: UnixStream, inbound: Inbound) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            inbound,
            outbound: Vec::new(),
            attached: None,
        })
    }

    /// Returns whether one of the ends has a path, by which both are told from a pair of sockets.
    #[must_use]
    pub fn has_name(&self) -> bool {
        let ends = [self.socket.local_addr(), self.socket.peer_addr()];
        ends.iter().flatten().any(|end| !end.is_unnamed())
    }

    /// Event to wait for before [`Connection::advance`] is called.
    #[must_use]
    pub fn interest(&self) -> Interest {
        if self.outbound.is_empty() {
            Interest::Readable
        } else {
            Interest::Writable
        }
    }

    /// Does what the socket is ready for, and returns a message once it is complete.
    ///
    /// # Errors
    /// Any end of the connection, the normal one included.
    pub fn advance(&mut self) -> Result<Option<Message>, ConnectionError> {
        match self.interest() {
            Interest::Readable => self.receive(),
            Interest::Writable => self.flush().map(|()| None),
        }
    }

    /// Queues the reply to request `code`, and sends what the socket takes at once.
    ///
    /// # Errors
    /// The socket failed.
    pub fn reply(&mut self, code: u32, answer: &Answer) -> Result<(), ConnectionError> {
        answer.encode(code, &mut self.outbound);
        self.flush()
    }

    /// As [`Connection::reply`], with the descriptor `fd`. No other reply may wait, and none does
    /// when a request has come.
    ///
    /// # Errors
    /// As for [`Connection::reply`].
    pub fn reply_with_fd(
        &mut self,
        code: u32,
        answer: &Answer,
        fd: OwnedFd,
    ) -> Result<(), ConnectionError> {
        self.attached = Some(fd);
        self.reply(code, answer)
    }

    /// Returns whether replies can still be sent. A front-end that passed its own end of the socket
    /// as one that the back-end shuts has shut this end as well, and would never be seen to close
    /// it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn check(&self) -> Result<(), ConnectionError> {
        // Nothing is sent, but a socket that is shut says so.
        match foreign::send_at_once(self.socket.as_fd(), &[]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                Err(ConnectionError::of_socket(error))
            }
            _ => Ok(()),
        }
    }

    /// The latest time to call [`Connection::advance`], whether anything is ready or not.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.inbound {
            Inbound::Socket(_) => None,
            Inbound::Receiver(link) => link.deadline(),
        }
    }

    fn receive(&mut self) -> Result<Option<Message>, ConnectionError> {
        let message = match &mut self.inbound {
            Inbound::Socket(reader) => reader.read(self.socket.as_fd())?,
            Inbound::Receiver(link) => link.read()?,
        };
        let parse = |message: RawMessage| {
            let RawMessage { header, bytes, fds } = message;
            let request = Request::parse(header.code, &bytes[Header::LEN..], fds)?;
            Ok(Message { header, request })
        };
        message.map(parse).transpose()
    }

    fn flush(&mut self) -> Result<(), ConnectionError> {
        while !self.outbound.is_empty() {
            let sent = match &self.attached {
                Some(fd) => {
                    let socket = self.socket.as_fd();
                    foreign::send_at_once_with_fd(socket, &self.outbound, fd.as_fd())
                }
                None => self.socket.write(&self.outbound),
            };
            match sent {
                Ok(count) => {
                    self.attached = None;
                    self.outbound.drain(..count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ConnectionError::of_socket(error)),
            }
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A receiver that cannot end keeps the socket open.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The descriptor to wait for, as [`Connection::interest`] says.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inbound {
            Inbound::Receiver(link) if self.interest() == Interest::Readable => link.as_fd(),
            _ => self.socket.as_fd(),
        }
    }
}
