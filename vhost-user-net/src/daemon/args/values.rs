//! Values of options.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use net_device::config::{Cidr, CidrParseError};
use net_device::{Carrier, GsoTrust, LimitScope};

/// A scope by the name that it has in configuration files.
pub(super) fn scope() -> impl TypedValueParser<Value = LimitScope> {
    PossibleValuesParser::new(["device", "queue"]).map(|name| match name.as_str() {
        "queue" => LimitScope::Queue,
        _ => LimitScope::Device,
    })
}

/// Trust by the name that it has in configuration files.
pub(super) fn gso() -> impl TypedValueParser<Value = GsoTrust> {
    PossibleValuesParser::new(["probe", "assume", "trust"]).map(|name| match name.as_str() {
        "assume" => GsoTrust::Assume,
        "trust" => GsoTrust::Trust,
        _ => GsoTrust::Probe,
    })
}

/// A reaction by the name that it has in configuration files.
pub(super) fn carrier() -> impl TypedValueParser<Value = Carrier> {
    PossibleValuesParser::new(["follow", "up"]).map(|name| match name.as_str() {
        "up" => Carrier::Up,
        _ => Carrier::Follow,
    })
}

/// Permission bits in octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let refused = || format!("{text:?} is not a mode in octal from 0 to 777, such as 0660");
    let mode = u32::from_str_radix(text, 8).map_err(|_| refused())?;
    (mode <= 0o777).then_some(mode).ok_or_else(refused)
}

/// An address of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapAddress {
    /// IPv4.
    V4(Cidr<std::net::Ipv4Addr>),
    /// IPv6.
    V6(Cidr<std::net::Ipv6Addr>),
}

impl std::str::FromStr for TapAddress {
    type Err = CidrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self::V4)
            .or_else(|_| text.parse().map(Self::V6))
    }
}
