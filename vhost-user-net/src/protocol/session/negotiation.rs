//! Features: those that are offered, and those that the front-end has accepted for its driver.

use net_device::{Features, Layout, VirtioDevice};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};

use super::{PROTOCOL_FEATURES, Session, SessionError};
use crate::protocol::iotlb::ACCESS_PLATFORM;
use crate::protocol::vring::{State, Vring};

/// Feature bits that belong to the transport, and never reach the device.
const TRANSPORT_FEATURES: VhostUserVirtioFeatures = VhostUserVirtioFeatures::all();

/// VIRTIO_F_RING_PACKED. VirtIO 1.4 §6.
pub(super) const RING_PACKED: u64 = 1 << 34;

/// Translates a front-end's features for the device.
///
/// A front-end that serves the control queue itself accepts features that need one, but not the
/// queue: they are its own affair then, and the device does without.
pub(super) fn device_features(features: u64) -> Features {
    let features = features & !(TRANSPORT_FEATURES.bits() | ACCESS_PLATFORM);
    Features::from_bits_truncate(features.into()).closure()
}

impl Session<'_> {
    /// Feature bits that are offered: the device's and the transport's.
    #[must_use]
    pub fn offered_features(&self) -> u64 {
        // The protocol has no place for those above 63.
        let iommu = self.iotlb.as_ref().map_or(0, |_| ACCESS_PLATFORM);
        self.device.features() as u64 | TRANSPORT_FEATURES.bits() | iommu
    }

    /// Returns whether a request that is refused may be answered with the refusal.
    #[must_use]
    pub fn answers_refusals(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    pub(super) fn set_protocol_features(&mut self, features: u64) -> Result<(), SessionError> {
        let extra = features & !PROTOCOL_FEATURES.bits();
        if extra != 0 {
            return Err(SessionError::NotOffered("protocol features", extra));
        }
        self.protocol = VhostUserProtocolFeatures::from_bits_truncate(features);
        Ok(())
    }

    /// Comes once per queue pair, and again when logging is switched: only what changed has an
    /// effect.
    pub(super) fn set_features(&mut self, features: u64) -> Result<(), SessionError> {
        let extra = features & !self.offered_features();
        if extra != 0 {
            return Err(SessionError::NotOffered("features", extra));
        }
        let logged = self.logging().is_some();
        let translated = features & ACCESS_PLATFORM != 0;
        if self.features.map(device_features) != Some(device_features(features))
            || translated != self.iommu().is_some()
        {
            if self.rings.iter().any(|ring| ring.state() == State::Running) {
                return Err(SessionError::FeaturesInUse);
            }
            self.deactivate();
            self.device.ack_features(device_features(features).bits())?;
        }
        self.features = Some(features);
        self.follow_iommu(translated);
        if logged != self.logging().is_some() {
            self.renew_memory()?;
        }
        self.apply_targets()
    }

    /// Leaves protocol features, memory, and the descriptors to tell the front-end by; all else
    /// starts anew.
    pub(super) fn reset(&mut self) {
        self.begin_anew();
        self.close_journals();
        self.transfer = None;
        self.end_all_discarding();
        self.rings = Vring::all(self.device.queue_max_sizes());
        self.features = None;
        self.follow_iommu(false);
    }

    pub(super) fn has(&self, feature: VhostUserVirtioFeatures) -> bool {
        self.features
            .is_some_and(|features| features & feature.bits() != 0)
    }

    /// Returns whether the driver gets its buffers back in their order.
    pub(super) fn is_in_order(&self) -> bool {
        let features = self.features.map(device_features);
        features.is_some_and(|features| features.contains(Features::VIRTIO_F_IN_ORDER))
    }

    pub(super) fn layout(&self) -> Layout {
        match self.features {
            Some(features) if features & RING_PACKED != 0 => Layout::Packed,
            _ => Layout::Split,
        }
    }
}
