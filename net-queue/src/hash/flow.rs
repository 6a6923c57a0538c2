//! The fields of a frame that tell its flow. VirtIO 1.4 §5.1.9.4.3.2-4.
//!
//! Nothing is believed but the bytes that are there: a header that is cut, or that lies behind the
//! bytes that were handed in, is none (NET-MQ-23). A chain of IPv6 extension headers ends with
//! them, too, since each takes eight bytes or more (NET-MQ-14).
//!
//! A fragment has no transport header, not even the first one: all fragments of a packet have to
//! reach the same queue.

use crate::header::ethertype;
use crate::header::packet::{NOT_WHOLE, TCP, UDP, link_len, word};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM: u8 = 140;

/// IPv6 fragment header: offset, and the bit "more fragments".
const FRAGMENT_FIELDS: u16 = 0xfff9;
/// Type of a routing header that holds a mobile node's home address (RFC 6275).
const HOME_ROUTE: u8 = 2;
/// Destination options: padding of a byte, and the home address of a mobile node (RFC 6275).
const PAD1: u8 = 0;
const HOME_ADDRESS: u8 = 0xc9;

/// Protocol of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// Addresses of a packet, as they stand in its header: the source's, then the destination's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses<'a> {
    V4(&'a [u8; 8]),
    V6(&'a [u8; 32]),
}

/// The flow of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow<'a> {
    pub(super) addresses: Addresses<'a>,
    /// Its IPv6 extension headers, if it has any.
    pub(super) extensions: Option<Extensions<'a>>,
    /// Source and destination port.
    pub(super) ports: Option<(Protocol, &'a [u8; 4])>,
}

/// Addresses in IPv6 extension headers that stand for those of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions<'a> {
    /// Home address of a mobile sender.
    pub(super) source: Option<&'a [u8; 16]>,
    /// Home address of a mobile receiver.
    pub(super) destination: Option<&'a [u8; 16]>,
}

impl<'a> Flow<'a> {
    /// The flow of a frame that begins with `head`; `None` if it is not an IP packet.
    #[inline]
    pub(super) fn of(head: &'a [u8]) -> Option<Self> {
        let ip = link_len(head);
        let kind = word(head, ip - 2)?;
        let packet = head.get(ip..)?;
        match kind {
            ethertype::IPV4 => Self::ipv4(packet),
            ethertype::IPV6 => Self::ipv6(packet),
            _ => None,
        }
    }

    #[inline]
    fn ipv4(packet: &'a [u8]) -> Option<Self> {
        let header = packet.first_chunk::<20>()?;
        let len = usize::from(header[0] & 15) * 4;
        if header[0] >> 4 != 4 || len < header.len() {
            return None;
        }
        let whole = u16::from_be_bytes([header[6], header[7]]) & NOT_WHOLE == 0;
        let ports = whole.then(|| ports(header[9], packet.get(len..)?));
        Some(Self {
            addresses: Addresses::V4(header[12..].first_chunk()?),
            extensions: None,
            ports: ports.flatten(),
        })
    }

    #[inline]
    fn ipv6(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<40>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let addresses = Addresses::V6(header[8..].first_chunk()?);
        let next = header[6];
        if matches!(next, TCP | UDP) {
            return Some(Self {
                addresses,
                extensions: None,
                ports: ports(next, rest),
            });
        }
        Some(Self::behind_extensions(addresses, next, rest))
    }

    /// The flow of an IPv6 packet whose first header is `next`, at the start of `rest`.
    #[cold]
    fn behind_extensions(addresses: Addresses<'a>, mut next: u8, mut rest: &'a [u8]) -> Self {
        let mut found = Extensions::default();
        let mut any = false;
        let mut whole = true;
        while let Some(len) = extension_len(next, rest) {
            any = true;
            if next == FRAGMENT && word(rest, 2).is_some_and(|it| it & FRAGMENT_FIELDS != 0) {
                // Behind it lies a part of something.
                whole = false;
                break;
            }
            let Some((extension, behind)) = rest.split_at_checked(len) else {
                whole = false;
                break;
            };
            match next {
                ROUTING if extension[2] == HOME_ROUTE => {
                    found.destination = found.destination.or(home_route(extension));
                }
                DESTINATION => found.source = found.source.or(home_address(extension)),
                _ => {}
            }
            (next, rest) = (extension[0], behind);
        }
        let ports = whole.then(|| ports(next, rest));
        Self {
            addresses,
            extensions: any.then_some(found),
            ports: ports.flatten(),
        }
    }
}

/// Ports of the transport header at the start of `rest`, if a whole one of `protocol` is there.
#[inline]
fn ports(protocol: u8, rest: &[u8]) -> Option<(Protocol, &[u8; 4])> {
    let (protocol, len) = match protocol {
        TCP => (Protocol::Tcp, 20),
        UDP => (Protocol::Udp, 8),
        _ => return None,
    };
    let header = rest.get(..len)?;
    Some((protocol, header.first_chunk()?))
}

/// Bytes of the extension header `kind` at the start of `rest`; `None` if there is no such header
/// or not even its length.
fn extension_len(kind: u8, rest: &[u8]) -> Option<usize> {
    let [_, len, _, _, ..] = *rest else {
        return None;
    };
    match kind {
        HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM => {
            Some((usize::from(len) + 1) * 8)
        }
        AUTHENTICATION => Some((usize::from(len) + 2) * 4),
        FRAGMENT => Some(8),
        _ => None,
    }
}

/// The address in a routing header of the type for it, whose one segment is left.
fn home_route(extension: &[u8]) -> Option<&[u8; 16]> {
    let one_left = extension.len() == 24 && extension[3] == 1;
    one_left.then(|| extension.last_chunk())?
}

/// The address in destination options.
fn home_address(extension: &[u8]) -> Option<&[u8; 16]> {
    let mut options = extension.get(2..)?;
    loop {
        options = match *options {
            [PAD1, ref rest @ ..] => rest,
            [kind, len, ref rest @ ..] => {
                let (data, rest) = rest.split_at_checked(len.into())?;
                match data.try_into() {
                    Ok(address) if kind == HOME_ADDRESS => return Some(address),
                    _ => rest,
                }
            }
            _ => return None,
        }
    }
}
