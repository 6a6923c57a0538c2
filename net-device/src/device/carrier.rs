//! The host's interface, followed while the device runs: its carrier, its name, its MTU.
//!
//! The kernel tells of changes through a socket for which the VMM waits, so that frames cost
//! nothing for it. Over a link that the VMM makes itself there is nobody to ask, and
//! [`NetDevice::set_link`] says all.

use std::os::fd::{AsFd, BorrowedFd};

use tap::{LinkMonitor, LinkState};

use super::NetDevice;
use super::host_link::HostLink;
use super::states::State;
use crate::config::Carrier;
use crate::error::chain;
use crate::events::DeviceEvent;
use crate::log_limited;

impl NetDevice {
    /// Descriptor that becomes readable when the host's interface changes, to be waited for by the
    /// VMM, who calls [`NetDevice::follow_host_link`] then; `None` for a link that does not end
    /// at an interface of this network namespace. To be asked for again after that call, a reset,
    /// an activation and [`NetDevice::reopen_lost_ports`]: another link has another one.
    #[must_use]
    pub fn host_link_fd(&self) -> Option<BorrowedFd<'_>> {
        self.host_link.monitor.as_ref().map(AsFd::as_fd)
    }

    /// Looks at the host's interface and shows the driver what has become of it (NET-CFG-05,
    /// NET-CFG-15). A VMM calls this once when it has made the device, and whenever
    /// [`NetDevice::host_link_fd`] is readable; one that never does has a carrier for ever.
    ///
    /// | interface | the driver |
    /// |---|---|
    /// | down, or without carrier | sees the link down, unless [`Carrier::Up`] is configured; frames that it sends are dropped as the host refuses them |
    /// | up again | sees it up, if the VMM has not set it down |
    /// | renamed | sees nothing; [`NetDevice::host_interface`] and reopening follow |
    /// | another MTU | is told when it negotiates next (NET-CFG-07); room to receive is there at once |
    /// | deleted | sees the link down, see [`NetDevice::is_port_lost`] |
    /// | in another network namespace | sees the link up: nobody knows |
    pub fn follow_host_link(&mut self) {
        self.host_link.followed = true;
        let Some(monitor) = &mut self.host_link.monitor else {
            return;
        };
        match monitor.has_changed() {
            Ok(false) => {}
            Ok(true) => match monitor.state() {
                Ok(state) => self.show_host_link(&state),
                Err(tap::Error::OtherNamespace { .. }) => self.show_carrier(true),
                // Deleted; a driver's workers find out by themselves.
                Err(tap::Error::Request { source, .. })
                    if source.raw_os_error() == Some(libc::EBADFD) =>
                {
                    self.is_port_lost();
                }
                // No descriptor is left to ask by, say: what the driver sees stays.
                Err(error) => {
                    monitor.look_again();
                    let (id, log) = (&self.config.id, &self.status.events().log);
                    let error = chain(&error);
                    log_limited!(
                        log,
                        Warn,
                        "{id}: the state of the host's interface cannot be read: {error}; it is \
                         read again with the next change"
                    );
                }
            },
            Err(error) => {
                let (id, log) = (&self.config.id, &self.status.events().log);
                log_limited!(
                    log,
                    Warn,
                    "{id}: the host's interface is not followed any more: {error}"
                );
                self.host_link.monitor = None;
                self.show_carrier(true);
            }
        }
    }

    /// Follows the interface of a link that was opened again, if the one before was followed.
    pub(super) fn replace_host_link(&mut self, monitor: Option<LinkMonitor>) {
        let followed = self.host_link.followed;
        self.host_link = HostLink::new(monitor);
        self.show_carrier(true);
        if followed {
            self.follow_host_link();
        }
    }

    fn show_host_link(&mut self, state: &LinkState) {
        let (id, log) = (&self.config.id, &self.status.events().log);
        if let Some(host) = &mut self.host
            && host.name != state.name
        {
            let (before, now) = (&host.name, &state.name);
            log_limited!(log, Info, "{id}: interface {before} is called {now} now");
            host.name.clone_from(&state.name);
        }
        if self.host_link.mtu.replace(state.mtu) != Some(state.mtu) {
            let negotiated = !self.acked.is_empty();
            if matches!(self.state, State::Inactive(_)) && !negotiated {
                self.follow_mtu();
            } else if self.follows_mtu && self.config.mtu != Some(state.mtu) {
                let mtu = state.mtu;
                log_limited!(
                    log,
                    Info,
                    "{id}: the interface has an MTU of {mtu}, which the driver is told after a \
                     reset"
                );
            }
        }
        self.show_carrier(state.up || self.config.carrier == Carrier::Up);
    }

    fn show_carrier(&mut self, up: bool) {
        let shown = self.space.is_link_up();
        let visible = self.space.set_carrier(up);
        if shown != self.space.is_link_up() {
            self.status.events().emit(&DeviceEvent::Link { up: !shown });
        }
        if visible {
            self.config_changed();
        }
    }
}
