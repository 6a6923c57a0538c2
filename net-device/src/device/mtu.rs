//! The MTU that a driver is told.
//!
//! An MTU that the operator configured is told as it is, whatever the interface has: who sets both
//! apart has a reason, for example a tunnel further on. Without one the driver is told the
//! interface's, as it is when the driver negotiates; once it has, the value stays until it
//! negotiates again (VirtIO 1.4 §5.1.4.1, NET-CFG-07). Receive room always follows the interface,
//! and an MTU limits frames only where it was negotiated.

use super::NetDevice;
use super::states::State;
use crate::config::MIN_MTU;
use crate::features::Features;

impl NetDevice {
    /// Offers and shows the interface's MTU as it is now. To be called while no driver has
    /// negotiated.
    pub(crate) fn follow_mtu(&mut self) {
        if !self.follows_mtu {
            return;
        }
        let State::Inactive(detached) = &self.state else {
            return;
        };
        // One too small to be told is not.
        self.config.mtu = detached.link_mtu().filter(|mtu| *mtu >= MIN_MTU);
        let allowed = !self.config.disabled.contains(Features::VIRTIO_NET_F_MTU);
        let told = self.config.mtu.filter(|_| allowed);
        self.offered.set(Features::VIRTIO_NET_F_MTU, told.is_some());
        self.space.set_mtu(told);
    }

    /// The same for a driver that has read what is offered, and has to find it so.
    pub(super) fn follow_offered_mtu(&mut self) {
        let known = self.offered.contains(Features::VIRTIO_NET_F_MTU);
        let still = match &self.state {
            State::Inactive(detached) => detached.link_mtu().is_some_and(|mtu| mtu >= MIN_MTU),
            _ => false,
        };
        if known && still {
            self.follow_mtu();
        }
    }
}
