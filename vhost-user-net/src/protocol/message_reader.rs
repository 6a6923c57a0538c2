//! Whole messages from a front-end's socket, as they came: bytes and descriptors.
//!
//! Nothing is understood here but the header's length of the payload. Descriptors that come with a
//! message are kept with it, and those of a message that never becomes whole are closed with the
//! reader.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::protocol::wire::{Header, MAX_PAYLOAD, ParseError};
use crate::sys;

/// Longest message in bytes.
pub(crate) const MAX_MESSAGE: usize = Header::LEN + MAX_PAYLOAD;

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
    /// The process that receives the messages cannot close what came with one.
    #[error(
        "a descriptor that is of no use here cannot be closed: whoever serves its file does not answer"
    )]
    Overdue,
    /// The process that receives the messages ended, or does not keep to its protocol.
    #[error("the process that receives its messages is lost")]
    ReceiverLost,
}

impl ConnectionError {
    /// A socket's error; a front-end that vanished is the same as one that closed.
    pub(crate) fn of_socket(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Socket(error),
        }
    }
}

/// A message that is whole, and whose payload nobody has looked at.
#[derive(Debug)]
pub(crate) struct RawMessage {
    /// Its header.
    pub(crate) header: Header,
    /// Its bytes, the header's included.
    pub(crate) bytes: Vec<u8>,
    /// Descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
}

/// The message that is arriving.
#[derive(Debug)]
pub(crate) struct MessageReader {
    /// Header and payload: the first `filled` bytes are there.
    bytes: Box<[u8; MAX_MESSAGE]>,
    filled: usize,
    /// Descriptors that came with it.
    fds: Vec<OwnedFd>,
}

impl MessageReader {
    /// A reader to which nothing has come yet.
    pub(crate) fn new() -> Self {
        Self {
            bytes: Box::new([0; MAX_MESSAGE]),
            filled: 0,
            fds: Vec::new(),
        }
    }

    /// Takes what is there, without a wait, and returns a message once it is whole.
    ///
    /// # Errors
    /// Any end of the connection, the normal one included. Descriptors stay with the reader.
    pub(crate) fn read(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<RawMessage>, ConnectionError> {
        loop {
            let header = self.header()?;
            let want = Header::LEN + header.map_or(0, |header| header.size);
            if let Some(header) = header
                && self.filled == want
            {
                self.filled = 0;
                return Ok(Some(RawMessage {
                    header,
                    bytes: self.bytes[..want].to_vec(),
                    fds: std::mem::take(&mut self.fds),
                }));
            }
            let buf = &mut self.bytes[self.filled..want];
            match sys::recv_with_fds(socket, buf, &mut self.fds) {
                Ok(0) if self.filled == 0 => return Err(ConnectionError::Closed),
                Ok(0) => return Err(ConnectionError::Truncated),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(ConnectionError::of_socket(error)),
            }
        }
    }

    /// The header's bytes once they are there, whatever they say.
    pub(crate) fn header_bytes(&self) -> Option<&[u8; Header::LEN]> {
        self.bytes[..self.filled].first_chunk()
    }

    fn header(&self) -> Result<Option<Header>, ParseError> {
        self.header_bytes().map(Header::parse).transpose()
    }
}
