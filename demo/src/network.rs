//! Addresses and names of the private network.

use std::net::Ipv4Addr;

/// Taps are numbered from 0; there is another one for each time that the device moves.
pub(super) const TAP: &str = "tap";
/// MAC address of the host's end, the same for every tap: a guest keeps it while it moves.
pub(super) const HOST_MAC: [u8; 6] = [0x02, 0, 0x0a, 0, 0x02, 0x01];
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub(super) const PREFIX: u8 = 24;
pub(super) const MTU: u16 = 1500;
