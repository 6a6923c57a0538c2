//! A backend in safe code: each frame is one datagram of a pair of sockets.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError,
};
use net_device::{Port, PortControl};

/// A port, and the socket at its other end.
pub(crate) fn port() -> io::Result<(Port, UnixDatagram)> {
    let (near, far) = UnixDatagram::pair()?;
    near.set_nonblocking(true)?;
    let backend = Datagrams {
        socket: near,
        frame: vec![0; 1 << 16],
    };
    Ok((Port::new(Box::new(backend), Box::new(AlwaysUp)), far))
}

struct Datagrams {
    socket: UnixDatagram,
    frame: Vec<u8>,
}

impl FrameBackend for Datagrams {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        let len = frame.copy_to(&mut self.frame)?;
        match self.socket.send(&self.frame[..len]) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SendError::WouldBlock),
            Err(error) => Err(SendError::Dead(error)),
        }
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        match self.socket.recv(&mut self.frame) {
            Ok(len) => Ok(room.write_at(0, &self.frame[..len])?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(RecvError::WouldBlock),
            Err(error) => Err(RecvError::Dead(error)),
        }
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A link without offloads that always passes frames.
struct AlwaysUp;

impl PortControl for AlwaysUp {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}
