//! Values of an Ethernet header's type.

/// IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// IPv6.
pub(crate) const IPV6: u16 = 0x86dd;
/// A VLAN tag.
pub(crate) const VLAN: u16 = 0x8100;
/// The outer one of several VLAN tags.
pub(crate) const SERVICE_VLAN: u16 = 0x88a8;
