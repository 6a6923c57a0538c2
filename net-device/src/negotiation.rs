//! Features that a device offers, and those that a command needs.

use net_queue::Offloads;
use net_queue::ctrl::{Command, RxMode};
use net_queue::header::HdrSize;

use crate::config::NetConfig;
use crate::features::{
    ALWAYS, Features, RX_OFFLOADS, TRANSPORT, TUNNELS, TX_OFFLOADS, features_of,
};
use Features as F;

/// Work left undone in frames of a driver that a backend does which says that it takes `caps`, as
/// far as a feature permits it to the driver. Segments have checksums to be completed, and tunnels
/// may have segments of every kind in them.
pub(crate) fn backend_tx(caps: Offloads) -> Offloads {
    let features = features_of(TX_OFFLOADS, caps);
    features.closure().tx_offloads()
}

impl Features {
    /// Features that a device over such a backend offers: backend and configuration, closed.
    ///
    /// `tx` and `rx` are the offloads the backend takes and delivers (NET-FEAT-01, NET-FEAT-03).
    /// Checksums of what the driver sends are completed here where the backend does not take
    /// partial ones, and large frames are cut here where it does not take those; all but UFO and
    /// those in tunnels.
    pub fn offered(tx: Offloads, rx: Offloads, config: &NetConfig) -> Self {
        let configured = [
            (F::VIRTIO_NET_F_MAC, config.mac.is_some()),
            (F::VIRTIO_NET_F_MTU, config.mtu.is_some()),
            (F::VIRTIO_NET_F_MQ, config.queue_pairs > 1),
            (F::VIRTIO_NET_F_RSS, config.rss),
            (F::VIRTIO_NET_F_HASH_REPORT, config.hash_report),
            (F::VIRTIO_NET_F_SPEED_DUPLEX, config.speed_mbps.is_some()),
            (F::VIRTIO_F_ACCESS_PLATFORM, config.iommu),
            (F::VIRTIO_F_ANY_LAYOUT, config.transitional),
        ];
        let configured = configured.iter().filter(|(_, on)| *on);
        let all = ALWAYS
            | (TRANSPORT & config.transport_features)
            | features_of(TX_OFFLOADS, backend_tx(tx) | Offloads::DONE_HERE)
            | features_of(RX_OFFLOADS, rx)
            | configured.map(|(feature, _)| *feature).collect();
        (all - config.disabled).closure()
    }

    /// Length of the header in front of each frame, for a driver that accepted these (NET-RX-17). A
    /// legacy driver without `MRG_RXBUF` has no `num_buffers` in it. VirtIO 1.4 §5.1.9, §5.1.9.1.
    #[must_use]
    pub fn hdr_size(self) -> HdrSize {
        if self.intersects(TUNNELS) {
            HdrSize::Tunnel
        } else if self.contains(F::VIRTIO_NET_F_HASH_REPORT) {
            HdrSize::HashReport
        } else if self.intersects(F::VIRTIO_F_VERSION_1 | F::VIRTIO_NET_F_MRG_RXBUF) {
            HdrSize::Base
        } else {
            HdrSize::Legacy
        }
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
            Command::SetRss(_) => F::VIRTIO_NET_F_RSS,
            Command::SetHash(_) => F::VIRTIO_NET_F_HASH_REPORT,
            Command::SetGuestOffloads(_) => F::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
            Command::SetTxNotfCoal(_) | Command::SetRxNotfCoal(_) => F::VIRTIO_NET_F_NOTF_COAL,
            Command::SetQueueNotfCoal { .. } | Command::GetQueueNotfCoal(_) => {
                F::VIRTIO_NET_F_VQ_NOTF_COAL
            }
            Command::QueryStats | Command::GetStats(_) => F::VIRTIO_NET_F_DEVICE_STATS,
        }
    }
}
