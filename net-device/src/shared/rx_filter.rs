//! Which received frames the driver wants to see (VirtIO 1.4 §5.1.9.5.1-3, checklist group F).
//!
//! The order of the rules: promiscuous mode passes everything, VLANs included; then the VLAN
//! table; then broadcast, multicast and unicast each by their modes and addresses, where a mode
//! that drops beats one that passes. Rules of a feature that was not negotiated do not exist.

use crate::config::MacAddr;
use crate::features::Features;
use bitflags::bitflags;
use net_queue::FrameFilter;
use net_queue::ctrl::{RxMode, VlanId};
use tap::{FilterRules, Verdict};

#[cfg(test)]
mod tests;

/// Addresses of either kind that are told apart; a longer list lets its whole kind pass
/// (NET-CVQ-14).
pub(crate) const MAC_TABLE_MAX: usize = 64;
// A list that was cut because it is long is taken for a long one.
const _: () = assert!(MAC_TABLE_MAX < net_queue::ctrl::MAX_MACS);
// All lists and the device's own address are told apart in the kernel, too.
const _: () = assert!(2 * MAC_TABLE_MAX < tap::FILTER_ADDRESSES);
/// Words of 64 bits in the table of VLANs.
pub(crate) const VLAN_WORDS: usize = 4096 / 64;

/// First bytes of a frame that a VLAN tag may need; fewer are a frame without tag.
const TAGGED_LEN: usize = 16;
/// EtherType of a VLAN tag (802.1Q). Service tags (802.1ad) are not VLANs of the guest.
const ETH_P_8021Q: u16 = 0x8100;

bitflags! {
    /// Receive modes that are on; bit `n` is command `n` (VirtIO 1.4 §5.1.9.5.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct RxModes: u8 {
        /// Every frame passes.
        const PROMISC = 1 << RxMode::Promisc as u8;
        /// Every multicast passes.
        const ALL_MULTI = 1 << RxMode::AllMulti as u8;
        /// Every unicast passes.
        const ALL_UNI = 1 << RxMode::AllUni as u8;
        /// No multicast passes.
        const NO_MULTI = 1 << RxMode::NoMulti as u8;
        /// No unicast passes.
        const NO_UNI = 1 << RxMode::NoUni as u8;
        /// No broadcast passes.
        const NO_BCAST = 1 << RxMode::NoBcast as u8;
    }
}

impl From<RxMode> for RxModes {
    fn from(mode: RxMode) -> Self {
        Self::from_bits_truncate(1 << mode as u8)
    }
}

/// A list of addresses, or word that there were too many to tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MacList {
    /// At most [`MAC_TABLE_MAX`] addresses.
    Only(Vec<[u8; 6]>),
    /// The driver's list was longer: all pass.
    Overflow,
}

impl Default for MacList {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl From<&[[u8; 6]]> for MacList {
    fn from(macs: &[[u8; 6]]) -> Self {
        if macs.len() > MAC_TABLE_MAX {
            Self::Overflow
        } else {
            Self::Only(macs.to_vec())
        }
    }
}

impl MacList {
    /// The addresses, as far as they are told apart.
    fn macs(&self) -> &[[u8; 6]] {
        match self {
            Self::Only(macs) => macs,
            Self::Overflow => &[],
        }
    }

    /// Returns whether there were too many to tell apart.
    fn overflows(&self) -> bool {
        matches!(self, Self::Overflow)
    }

    fn passes(&self, mac: &[u8; 6]) -> bool {
        match self {
            Self::Only(macs) => macs.contains(mac),
            Self::Overflow => true,
        }
    }
}

/// Everything that a driver sets by commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterTables {
    /// Modes that are on.
    pub(crate) modes: RxModes,
    /// The first list of MAC_TABLE_SET.
    pub(crate) unicast: MacList,
    /// The second one.
    pub(crate) multicast: MacList,
    /// One bit for each VLAN that passes, lowest first.
    pub(crate) vlans: [u64; VLAN_WORDS],
}

impl Default for FilterTables {
    fn default() -> Self {
        Self {
            modes: RxModes::empty(),
            unicast: MacList::default(),
            multicast: MacList::default(),
            vlans: [0; VLAN_WORDS],
        }
    }
}

impl FilterTables {
    /// Further addresses of the driver's station, as far as they are known.
    pub(crate) fn stations(&self) -> Vec<MacAddr> {
        let macs = self.unicast.macs().iter().map(|mac| MacAddr::from(*mac));
        macs.filter(|mac| mac.is_station()).collect()
    }

    /// VLANs that pass, in order. Id 0 is none.
    pub(crate) fn vlan_ids(&self) -> Vec<u16> {
        let passes = |id: &u16| {
            let (word, bit) = vlan_bit(*id);
            self.vlans[word] & bit != 0
        };
        (1..4095).filter(passes).collect()
    }
}

/// Reason for which the driver does not see a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterDrop {
    /// Its VLAN is not in the table (NET-CVQ-16).
    Vlan,
    /// Broadcast is off (NET-CVQ-08).
    Broadcast,
    /// Multicast is off, or not for this group (NET-CVQ-07, NET-CVQ-12).
    Multicast,
    /// Unicast is off, or for another station (NET-CVQ-12).
    Unicast,
}

/// The receive filter of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RxFilter {
    by_address: bool,
    by_vlan: bool,
    mac: Option<[u8; 6]>,
    tables: FilterTables,
}

impl RxFilter {
    /// The filter after a reset: every mode off and every table empty (NET-CVQ-10).
    ///
    /// Without `CTRL_RX` addresses do not matter, without `CTRL_VLAN` tags do not (NET-CVQ-15).
    /// As long as `mac` is not known, all unicast passes.
    pub(crate) fn new(accepted: Features, mac: Option<MacAddr>) -> Self {
        Self {
            by_address: accepted.contains(Features::VIRTIO_NET_F_CTRL_RX),
            by_vlan: accepted.contains(Features::VIRTIO_NET_F_CTRL_VLAN),
            mac: mac.map(MacAddr::bytes),
            tables: FilterTables::default(),
        }
    }

    /// Decides on a frame by its first 18 bytes, or all of a shorter one.
    ///
    /// # Errors
    /// The driver does not want it.
    #[inline]
    pub(crate) fn accepts(&self, head: &[u8]) -> Result<(), FilterDrop> {
        let Some(destination) = head.first_chunk() else {
            return Ok(());
        };
        if self.tables.modes.contains(RxModes::PROMISC) {
            return Ok(());
        }
        if self.by_vlan && !self.vlan_passes(head) {
            return Err(FilterDrop::Vlan);
        }
        self.check_address(destination)
    }

    /// Modes that drop beat those that pass (NET-CVQ-09).
    fn check_address(&self, mac: &[u8; 6]) -> Result<(), FilterDrop> {
        let FilterTables {
            modes,
            unicast,
            multicast,
            ..
        } = &self.tables;
        let (refused, passes, cause) = if *mac == MacAddr::BROADCAST.bytes() {
            (RxModes::NO_BCAST, true, FilterDrop::Broadcast)
        } else if mac[0] & 1 != 0 {
            let passes = modes.contains(RxModes::ALL_MULTI) || multicast.passes(mac);
            (RxModes::NO_MULTI, passes, FilterDrop::Multicast)
        } else {
            let own = self.mac.is_none_or(|own| own == *mac);
            let passes = own || modes.contains(RxModes::ALL_UNI) || unicast.passes(mac);
            (RxModes::NO_UNI, passes, FilterDrop::Unicast)
        };
        if (passes || !self.by_address) && !modes.contains(refused) {
            Ok(())
        } else {
            Err(cause)
        }
    }

    fn vlan_passes(&self, head: &[u8]) -> bool {
        let Some(&[.., type_high, type_low, tag_high, tag_low]) = head.first_chunk::<TAGGED_LEN>()
        else {
            return true;
        };
        let id = u16::from_be_bytes([tag_high, tag_low]) & 0xfff;
        // Id 0 is a priority on a frame of no VLAN.
        let tagged = u16::from_be_bytes([type_high, type_low]) == ETH_P_8021Q && id != 0;
        let (word, bit) = vlan_bit(id);
        !tagged || self.tables.vlans[word] & bit != 0
    }

    /// The same filter as rules for the kernel.
    pub(crate) fn kernel_rules(&self) -> FilterRules {
        let FilterTables {
            modes,
            unicast,
            multicast,
            vlans,
        } = &self.tables;
        if modes.contains(RxModes::PROMISC) {
            return FilterRules::default();
        }
        let verdict = |refused, passes| match (modes.contains(refused), passes) {
            (true, _) => Verdict::Drop,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Listed,
        };
        let all_multicast = modes.contains(RxModes::ALL_MULTI) || multicast.overflows();
        let all_unicast = modes.contains(RxModes::ALL_UNI) || unicast.overflows();
        let is_group = |mac: &&[u8; 6]| mac[0] & 1 != 0;
        let stations = unicast.macs().iter().filter(|mac| !is_group(mac));
        let groups = multicast.macs().iter().filter(is_group);
        FilterRules {
            broadcast: verdict(RxModes::NO_BCAST, true),
            multicast: verdict(RxModes::NO_MULTI, !self.by_address || all_multicast),
            unicast: verdict(
                RxModes::NO_UNI,
                !self.by_address || all_unicast || self.mac.is_none(),
            ),
            addresses: stations.chain(groups).chain(&self.mac).copied().collect(),
            vlans: self.by_vlan.then_some(*vlans),
        }
    }

    /// Switches a mode (NET-CVQ-07, NET-CVQ-08).
    pub(crate) fn set_mode(&mut self, mode: RxMode, on: bool) {
        self.tables.modes.set(mode.into(), on);
    }

    /// Replaces both address lists (NET-CVQ-10, NET-CVQ-11).
    pub(crate) fn set_mac_table(&mut self, unicast: &[[u8; 6]], multicast: &[[u8; 6]]) {
        self.tables.unicast = unicast.into();
        self.tables.multicast = multicast.into();
    }

    /// Follows the MAC address of the device (NET-CVQ-13).
    pub(crate) fn set_mac(&mut self, mac: MacAddr) {
        self.mac = Some(mac.bytes());
    }

    /// Lets a VLAN pass, or no longer (NET-CVQ-16).
    pub(crate) fn set_vlan(&mut self, id: VlanId, passes: bool) {
        let (word, bit) = vlan_bit(id.get());
        if passes {
            self.tables.vlans[word] |= bit;
        } else {
            self.tables.vlans[word] &= !bit;
        }
    }

    /// Tables that the driver has set, to be saved.
    pub(crate) fn tables(&self) -> &FilterTables {
        &self.tables
    }

    /// Takes over what was saved.
    pub(crate) fn set_tables(&mut self, tables: FilterTables) {
        self.tables = tables;
    }
}

impl FrameFilter for RxFilter {
    fn admit(&self, head: &[u8]) -> bool {
        self.accepts(head).is_ok()
    }
}

/// Word and bit of the table for an id below 4096.
fn vlan_bit(id: u16) -> (usize, u64) {
    (usize::from(id / 64) % VLAN_WORDS, 1 << (id % 64))
}
