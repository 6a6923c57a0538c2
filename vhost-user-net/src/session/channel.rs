//! What the back-end tells the front-end of its own accord.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use net_device::VirtioDevice;
use vhost::vhost_user::message::{BackendReq, VhostUserProtocolFeatures};

use super::{Session, SessionError};
use crate::log::DirtyBitmap;
use crate::sys::{self, SocketKind};
use crate::{interrupts, wire};

impl Session<'_> {
    /// SET_BACKEND_REQ_FD.
    pub(super) fn set_channel(&mut self, fd: OwnedFd) -> Result<(), SessionError> {
        if sys::unix_stream_kind(fd.as_fd()) != Some(SocketKind::Connected) {
            return Err(SessionError::Channel);
        }
        sys::set_nonblocking(fd.as_fd()).map_err(SessionError::Descriptor)?;
        self.channel = Some(File::from(fd));
        Ok(())
    }

    /// Passes on that the configuration space changed, or that the device cannot go on.
    ///
    /// To be called when [`Interrupts::config_event`](crate::interrupts::Interrupts::config_event) is readable.
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
            for error in &self.errors {
                let _ = interrupts::signal(error.as_ref());
            }
        }
        if !self.protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            return Ok(());
        }
        let message = wire::backend_request(BackendReq::CONFIG_CHANGE_MSG);
        match self
            .channel
            .as_mut()
            .map(|channel| channel.write_all(&message))
        {
            // A front-end that does not read has earlier ones of these waiting.
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                net_device::log_limited!(
                    self.device.log_limit(),
                    Info,
                    "the front-end takes no requests any more: {error}"
                );
                self.channel = None;
            }
            _ => {}
        }
        Ok(())
    }
}
