//! Announcements: the network learns that the guest's addresses are here, as after a migration.
//!
//! A driver that can is asked to announce itself, since it knows its addresses of every kind. For
//! one that cannot, the device sends a RARP request for each of its MAC addresses and VLANs: from
//! those every switch learns the port. More than that is not done on a guest's behalf. Caches of
//! neighbours stay right, as the MAC addresses stay; and an unsolicited neighbour advertisement
//! (RFC 4861 §7.2.5) for the link-local address that follows from a MAC address says whether its
//! sender is a router, which nobody knows here: a guest that is one would drop out of its
//! neighbours' lists of default routers.
//!
//! A network that was just rewired may lose a frame, so there are several rounds.

use std::time::Duration;

use super::NetDevice;
use super::announce_rounds::Announcer;
use super::states::State;
use crate::active::DetachedResources;
use crate::announcement::Announcement;
use crate::config::MacAddr;
use crate::features::Features;
use crate::shared::control_budget::HOST_LOCK;

/// Most frames that the device sends in a round: a driver may set 64 addresses and 4095 VLANs.
const MOST_FRAMES: usize = 128;

impl NetDevice {
    /// Announces the guest to the network, now and in four further rounds, for which the VMM calls
    /// [`NetDevice::continue_announcement`]. A device that was restored does so by itself when it
    /// resumes; a reset ends it.
    ///
    /// A driver that accepted VIRTIO_NET_F_GUEST_ANNOUNCE and VIRTIO_NET_F_STATUS is asked to, in
    /// each round unless it still is (NET-CVQ-18). For any other the device sends a RARP request
    /// for each MAC address that it has, and for its own one in each VLAN: 128 frames in a round at
    /// most, through the first port, by no limit and not counted. While the link is down none is
    /// sent.
    pub fn announce(&mut self) -> Announcer {
        self.rounds.begin(self.clock.now_ns());
        self.announce_once()
    }

    /// Time until the next round of an announcement, if one is left. A paused device has none
    /// before it resumes: the guest may be elsewhere by then.
    #[must_use]
    pub fn next_announcement(&self) -> Option<Duration> {
        if matches!(self.state, State::Paused(..)) {
            return None;
        }
        self.rounds.until_next(self.clock.now_ns())
    }

    /// Does the next round of an announcement, if it is time.
    pub fn continue_announcement(&mut self) {
        let paused = matches!(self.state, State::Paused(..));
        if !paused && self.rounds.take_due(self.clock.now_ns()) {
            self.announce_once();
        }
    }

    /// Sends a RARP request for `mac` once, for a VMM that decides on addresses and times itself.
    ///
    /// It costs as much of [`NetConfig::control_limit`](crate::NetConfig::control_limit) as a tap
    /// request, and is not sent when that is used up: whoever carries a guest's requests must not
    /// get around its rate limits thereby.
    pub fn send_rarp(&mut self, mac: MacAddr) {
        let charged = self.control_budget.take(self.clock.now_ns(), HOST_LOCK);
        if charged.is_ok() {
            self.send_announcements(&[Announcement::rarp(mac, None)]);
        }
    }

    /// Asks the driver that can, before the interrupt by which its device resumes elsewhere.
    pub(super) fn ask_driver(&mut self) {
        if self.driver_announces() {
            self.space.set_announce(true);
        }
    }

    /// Returns whether the next resumption is the first one of a device that was restored, which
    /// the network has to learn of. One that needs a reset does nothing before that.
    pub(super) fn resumes_elsewhere(&self) -> bool {
        let restored = matches!(&self.state, State::Paused(active, _) if active.is_restored());
        restored && !self.status.needs_reset()
    }

    /// Returns whether the driver can, and sees that it is to.
    fn driver_announces(&self) -> bool {
        let needed = Features::VIRTIO_NET_F_GUEST_ANNOUNCE | Features::VIRTIO_NET_F_STATUS;
        self.acked.contains(needed)
    }

    fn announce_once(&mut self) -> Announcer {
        if self.driver_announces() {
            if self.space.set_announce(true) {
                self.config_changed();
            }
            return Announcer::Driver;
        }
        let frames = self.announcements();
        if frames.is_empty() {
            return Announcer::Nobody;
        }
        self.send_announcements(&frames);
        Announcer::Device
    }

    /// A frame for each address, and for the device's own one in each VLAN.
    fn announcements(&self) -> Vec<Announcement> {
        let own = self.space.mac().filter(|mac| mac.is_station());
        let (mut others, mut vlans) = (Vec::new(), Vec::new());
        if let State::Running(active) | State::Paused(active, _) = &self.state
            && let Some(filter) = &active.shared().policy().filter
        {
            others = filter.tables().stations();
            vlans = filter.tables().vlan_ids();
        }
        let addresses = own.into_iter().chain(others);
        let untagged = addresses.map(|mac| Announcement::rarp(mac, None));
        let tagged = vlans.into_iter().zip(own.iter().cycle());
        let tagged = tagged.map(|(vlan, mac)| Announcement::rarp(*mac, Some(vlan)));
        untagged.chain(tagged).take(MOST_FRAMES).collect()
    }

    /// Sends through the first port, whose worker stands still for it. A port that is gone is found
    /// out by others.
    fn send_announcements(&mut self, frames: &[Announcement]) {
        if !self.space.is_link_up() {
            return;
        }
        match &mut self.state {
            State::Running(active) => {
                active.send(frames);
                // A host that cannot let the worker go on has failed the device.
                let _ = active.run_or_fail();
            }
            State::Paused(active, _) => active.send(frames),
            State::Inactive(detached) | State::Restored(detached, _) => detached.send(frames),
            State::Failed(_) => {}
        }
    }
}

impl DetachedResources {
    fn send(&mut self, frames: &[Announcement]) {
        if let Some(pair) = self.pairs.first_mut() {
            pair.send(frames);
        }
    }
}
