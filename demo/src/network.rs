//! Addresses and names of the private network.

use std::net::Ipv4Addr;

pub(super) const TAP: &str = "tap0";
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub(super) const PREFIX: u8 = 24;
pub(super) const MTU: u16 = 1500;
