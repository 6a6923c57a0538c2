//! What stands in a port's place while its backend is taken out.

use std::io;
use std::os::fd::BorrowedFd;

use net_device::net_queue::{
    Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError,
};

/// A backend that nobody uses.
#[derive(Debug)]
pub(crate) struct Null;

impl FrameBackend for Null {
    fn caps(&self) -> Caps {
        Caps::default()
    }

    fn configure(&mut self, _link: &LinkConfig) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, _frame: &Gather<'_>) -> Result<(), SendError> {
        Ok(())
    }

    fn recv(&mut self, _room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        Err(RecvError::WouldBlock)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        unreachable!("nothing waits for it")
    }
}
