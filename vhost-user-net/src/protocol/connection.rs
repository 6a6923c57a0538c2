//! One front-end's socket: whole messages in, whole replies out, and never a wait inside.
//!
//! The socket does not block. What has arrived of a message is kept until the rest comes, and what
//! a slow front-end has not read of a reply is kept until it does; no further request is taken
//! meanwhile. So the caller's one wait covers every case, and a front-end that stalls half-way
//! holds up nothing but itself.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::protocol::wire::{Answer, Header, MAX_PAYLOAD, ParseError, Request};
use crate::sys::{self, Interest, foreign};

#[cfg(test)]
mod tests;

/// Reasons why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The front-end closed it between two messages: the normal end.
    #[error("the front-end closed the connection")]
    Closed,
    /// The front-end closed it within a message.
    #[error("the connection ended within a message")]
    Truncated,
    /// A malformed message.
    #[error("malformed message")]
    Malformed(#[from] ParseError),
    /// The socket failed.
    #[error("the socket failed")]
    Socket(#[source] io::Error),
}

/// A request as it came.
pub struct Message {
    /// Its header.
    pub header: Header,
    /// The request.
    pub request: Request,
}

/// A socket with a front-end at its other end.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    /// Header and payload of the message that is arriving: the first `filled` bytes are there.
    inbound: Box<[u8; Header::LEN + MAX_PAYLOAD]>,
    filled: usize,
    /// Descriptors that came with it.
    fds: Vec<OwnedFd>,
    /// Bytes of replies that are left to send.
    outbound: Vec<u8>,
}

impl Connection {
    /// Takes the socket over, and makes it non-blocking.
    ///
    /// # Errors
    /// The socket refuses to be non-blocking.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            inbound: Box::new([0; Header::LEN + MAX_PAYLOAD]),
            filled: 0,
            fds: Vec::new(),
            outbound: Vec::new(),
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

    /// Returns whether replies can still be sent. A front-end that passed its own end of the socket
    /// as one that the back-end shuts has shut this end as well, and would never be seen to close
    /// it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn check(&self) -> Result<(), ConnectionError> {
        // Nothing is sent, but a socket that is shut says so.
        match foreign::send_at_once(self.socket.as_fd(), &[]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(Self::failed(error)),
            _ => Ok(()),
        }
    }

    /// The header once it is there.
    fn header(&self) -> Result<Option<Header>, ParseError> {
        match self.inbound[..self.filled].first_chunk() {
            Some(bytes) => Header::parse(bytes).map(Some),
            None => Ok(None),
        }
    }

    fn receive(&mut self) -> Result<Option<Message>, ConnectionError> {
        loop {
            let header = self.header()?;
            let want = Header::LEN + header.map_or(0, |header| header.size);
            if let Some(header) = header
                && self.filled == want
            {
                self.filled = 0;
                let fds = std::mem::take(&mut self.fds);
                let request = Request::parse(header.code, &self.inbound[Header::LEN..want], fds)?;
                return Ok(Some(Message { header, request }));
            }
            let buf = &mut self.inbound[self.filled..want];
            match sys::recv_with_fds(self.socket.as_fd(), buf, &mut self.fds) {
                Ok(0) if self.filled == 0 => return Err(ConnectionError::Closed),
                Ok(0) => return Err(ConnectionError::Truncated),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Self::failed(error)),
            }
        }
    }

    fn flush(&mut self) -> Result<(), ConnectionError> {
        while !self.outbound.is_empty() {
            match self.socket.write(&self.outbound) {
                Ok(count) => drop(self.outbound.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Self::failed(error)),
            }
        }
        Ok(())
    }

    /// A front-end that vanished is the same as one that closed.
    fn failed(error: io::Error) -> ConnectionError {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ConnectionError::Closed,
            _ => ConnectionError::Socket(error),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
