//! Features that a device offers, and those that a command needs.

use net_queue::Offloads;
use net_queue::ctrl::{Command, RxMode};

use crate::config::NetConfig;
use crate::features::{ALWAYS, Features, RX_OFFLOADS, TX_OFFLOADS, features_of};
use Features as F;

impl Features {
    /// Features that a device over such a backend offers: backend and configuration, closed.
    ///
    /// `tx` and `rx` are the offloads the backend takes and delivers (NET-FEAT-01, NET-FEAT-03).
    /// Checksums of what the driver sends are completed here where the backend does not take
    /// partial ones, segments are not cut here.
    pub fn offered(tx: Offloads, rx: Offloads, config: &NetConfig) -> Self {
        let configured = [
            (F::VIRTIO_NET_F_MAC, config.mac.is_some()),
            (F::VIRTIO_NET_F_MTU, config.mtu.is_some()),
            (F::VIRTIO_NET_F_MQ, config.queue_pairs > 1),
            (F::VIRTIO_NET_F_SPEED_DUPLEX, config.speed_mbps.is_some()),
            (F::VIRTIO_F_ACCESS_PLATFORM, config.iommu),
        ];
        let configured = configured.iter().filter(|(_, on)| *on);
        // Segments have checksums to be completed.
        let segments = if tx.contains(Offloads::CSUM) {
            tx
        } else {
            Offloads::empty()
        };
        let all = ALWAYS
            | F::VIRTIO_NET_F_CSUM
            | features_of(TX_OFFLOADS, segments)
            | features_of(RX_OFFLOADS, rx)
            | configured.map(|(feature, _)| *feature).collect();
        (all - config.disabled).closure()
    }

    /// The feature without which a driver may not give this command (checklist table F).
    pub fn required_by(command: &Command<'_>) -> Self {
        match command {
            Command::SetRxMode {
                mode: RxMode::Promisc | RxMode::AllMulti,
                ..
            }
            | Command::SetMacTable { .. } => F::VIRTIO_NET_F_CTRL_RX,
            Command::SetRxMode { .. } => F::VIRTIO_NET_F_CTRL_RX_EXTRA,
            Command::SetMacAddr(_) => F::VIRTIO_NET_F_CTRL_MAC_ADDR,
            Command::AddVlan(_) | Command::DelVlan(_) => F::VIRTIO_NET_F_CTRL_VLAN,
            Command::AckAnnounce => F::VIRTIO_NET_F_GUEST_ANNOUNCE,
            Command::SetPairs(_) => F::VIRTIO_NET_F_MQ,
            Command::SetGuestOffloads(_) => F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
            Command::QueryStats | Command::GetStats(_) => F::VIRTIO_NET_F_DEVICE_STATS,
        }
    }
}
