//! Usual packets: the flow of one, and the keys for those of one kind.
#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        reason = "no other processor is asked whether it multiplies so"
    )
)]

use super::flow::Protocol;
use super::types::HashReport;
use crate::header::ethertype;
use crate::header::packet::{NOT_WHOLE, TCP, UDP};

/// Bytes that the addresses and ports of a usual packet end in.
pub(crate) const USUAL_HEAD: usize = 58;

/// EtherType, version and header length of an IPv4 packet without options.
const IPV4_START: u32 = (ethertype::IPV4 as u32) << 8 | 0x45;
/// EtherType and version of an IPv6 packet.
const IPV6_START: u32 = (ethertype::IPV6 as u32) << 4 | 6;

/// Bytes of a TCP header.
const TRANSPORT: usize = 20;

/// Those of all kinds, as [`UsualFlow::KINDS`] has them.
pub(super) type UsualKinds = [UsualKind; UsualFlow::KINDS.len()];

/// Hash of packets of one kind: the parts that count, and the key, which is zero if none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct UsualKind {
    /// Bit `n` of the key is bit `(n + 1) % 8` of byte `(n + 1) / 8`.
    pub(super) key: [[u8; 16]; 3],
    /// All ones if ports count.
    pub(super) ports: u64,
    pub(super) report: HashReport,
}

/// Flow of a usual packet.
pub(super) struct UsualFlow<'a> {
    /// Number of its addresses' version and its protocol, as those of [`UsualFlow::KINDS`].
    pub(super) kind: usize,
    pub(super) input: UsualInput<'a>,
}

/// Addresses and ports.
pub(super) enum UsualInput<'a> {
    V4(&'a [u8; 8], &'a [u8; 4]),
    V6(&'a [[u8; 16]; 2], &'a [u8; 4]),
}

impl<'a> UsualFlow<'a> {
    /// All kinds: whether the addresses are IPv6's, and the protocol.
    pub(super) const KINDS: [(bool, Protocol); 4] = [
        (false, Protocol::Tcp),
        (false, Protocol::Udp),
        (true, Protocol::Tcp),
        (true, Protocol::Udp),
    ];

    /// The flow of a frame of `len` bytes that begins with `head`, if it is one of these, and has a
    /// whole TCP header or as many bytes.
    #[inline(always)]
    pub(super) fn of(head: &'a [u8; USUAL_HEAD], len: usize) -> Option<Self> {
        let start = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        if start >> 12 == IPV6_START {
            let addresses = head[22..].as_chunks().0.first_chunk()?;
            let input = UsualInput::V6(addresses, head[54..].first_chunk()?);
            let kind = 2 + number(head[20])?;
            (len >= 54 + TRANSPORT).then_some(Self { kind, input })
        } else if start >> 8 == IPV4_START {
            let input = UsualInput::V4(head[26..].first_chunk()?, head[34..].first_chunk()?);
            let whole = u16::from_be_bytes([head[20], head[21]]) & NOT_WHOLE == 0;
            let kind = number(whole.then_some(head[23])?)?;
            (len >= 34 + TRANSPORT).then_some(Self { kind, input })
        } else {
            None
        }
    }
}

/// Number of a protocol with ports.
#[inline(always)]
fn number(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(0),
        UDP => Some(1),
        _ => None,
    }
}
