//! A link whose frames are datagrams of a socket, header first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use net_queue::{Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError};

/// Linux numbers of errors that concern one datagram and not the socket.
const ONE_FRAME: [i32; 2] = [90 /* EMSGSIZE */, 105 /* ENOBUFS */];

/// The near end of such a link.
pub(crate) struct Datagrams(UnixDatagram);

impl Datagrams {
    pub(crate) fn new(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }
}

impl FrameBackend for Datagrams {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    /// The kernel reads the frame where the guest left it.
    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        match frame.write_to(&self.0).map_err(SendError::from) {
            Ok(_) => Ok(()),
            Err(SendError::Dead(error))
                if error
                    .raw_os_error()
                    .is_some_and(|code| ONE_FRAME.contains(&code)) =>
            {
                Err(SendError::Refused)
            }
            Err(error) => Err(error),
        }
    }

    /// The kernel writes the frame to where the guest wants it.
    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        Ok(room.read_from(&self.0)?)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
