//! Unix sockets as ports: frames to and from a program, without any privilege.
//!
//! | kind | a frame is | who speaks it |
//! |---|---|---|
//! | [`StreamBackend`] | its length in four bytes, big-endian, and its bytes | passt, QEMU's `-netdev stream` |
//! | [`DatagramBackend`] | a datagram | gvproxy and vfkit, QEMU's `-netdev dgram` |
//!
//! Neither has a place for a virtio-net header. So nothing may be left undone in a frame: checksums
//! are completed and large frames cut before they come here.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use net_queue::{Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Port, PortControl};

mod stream;
#[cfg(test)]
mod tests;

pub use stream::StreamBackend;

/// Longest frame in bytes: more than any IP packet behind an Ethernet header with tags.
const MAX_FRAME: usize = 65535 + 14 + 12;

/// A virtio-net header that says nothing, as long as any.
const PLAIN: [u8; 64] = [0; 64];

/// Makes a port of a connected stream socket.
///
/// # Errors
/// The socket refuses not to block.
pub fn stream_port(socket: UnixStream) -> io::Result<Port> {
    let backend = StreamBackend::new(socket)?;
    Ok(Port::new(Box::new(backend), Box::new(NoSwitch)))
}

/// Makes a port of a connected datagram socket.
///
/// # Errors
/// The socket refuses not to block.
pub fn datagram_port(socket: UnixDatagram) -> io::Result<Port> {
    let backend = DatagramBackend::new(socket)?;
    Ok(Port::new(Box::new(backend), Box::new(NoSwitch)))
}

/// There is one queue, and its frames are always whole.
struct NoSwitch;

impl PortControl for NoSwitch {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

/// Sends without a wait and without a signal.
fn send_now(socket: impl AsFd, bytes: &[u8]) -> Result<usize, SendError> {
    loop {
        match send(&socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            // The kernel is short of memory; the peer's reads make the socket writable.
            Err(Errno::AGAIN | Errno::NOBUFS) => return Err(SendError::WouldBlock),
            Err(Errno::MSGSIZE) => return Err(SendError::Refused),
            Err(error) => return Err(SendError::Dead(error.into())),
            Ok(count) => return Ok(count),
        }
    }
}

/// Receives without a wait; the number of bytes that there were.
fn recv_now(socket: impl AsFd, bytes: &mut [u8], flags: RecvFlags) -> Result<usize, RecvError> {
    loop {
        match recv(&socket, &mut *bytes, flags | RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
            Ok((_, count)) => return Ok(count),
        }
    }
}

/// Checks that the peer is there.
fn check(socket: impl AsFd) -> io::Result<()> {
    match recv_now(socket, &mut [0], RecvFlags::PEEK) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(RecvError::Dead(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Hands a frame to the driver, behind a header that says nothing of it.
fn deliver(frame: &[u8], header: usize, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
    let header = room.write_at(0, &PLAIN[..header.min(PLAIN.len())])?;
    Ok(header + room.write_at(header, frame)?)
}

/// Copies the frame without its header to the begin of `bytes`, and returns its length.
fn take_frame(frame: &Gather<'_>, bytes: &mut [u8]) -> Result<usize, SendError> {
    let len = frame.len().saturating_sub(frame.header_len());
    let place = bytes.get_mut(..len).ok_or(SendError::Refused)?;
    let copied = frame.copy_from_offset(frame.header_len(), place)?;
    (copied == len).then_some(len).ok_or(SendError::Memory)
}

/// Carries each frame as a datagram.
#[derive(Debug)]
pub struct DatagramBackend {
    socket: UnixDatagram,
    header: usize,
    buffer: Box<[u8]>,
}

impl DatagramBackend {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// The socket refuses not to block.
    pub fn new(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            header: 0,
            buffer: vec![0; MAX_FRAME].into(),
        })
    }
}

impl FrameBackend for DatagramBackend {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.header = link.hdr_len;
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        let len = take_frame(frame, &mut self.buffer)?;
        send_now(&self.socket, &self.buffer[..len]).map(|_| ())
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        let len = recv_now(&self.socket, &mut self.buffer, RecvFlags::TRUNC)?;
        // Longer than a frame, or nothing.
        let frame = self.buffer.get(..len).filter(|frame| !frame.is_empty());
        deliver(frame.ok_or(RecvError::Lost)?, self.header, room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn check(&self) -> io::Result<()> {
        match check(&self.socket) {
            // An empty datagram is not an end.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            other => other,
        }
    }
}
