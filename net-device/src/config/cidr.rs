//! An address with the length of its network prefix.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;

/// An address of one family and its prefix length in bits, written as `192.0.2.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[serde(bound(
    serialize = "A: fmt::Display + Clone",
    deserialize = "A: FromStr + Copy + Into<IpAddr>"
))]
pub struct Cidr<A> {
    address: A,
    prefix: u8,
}

/// Text that is not an address with a prefix length, of the expected family.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid address with prefix length {0:?}")]
pub struct CidrParseError(String);

impl<A: Copy> Cidr<A> {
    /// The address.
    pub fn address(&self) -> A {
        self.address
    }

    /// The prefix length, at most 32 or 128 bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl<A: fmt::Display> fmt::Display for Cidr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl<A: FromStr + Copy + Into<IpAddr>> FromStr for Cidr<A> {
    type Err = CidrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: A = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let bits = if address.into().is_ipv4() { 32 } else { 128 };
            (prefix <= bits).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| CidrParseError(text.to_owned()))
    }
}

impl<A: fmt::Display> From<Cidr<A>> for String {
    fn from(cidr: Cidr<A>) -> Self {
        cidr.to_string()
    }
}

impl<A: FromStr + Copy + Into<IpAddr>> TryFrom<String> for Cidr<A> {
    type Error = CidrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
