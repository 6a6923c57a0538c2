//! Ports that are gone, as that of a tap whose interface was deleted, and others in their place.
//!
//! A port that is lost fails its device until the driver resets it, and what was lost does not come
//! back by itself: its descriptor belongs to an interface that is no more, whatever has the name by
//! now. So a device that knows how opens its link again: when it is reset or activated, and when
//! the VMM asks for that. Counters, limits and threads stay as they are.

use std::io;

use net_queue::FrameBackend;
use net_queue::header::HDR_LEN;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::NetDevice;
use super::states::State;
use crate::active::DetachedResources;
use crate::error::{ActivateError, NewError, ReopenError, chain};
use crate::events::DeviceEvent;
use crate::features::Features;
use crate::log_limited;
use crate::port::Link;
use crate::port::link::common_caps;

impl NetDevice {
    /// Returns whether a port is gone, so that no driver can be served before
    /// [`NetDevice::reopen_lost_ports`].
    ///
    /// While a driver has the device its workers find out; otherwise the ports are asked now.
    pub fn is_port_lost(&mut self) -> bool {
        let final_hang_up = self.open_link.is_some();
        let detached = self.state.before_activation();
        if let Some((pair, error)) = detached.and_then(|it| find_lost(it, final_hang_up))
            && self.status.lose_port()
        {
            let (id, log) = (&self.config.id, &self.status.events().log);
            log_limited!(
                log,
                Warn,
                "{id}: network port of pair {pair} is gone: {error}"
            );
            let was_up = self.space.is_link_up();
            self.space.lose_link();
            if was_up {
                self.status.events().emit(&DeviceEvent::Link { up: false });
            }
        }
        self.status.is_port_lost()
    }

    /// Opens the link again if a port is gone and no driver has activated the device; returns
    /// whether it has. The link is up again then, and offered is what the new ports can do.
    ///
    /// # Errors
    /// The device was not told how
    /// ([`NetDeviceBuilder::reopen_with`](crate::NetDeviceBuilder::reopen_with)), or it cannot be
    /// done now: nothing has changed then, and it can be tried again.
    pub fn reopen_lost_ports(&mut self) -> Result<bool, ReopenError> {
        if !(matches!(self.state, State::Inactive(_)) && self.is_port_lost()) {
            return Ok(false);
        }
        let open = self.open_link.as_mut().ok_or(ReopenError::Unknown)?;
        let link = open(self.host.as_ref())?;
        let (ports, pairs) = (link.ports.len(), usize::from(self.config.queue_pairs));
        if ports != pairs {
            return Err(NewError::Ports { ports, pairs }.into());
        }
        self.replace_link(link);
        Ok(true)
    }

    fn replace_link(&mut self, link: Link) {
        let State::Inactive(detached) = &mut self.state else {
            return;
        };
        let caps = common_caps(&link.ports);
        detached.controls.clear();
        for (pair, port) in detached.pairs.iter_mut().zip(link.ports) {
            (pair.backend, pair.hdr_len) = (port.backend, HDR_LEN);
            detached.controls.push(port.control);
        }
        detached.kernel.forget_link(detached.controls.len());
        self.host = link.host;
        let monitor = link.monitor;
        self.offered = Features::offered(caps.tx, caps.rx, &self.config);
        self.status.regain_port();
        self.space.regain_link();
        if self.space.is_link_up() {
            self.status.events().emit(&DeviceEvent::Link { up: true });
        }
        self.replace_host_link(monitor);
    }

    /// Opens the link again if that is to be done, for a driver that is not there yet.
    pub(super) fn reopen_or_log(&mut self) {
        if let Err(error) = self.reopen_lost_ports() {
            let (id, log) = (&self.config.id, &self.status.events().log);
            let why = chain(&error);
            log_limited!(log, Warn, "{id}: the link cannot be opened again: {why}");
        }
    }

    /// The same, for a driver that has accepted what was offered before.
    pub(super) fn reopen_for_driver(&mut self) -> Result<(), ActivateError> {
        if self.open_link.is_some()
            && self.reopen_lost_ports()?
            && !self.offered.contains(self.acked)
        {
            return Err(ActivateError::OtherLink(self.acked - self.offered));
        }
        Ok(())
    }
}

/// A pair whose port is gone, and how that shows. A peer that hung up is gone whatever it left to
/// be read, if `final_hang_up`.
fn find_lost(detached: &DetachedResources, final_hang_up: bool) -> Option<(usize, io::Error)> {
    let backends = detached.pairs.iter().map(|pair| &*pair.backend);
    // Errors and hang-ups are reported unasked.
    let fds = backends.clone().map(FrameBackend::poll_fd);
    let mut fds: Vec<_> = fds
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()))
        .collect();
    // One that cannot be asked is as it was.
    poll(&mut fds, Some(&Timespec::default())).ok()?;
    let mut reports = fds.iter().zip(backends).enumerate();
    reports.find_map(|(pair, (fd, backend))| {
        let error = if fd.revents().is_empty() {
            None
        } else {
            let hung_up = final_hang_up && fd.revents().contains(PollFlags::HUP);
            let left = hung_up.then(|| io::ErrorKind::UnexpectedEof.into());
            backend.check().err().or(left)
        };
        Some((pair, error?))
    })
}
