//! The rules for frames that are to be segmented inside a tunnel over UDP, such as VXLAN or Geneve:
//! the packet in the tunnel is cut, and each segment gets a copy of all headers in front of it.
//!
//! ```text
//!   Ethernet, tags | IP | UDP, tunnel, Ethernet … | IP              | TCP or UDP | payload
//!                       ^ outer_th_offset           ^ inner_nh_offset ^ csum_start
//! ```
//!
//! These lines come before those of the table in `header/gso.rs`, which hold for the inner packet.
//!
//! | flags | gso_type | becomes | because |
//! |---|---|---|---|
//! | any | a tunnel bit without its feature | [`GsoNotNegotiated`] | NET-HDR-17, NET-HDR-28 |
//! | `UDP_TUNNEL_CSUM` without its feature | a tunnel bit | [`GsoNotNegotiated`] | NET-HDR-29 |
//! | any | both tunnel bits | [`GsoTunnel`] | NET-HDR-13 |
//! | any | a tunnel bit, and none or UFO inside | [`GsoTunnel`] | NET-HDR-14; the kernel refuses it, too |
//! | `NEEDS_CSUM` clear, or `DATA_VALID` | a tunnel bit | [`GsoTunnel`] | NET-HDR-14, NET-HDR-24 |
//! | any, offsets out of order or too close | a tunnel bit | [`GsoTunnel`] | NET-HDR-17: the kernel refuses it, too |
//! | `UDP_TUNNEL_CSUM` with its feature | no tunnel bit | transmit: [`GsoTunnel`] | NET-HDR-15 |
//! | the same | no tunnel bit | receive: cleared | it says that both checksums are verified, of which the driver learns one |
//!
//! The specification says that the tunnel bits tell the family of the inner packet, and Linux uses
//! them for that of the outer one. Here they matter for the least length of the outer header alone,
//! as they do to Linux.
//!
//! [`GsoNotNegotiated`]: HdrError::GsoNotNegotiated
//! [`GsoTunnel`]: HdrError::GsoTunnel

use super::error::HdrError;
use super::gso;
use super::net_hdr::{Direction, ETH_HDR_LEN, NetHdr, flags};
use crate::offload::Offloads;

/// Bytes of the shortest IP header of either version.
const IPV4: u16 = 20;
const IPV6: u16 = 40;
/// Bytes of a UDP header.
const UDP: u16 = 8;

/// Frame that is in a tunnel, by the type and the flags of its header.
#[derive(Clone, Copy)]
pub(super) struct Tunnel {
    /// The checksum of each segment's outer UDP header is to be completed.
    csum: bool,
}

impl Tunnel {
    /// Reads the type and the flags of `raw`; `None` without a tunnel.
    pub(super) fn of(
        raw: NetHdr,
        direction: Direction,
        on: Offloads,
    ) -> Result<Option<Self>, HdrError> {
        let bits = raw.gso_type() & gso::UDP_TUNNEL;
        let csum = raw.flags() & flags::UDP_TUNNEL_CSUM != 0;
        if bits == 0 {
            let sent = direction == Direction::Transmit;
            return if csum && sent && on.contains(Offloads::UDP_TUNNEL_CSUM) {
                Err(HdrError::GsoTunnel)
            } else {
                Ok(None)
            };
        }
        let on_with_csum = !csum || on.contains(Offloads::UDP_TUNNEL_CSUM);
        if !on.contains(Offloads::UDP_TUNNEL) || !on_with_csum {
            return Err(HdrError::GsoNotNegotiated);
        }
        let inner = raw.gso_type() & !gso::BESIDE_TYPE;
        let undone = raw.flags() & flags::CSUM;
        if bits == gso::UDP_TUNNEL
            || matches!(inner, gso::NONE | gso::UDP)
            || undone != flags::NEEDS_CSUM
        {
            return Err(HdrError::GsoTunnel);
        }
        Ok(Some(Self { csum }))
    }

    /// The checked header `partial` with the tunnel's fields of `raw`.
    pub(super) fn check(self, raw: NetHdr, partial: NetHdr) -> Result<NetHdr, HdrError> {
        let (outer_th, inner_nh) = (raw.outer_th_offset(), raw.inner_nh_offset());
        let outer_ip = match raw.gso_type() & gso::UDP_TUNNEL {
            gso::UDP_TUNNEL_IPV6 => IPV6,
            _ => IPV4,
        };
        let inner_ip = match raw.gso_type() & !gso::BESIDE_TYPE {
            gso::TCPV6 => IPV6,
            // Of UDP only the packet says it.
            _ => IPV4,
        };
        let fits = |from: u16, len: u16, to: u16| from.checked_add(len).is_some_and(|it| it <= to);
        if !fits(ETH_HDR_LEN as u16, outer_ip, outer_th)
            || !fits(outer_th, UDP, inner_nh)
            || !fits(inner_nh, inner_ip, partial.csum_start())
        {
            return Err(HdrError::GsoTunnel);
        }
        let csum = if self.csum { flags::UDP_TUNNEL_CSUM } else { 0 };
        Ok(NetHdr {
            low: partial.low | u64::from(csum),
            high: partial.high | u64::from(outer_th) << 32 | u64::from(inner_nh) << 48,
        })
    }
}
