//! Packets between a receiver and the daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::protocol::message_reader::{ConnectionError, MAX_MESSAGE, RawMessage};
use crate::protocol::wire::Header;
use crate::sys;

/// First bytes of packets from the receiver.
const MESSAGE: u8 = 0;
const READY: u8 = 1;
const END: u8 = 2;

/// Second bytes of an [`END`]; an error number follows the last one.
const CLOSED: u8 = 0;
const TRUNCATED: u8 = 1;
const TOO_MANY_DESCRIPTORS: u8 = 2;
const WITHHELD: u8 = 3;
const SYSTEM: u8 = 4;

/// Packets that a receiver sends.
pub(super) enum Packet {
    /// A message, with descriptors that ask nobody.
    Message(RawMessage),
    /// All that came with the last message is closed.
    Ready,
    /// No further message will come.
    End(ConnectionError),
    /// The receiver is gone, or sent what is none of these.
    Lost,
}

/// Sends the bytes of a message, and `fds` with it.
pub(super) fn send_message(
    channel: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    sys::send_with_fds(channel, &[&[MESSAGE], bytes], fds)
}

/// Says that all that came with the last message is closed.
pub(super) fn send_ready(channel: BorrowedFd<'_>) -> io::Result<()> {
    sys::send_with_fds(channel, &[&[READY]], &[])
}

/// Says why no further message comes; `header` is the last one that came.
pub(super) fn send_end(
    channel: BorrowedFd<'_>,
    end: &ConnectionError,
    header: Option<&[u8; Header::LEN]>,
) -> io::Result<()> {
    let (reason, number) = match end {
        ConnectionError::Truncated => (TRUNCATED, 0),
        ConnectionError::Socket(error) => match (error.raw_os_error(), error.kind()) {
            (Some(number), _) => (SYSTEM, number),
            (None, io::ErrorKind::PermissionDenied) => (WITHHELD, 0),
            (None, _) => (TOO_MANY_DESCRIPTORS, 0),
        },
        // A malformed header says by itself what is wrong with it.
        ConnectionError::Malformed(_) => {
            return send_message(channel, header.map_or(&[], |bytes| bytes), &[]);
        }
        _ => (CLOSED, 0),
    };
    sys::send_with_fds(channel, &[&[END, reason], &number.to_ne_bytes()], &[])
}

/// Takes the next packet of a receiver, if there is one.
///
/// # Errors
/// This process may have no more descriptors, or what the kernel says.
pub(super) fn receive(channel: &OwnedFd) -> io::Result<Option<Packet>> {
    let mut bytes = [0; 1 + MAX_MESSAGE];
    let mut fds = Vec::new();
    match sys::recv_with_fds(channel.as_fd(), &mut bytes, &mut fds) {
        Ok(len) => Ok(Some(parse(&bytes[..len], fds))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // The receiver ended while it had not read everything.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Some(Packet::Lost)),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8], fds: Vec<OwnedFd>) -> Packet {
    match bytes {
        [MESSAGE, message @ ..] => {
            let Some(header) = message.first_chunk() else {
                return Packet::Lost;
            };
            match Header::parse(header) {
                Err(error) => Packet::End(error.into()),
                Ok(header) if message.len() == Header::LEN + header.size => {
                    let bytes = message.to_vec();
                    Packet::Message(RawMessage { header, bytes, fds })
                }
                Ok(_) => Packet::Lost,
            }
        }
        [READY] => Packet::Ready,
        [END, reason, number @ ..] => end(*reason, number).map_or(Packet::Lost, Packet::End),
        _ => Packet::Lost,
    }
}

fn end(reason: u8, number: &[u8]) -> Option<ConnectionError> {
    let number = i32::from_ne_bytes(*number.first_chunk()?);
    Some(match reason {
        CLOSED => ConnectionError::Closed,
        TRUNCATED => ConnectionError::Truncated,
        TOO_MANY_DESCRIPTORS => ConnectionError::Socket(sys::too_many_fds()),
        WITHHELD => ConnectionError::Socket(sys::withheld_fds()),
        SYSTEM => ConnectionError::Socket(io::Error::from_raw_os_error(number)),
        _ => return None,
    })
}
