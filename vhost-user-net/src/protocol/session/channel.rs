//! Requests of the back-end to the front-end.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use net_device::VirtioDevice;
use vhost::vhost_user::message::{BackendReq, VhostUserProtocolFeatures};

use super::{Session, SessionError};
use crate::protocol::dirty_log::DirtyBitmap;
use crate::protocol::{interrupts, wire};
use crate::sys::{self, SocketKind, foreign};

impl Session<'_> {
    /// SET_BACKEND_REQ_FD.
    ///
    /// Nothing is read from it, since no request of the back-end asks for an answer. So its reading
    /// side is shut and emptied: a front-end that passed its own end of the connection inside a
    /// message that waits there would never be seen to close it. Of one that passed it as this
    /// descriptor, the connection is shut thereby, which
    /// [`Connection::check`](crate::protocol::connection::Connection::check) finds out.
    pub(super) fn set_channel(&mut self, fd: OwnedFd) -> Result<(), SessionError> {
        if sys::unix_stream_kind(fd.as_fd()) != Some(SocketKind::Connected) {
            return Err(SessionError::Channel);
        }
        let channel = UnixStream::from(fd);
        // An error says that the other end is gone, which the first request will find out.
        if channel.shutdown(Shutdown::Read).is_ok() {
            while let Ok(1..) = (&channel).read(&mut [0; 4096]) {}
        }
        self.channel = Some(channel);
        self.iotlb.iter().for_each(|iotlb| iotlb.set_asks(true));
        Ok(())
    }

    /// Passes on that the configuration space changed, or that the device cannot go on.
    ///
    /// To be called when
    /// [`Interrupts::config_event`](crate::protocol::interrupts::Interrupts::config_event) is
    /// readable.
    ///
    /// # Errors
    /// The dirty log is gone, so the migration that it is for cannot be right.
    pub fn config_changed(&mut self) -> Result<(), SessionError> {
        // Several changes before this call are one for the front-end.
        let _ = self.interrupts.config_event().read(&mut [0; 8]);
        if self.log.as_ref().is_some_and(DirtyBitmap::is_lost) {
            return Err(SessionError::LogLost);
        }
        if self.device.needs_reset() {
            for error in &mut self.errors {
                let _ = interrupts::signal_in_time(error);
            }
        }
        if !self.protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            return Ok(());
        }
        let message = wire::backend_request(BackendReq::CONFIG_CHANGE_MSG);
        // A front-end that does not read has earlier ones of these waiting.
        self.send(&message);
        Ok(())
    }

    /// Sends a request to the front-end; false when that takes none now, or none any more.
    pub(super) fn send(&mut self, message: &[u8]) -> bool {
        let Some(channel) = &self.channel else {
            return false;
        };
        match foreign::send_at_once(channel.as_fd(), message) {
            Ok(count) if count == message.len() => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // A part of a request would be the begin of all that follow.
            Ok(_) => {}
            Err(error) => net_device::log_limited!(
                self.device.log_limit(),
                Info,
                "the front-end takes no requests any more: {error}"
            ),
        }
        self.channel = None;
        self.iotlb.iter().for_each(|iotlb| iotlb.set_asks(false));
        false
    }
}
