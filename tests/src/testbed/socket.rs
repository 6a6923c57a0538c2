//! A port over a datagram socket, which is full when its reader does not keep up.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, Offloads, RecvError, Scatter, SendError,
};
use net_device::{Port, PortControl};

/// Longest frame and header that passes, in bytes.
const MOST: usize = 66_000;

/// A port and the socket at its other end; both never block.
#[must_use]
pub fn socket_port() -> (Port, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().expect("a socket pair can be made");
    for end in [&near, &far] {
        end.set_nonblocking(true).expect("a socket takes flags");
    }
    let backend = SocketBackend {
        socket: near,
        buffer: vec![0; MOST],
    };
    (Port::new(Box::new(backend), Box::new(Always)), far)
}

struct SocketBackend {
    socket: UnixDatagram,
    buffer: Vec<u8>,
}

impl FrameBackend for SocketBackend {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        let len = frame.copy_to(&mut self.buffer)?;
        match self.socket.send(&self.buffer[..len]) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SendError::WouldBlock),
            Err(error) => Err(SendError::Dead(error)),
        }
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        match self.socket.recv(&mut self.buffer) {
            Ok(len) => Ok(room.write_at(0, &self.buffer[..len])?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(RecvError::WouldBlock),
            Err(error) => Err(RecvError::Dead(error)),
        }
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A link that is what it is.
struct Always;

impl PortControl for Always {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}
