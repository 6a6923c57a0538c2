//! The configuration space: typed fields, shown to the driver as bytes (VirtIO 1.4 §5.1.4, L2).

use crate::config::MacAddr;
use crate::config::NetConfig;
use crate::features::Features;
use crate::shared::rss::{MAX_KEY_LEN, MAX_TABLE_LEN};
use bitflags::bitflags;
use net_queue::hash::HashTypes;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(test)]
mod tests;

/// Bytes of the space; behind them everything reads zero (NET-CFG-16).
pub(crate) const CONFIG_LEN: usize = 28;

/// Place of the status field.
const STATUS: usize = 6;

/// The code for full duplex (VirtIO 1.4 §5.1.4; the field's text, not §5.1.4.1, see N-1).
const DUPLEX_FULL: u8 = 1;

/// Features of which each shows the number of pairs.
const MULTI_QUEUE: Features = Features::VIRTIO_NET_F_MQ.union(Features::VIRTIO_NET_F_RSS);

/// Features of which each shows what can be hashed (NET-CFG-10, NET-CFG-12).
const HASHING: Features = Features::VIRTIO_NET_F_RSS.union(Features::VIRTIO_NET_F_HASH_REPORT);

bitflags! {
    /// The status field (VirtIO 1.4 §5.1.4, NET-CFG-05).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct LinkStatus: u16 {
        /// Frames can pass.
        const LINK_UP = 1;
        /// The driver is asked for gratuitous packets.
        const ANNOUNCE = 2;
    }
}

/// The space of one device, shared between the VMM's thread that reads it and the workers.
///
/// Fields of features that are not offered read zero and move no other (NET-CFG-01, NET-CFG-03).
/// A method that changes a field says whether the driver can see that; the caller owes it a
/// configuration interrupt then (NET-CFG-15).
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    offered: Features,
    max_pairs: u16,
    speed_mbps: u32,
    /// Address that a reset brings back.
    configured_mac: Option<MacAddr>,
    fields: Mutex<Fields>,
}

/// Fields that change while the device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    mac: Option<MacAddr>,
    status: LinkStatus,
    /// The VMM lets frames pass. The status may say less: a device that lost a port shows no link.
    passes: bool,
    /// The host's interface is up and has a carrier, as far as anybody looks.
    carrier: bool,
    /// A port is gone.
    lost: bool,
    generation: u32,
    /// MTU that is told, if it is offered.
    mtu: Option<u16>,
    /// The generation has changed since somebody read it.
    unread: bool,
    /// Bytes that are shown to a driver that has suspended the device, whatever has changed.
    frozen: Option<[u8; CONFIG_LEN]>,
    /// An interrupt was withheld from that driver.
    owed: bool,
}

impl Fields {
    /// The link is up if the VMM and the host have it up, and every port is there.
    fn show_link(&mut self) {
        let up = self.passes && self.carrier && !self.lost;
        self.status.set(LinkStatus::LINK_UP, up);
    }
}

impl ConfigSpace {
    /// The space of a device that offers `offered`; its link is up.
    pub(crate) fn new(config: &NetConfig, offered: Features) -> Self {
        let fields = Fields {
            mac: config.mac,
            status: LinkStatus::LINK_UP,
            passes: true,
            carrier: true,
            lost: false,
            generation: 0,
            mtu: config
                .mtu
                .filter(|_| offered.contains(Features::VIRTIO_NET_F_MTU)),
            unread: false,
            frozen: None,
            owed: false,
        };
        Self {
            offered,
            max_pairs: config.queue_pairs,
            speed_mbps: config.speed_mbps.unwrap_or_default(),
            configured_mac: config.mac,
            fields: Mutex::new(fields),
        }
    }

    /// Fills `data` from `offset` on; what is not there reads zero (NET-CFG-16).
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let bytes = self.to_bytes();
        let there = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
        for (to, from) in data.iter_mut().zip(there.unwrap_or_default()) {
            *to = *from;
        }
    }

    /// The generation as a driver reads it: another one than at the last call if there was a change
    /// in between that it could see (VirtIO 1.4 §2.5, DEV-LIFE-08).
    ///
    /// All changes between two calls are one step, so the number does not come back to what it was
    /// however many there are. A register of 8 bits, as in PCI, can show its lowest byte.
    pub(crate) fn generation(&self) -> u32 {
        let mut fields = self.lock();
        fields.unread = false;
        fields.generation
    }

    /// The generation, looked at by somebody who does not compare it with another.
    pub(crate) fn saved_generation(&self) -> u32 {
        self.lock().generation
    }

    /// The MAC address, if it was configured or the driver has set one.
    pub(crate) fn mac(&self) -> Option<MacAddr> {
        self.lock().mac
    }

    /// The status field, whether the driver can see it or not.
    pub(crate) fn status(&self) -> LinkStatus {
        self.lock().status
    }

    /// Returns whether the link is shown to be up, to a driver that can see it.
    pub(crate) fn is_link_up(&self) -> bool {
        self.status().contains(LinkStatus::LINK_UP)
    }

    /// Returns whether frames may pass: whether the link was last set up, not down.
    pub(crate) fn passes_frames(&self) -> bool {
        self.lock().passes
    }

    /// Takes the MAC address that the driver has set (NET-CVQ-13).
    pub(crate) fn set_mac(&self, mac: MacAddr) -> bool {
        self.change(|fields| fields.mac = Some(mac))
    }

    /// Takes the link up or down (NET-CFG-05).
    pub(crate) fn set_link(&self, up: bool) -> bool {
        self.change(|fields| {
            fields.passes = up;
            fields.show_link();
        })
    }

    /// The host's interface got or lost its carrier. What passes is up to the host.
    pub(crate) fn set_carrier(&self, up: bool) -> bool {
        self.change(|fields| {
            fields.carrier = up;
            fields.show_link();
        })
    }

    /// Shows a link that is down since its port is lost. Frames that have another port may pass.
    pub(crate) fn lose_link(&self) -> bool {
        self.change(|fields| {
            fields.lost = true;
            fields.show_link();
        })
    }

    /// Shows the link as the VMM has set it last: there is a port again.
    pub(crate) fn regain_link(&self) -> bool {
        self.change(|fields| {
            fields.lost = false;
            fields.show_link();
        })
    }

    /// Tells another MTU, or none where it is not offered. Not while a driver has negotiated it
    /// (NET-CFG-07).
    pub(crate) fn set_mtu(&self, mtu: Option<u16>) -> bool {
        self.change(|fields| fields.mtu = mtu)
    }

    /// Asks for gratuitous packets, or takes the request back once it was answered (NET-CVQ-18).
    pub(crate) fn set_announce(&self, on: bool) -> bool {
        self.change(|fields| fields.status.set(LinkStatus::ANNOUNCE, on))
    }

    /// Shows what is shown now until [`ConfigSpace::thaw`], and no interrupt (DEV-LIFE-19).
    pub(crate) fn freeze(&self) {
        let mut fields = self.lock();
        fields.frozen = Some(self.shown(&fields));
    }

    /// As [`ConfigSpace::freeze`], for a driver that has seen `status` where it suspended the
    /// device: what has changed in between is shown to it by the thaw.
    pub(crate) fn freeze_with(&self, status: LinkStatus) {
        let mut fields = self.lock();
        let seen = Fields { status, ..*fields };
        fields.frozen = Some(self.layout(&seen));
    }

    /// The status field as the driver reads it now.
    pub(crate) fn shown_status(&self) -> LinkStatus {
        let bytes = self.to_bytes();
        LinkStatus::from_bits_truncate(u16::from_le_bytes([bytes[STATUS], bytes[STATUS + 1]]))
    }

    /// Shows what has changed meanwhile. Returns whether the driver is owed an interrupt
    /// (DEV-LIFE-21).
    pub(crate) fn thaw(&self) -> bool {
        let changed = self.change(|fields| fields.frozen = None);
        std::mem::take(&mut self.lock().owed) || changed
    }

    /// Returns whether a configuration interrupt has to wait, and remembers it then.
    pub(crate) fn withholds_interrupt(&self) -> bool {
        let mut fields = self.lock();
        let frozen = fields.frozen.is_some();
        fields.owed |= frozen;
        frozen
    }

    /// Device reset: the configured MAC address, no request. The link is what it is.
    pub(crate) fn reset(&self) -> bool {
        self.change(|fields| {
            (fields.frozen, fields.owed) = (None, false);
            fields.mac = self.configured_mac;
            fields.status.remove(LinkStatus::ANNOUNCE);
        })
    }

    /// Takes over from a device saved at `generation`, so that a driver which reads across the
    /// restore sees a change (DEV-LIFE-08). The link is this host's.
    pub(crate) fn restore(&self, mac: Option<MacAddr>, announce: bool, generation: u32) {
        let mut fields = self.lock();
        fields.mac = mac;
        fields.status.set(LinkStatus::ANNOUNCE, announce);
        fields.generation = generation.wrapping_add(1);
        fields.unread = true;
        (fields.frozen, fields.owed) = (None, false);
    }

    /// Applies `change`; true, and a new generation, if the driver reads something else now.
    fn change(&self, change: impl FnOnce(&mut Fields)) -> bool {
        let mut fields = self.lock();
        let before = self.shown(&fields);
        change(&mut fields);
        let visible = self.shown(&fields) != before;
        if visible && !fields.unread {
            fields.generation = fields.generation.wrapping_add(1);
            fields.unread = true;
        }
        visible
    }

    fn to_bytes(&self) -> [u8; CONFIG_LEN] {
        self.shown(&self.lock())
    }

    fn shown(&self, fields: &Fields) -> [u8; CONFIG_LEN] {
        fields.frozen.unwrap_or_else(|| self.layout(fields))
    }

    /// The wire layout (L2): fields at fixed offsets, little endian.
    fn layout(&self, fields: &Fields) -> [u8; CONFIG_LEN] {
        let mut bytes = [0; CONFIG_LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &fields.mac.unwrap_or_default().bytes());
        if self.offered.contains(Features::VIRTIO_NET_F_STATUS) {
            put(STATUS, &fields.status.bits().to_le_bytes());
        }
        if self.offered.intersects(MULTI_QUEUE) {
            put(8, &self.max_pairs.to_le_bytes());
        }
        if let Some(mtu) = fields.mtu {
            put(10, &mtu.to_le_bytes());
        }
        if self.offered.contains(Features::VIRTIO_NET_F_SPEED_DUPLEX) {
            put(12, &self.speed_mbps.to_le_bytes());
            put(16, &[DUPLEX_FULL]);
        }
        if self.offered.intersects(HASHING) {
            put(17, &[MAX_KEY_LEN]);
            put(20, &HashTypes::all().bits().to_le_bytes());
        }
        if self.offered.contains(Features::VIRTIO_NET_F_RSS) {
            put(18, &MAX_TABLE_LEN.to_le_bytes());
        }
        bytes
    }

    /// A thread that panicked left whole fields behind: each is one assignment.
    fn lock(&self) -> MutexGuard<'_, Fields> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
