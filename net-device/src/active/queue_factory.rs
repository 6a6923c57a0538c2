//! Makes engines of queues from what was negotiated, the guest's memory, the counters.

use std::collections::BTreeMap;
use std::sync::Arc;

use net_queue::header::TxRules;
use net_queue::ring::{AnyRing, Layout, RingConfig, RingError, UsedElements, UsedJournal};
use net_queue::{
    CtrlEngine, GuestRam, Offloads, QueueCounters, RxConfig, RxEngine, TxConfig, TxEngine,
};

use crate::error::QueueError;
use crate::features::Features;
use crate::negotiation::backend_tx;
use crate::queue_role::QueueRole;
use crate::shared::Shared;
use crate::transport::QueueSetup;

/// Configuration and what was negotiated, as far as queues depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NegotiatedConfig {
    pub(crate) features: Features,
    /// MTU that the driver is told.
    pub(crate) mtu: Option<u16>,
    /// MTU of the backends, or the driver's if that is larger.
    pub(crate) link_mtu: Option<u16>,
    pub(crate) max_queue_size: u16,
    pub(crate) poll_us: u16,
    /// Work that every backend takes undone in frames sent to it.
    pub(crate) tx_caps: Offloads,
    /// Kinds of groups in which frames may leave.
    pub(crate) coalesce: Offloads,
}

/// Maker of engines for one activation.
pub(crate) struct QueueFactory {
    pub(crate) shared: Arc<Shared>,
    pub(crate) negotiated: NegotiatedConfig,
    pub(crate) ram: GuestRam,
    /// One for each queue; the control queue's is the last.
    pub(crate) counters: Arc<[Arc<QueueCounters>]>,
    /// Number of the device's pairs.
    pub(crate) pairs: u16,
    /// Of queues whose position outlives the process.
    pub(crate) journals: BTreeMap<u16, UsedJournal>,
}

impl QueueFactory {
    /// The role of a queue.
    pub(crate) fn role(&self, index: u16) -> Option<QueueRole> {
        QueueRole::of(index, self.negotiated.features, self.pairs)
    }

    /// Configuration of the ring of `setup`.
    pub(crate) fn ring_config(&self, setup: &QueueSetup) -> Result<RingConfig, QueueError> {
        let QueueSetup {
            index,
            size,
            addrs,
            cursor,
            ..
        } = *setup;
        if size > self.negotiated.max_queue_size {
            return Err(QueueError::Ring {
                index,
                source: RingError::Size(size),
            });
        }
        let packed = self
            .negotiated
            .features
            .contains(Features::VIRTIO_F_RING_PACKED);
        Ok(RingConfig {
            layout: if packed {
                Layout::Packed
            } else {
                Layout::Split
            },
            size,
            addrs,
            event_idx: self
                .negotiated
                .features
                .contains(Features::VIRTIO_F_EVENT_IDX),
            indirect: self
                .negotiated
                .features
                .contains(Features::VIRTIO_F_INDIRECT_DESC),
            in_order: self
                .negotiated
                .features
                .contains(Features::VIRTIO_F_IN_ORDER),
            cursor,
            ..RingConfig::default()
        })
    }

    fn ring(&self, index: u16, config: &RingConfig) -> Result<AnyRing, QueueError> {
        let ring =
            AnyRing::new(&self.ram, config).map_err(|source| QueueError::Ring { index, source })?;
        Ok(match self.journals.get(&index) {
            Some(journal) => ring.with_journal(journal.clone()),
            None => ring,
        })
    }

    /// The engine of a receive queue.
    pub(crate) fn rx(
        &self,
        index: u16,
        config: &RingConfig,
    ) -> Result<RxEngine<AnyRing>, QueueError> {
        let features = self.negotiated.features;
        let rx = RxConfig {
            size: features.hdr_size(),
            offloads: self.shared.policy().offloads,
            merge: features.contains(Features::VIRTIO_NET_F_MRG_RXBUF),
            mtu: self
                .negotiated
                .mtu
                .filter(|_| features.contains(Features::VIRTIO_NET_F_MTU)),
            link_mtu: self.negotiated.link_mtu,
        };
        let ring = self.ring(index, config)?;
        let counters = self.counters[usize::from(index)].clone();
        let mut engine = RxEngine::new(ring, config.size, rx, counters);
        engine.set_hasher(self.shared.policy().hasher.clone());
        Ok(engine)
    }

    /// The engine of a transmit queue.
    pub(crate) fn tx(
        &self,
        index: u16,
        config: &RingConfig,
    ) -> Result<TxEngine<AnyRing>, QueueError> {
        let driver = self.negotiated.features.tx_offloads();
        let backend = backend_tx(self.negotiated.tx_caps);
        let undone = driver - backend - Offloads::CSUM;
        let segmentation = undone & Offloads::DONE_HERE;
        let rules = TxRules::new(driver - undone);
        let rules = if backend.contains(Offloads::CSUM) {
            rules
        } else {
            rules.completing()
        };
        Ok(TxEngine::new(
            self.tx_ring(index, config)?,
            TxConfig {
                coalesce: self.negotiated.coalesce,
                segmentation,
                size: self.negotiated.features.hdr_size(),
                ..TxConfig::new(rules)
            },
            self.counters[usize::from(index)].clone(),
        ))
    }

    /// The engine of a transmit queue from which nothing is sent.
    pub(crate) fn discarding_tx(
        &self,
        index: u16,
        config: &RingConfig,
    ) -> Result<TxEngine<AnyRing>, QueueError> {
        let features = self.negotiated.features;
        let config_of_engine = TxConfig {
            size: features.hdr_size(),
            ..TxConfig::new(TxRules::new(features.tx_offloads()))
        };
        let ring = self.tx_ring(index, config)?;
        let counters = self.counters[usize::from(index)].clone();
        Ok(TxEngine::new(ring, config_of_engine, counters))
    }

    fn tx_ring(&self, index: u16, config: &RingConfig) -> Result<AnyRing, QueueError> {
        // Nothing is ever written to these chains, so no driver misses the length of one. On the
        // other queues drivers read the length of each (a control queue's answers come one by one
        // anyway).
        let config = RingConfig {
            used_elements: UsedElements::PerBatch,
            ..*config
        };
        self.ring(index, &config)
    }

    /// The engine of the control queue.
    pub(crate) fn ctrl(
        &self,
        index: u16,
        config: &RingConfig,
    ) -> Result<CtrlEngine<AnyRing>, QueueError> {
        let counters = self.counters.last().cloned().unwrap_or_default();
        Ok(CtrlEngine::new(self.ring(index, config)?, counters))
    }
}
