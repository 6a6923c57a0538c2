//! Legacy drivers, those without VIRTIO_F_VERSION_1, which a transitional device takes.

use super::NetDevice;
use super::states::State;
use crate::config::MacAddr;
use crate::features::Features;

impl NetDevice {
    /// Returns whether a driver may activate the device. A legacy one may before it accepts
    /// anything, as it may with nothing (VirtIO 1.4 §3.1.2); one whose set was refused may not.
    pub(super) fn is_negotiated(&self) -> bool {
        self.acked.contains(Features::VIRTIO_F_VERSION_1)
            || self.offered.is_transitional() && !self.refused
    }

    /// Takes the MAC address that a legacy driver writes for want of a command, from its first byte
    /// to its last, at once or in pieces: the last one makes it valid. For any other driver the
    /// space cannot be written (NET-CFG-02). VirtIO 1.4 §5.1.4.3, §5.1.9.5.2.3.
    pub(super) fn write_legacy_mac(&mut self, offset: u64, data: &[u8]) {
        let commands = Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_NET_F_CTRL_MAC_ADDR;
        let (State::Running(active) | State::Paused(active, _)) = &self.state else {
            return;
        };
        if self.acked.intersects(commands) || !self.acked.contains(Features::VIRTIO_NET_F_MAC) {
            return;
        }
        let shown = || self.space.mac().unwrap_or_default().bytes();
        let mut mac = self.written_mac.unwrap_or_else(shown);
        let written = usize::try_from(offset)
            .ok()
            .and_then(|at| mac.get_mut(at..));
        let Some(written) = written.filter(|room| !room.is_empty()) else {
            return;
        };
        let room = written.len();
        for (to, from) in written.iter_mut().zip(data) {
            *to = *from;
        }
        self.written_mac = (data.len() < room).then_some(mac);
        let mac = MacAddr::from(mac);
        if self.written_mac.is_none() && mac.is_station() {
            self.space.set_mac(mac);
            active.shared().change_filter(|filter| filter.set_mac(mac));
        }
    }
}
