//! The check that turns what the other side wrote into a header that can be used.

use super::error::HdrError;
use super::ethertype;
use super::gso::{self, Segmented};
use super::net_hdr::{Direction, ETH_HDR_LEN, NetHdr, RawHdr, flags};
use super::tunnel::Tunnel;
use crate::offload::Offloads;

/// Linux takes no checksum that starts within the first bytes of a frame, as many as the shortest
/// IPv4 header has.
const MIN_CSUM_START: u16 = 20;
/// Linux keeps headroom and `csum_start` in one 16-bit sum; above this it refuses the frame.
const MAX_L4_START: u16 = 0xffff - 1024;

/// Flags of a header that says that something is left to be done: `NEEDS_CSUM` and
/// `UDP_TUNNEL_CSUM`.
const UNDONE: u8 = 9;

/// Contents that a driver may put into a transmit header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxRules {
    offloads: Offloads,
    completes: bool,
}

impl TxRules {
    /// Rules for a driver that negotiated `offloads` (`CSUM`, `HOST_*`).
    pub const fn new(offloads: Offloads) -> Self {
        Self {
            offloads,
            completes: false,
        }
    }

    /// The same over a backend that takes no partial checksum: the engine completes that of each
    /// frame which is not to be segmented (NET-HDR-03).
    #[must_use]
    pub const fn completing(self) -> Self {
        Self {
            completes: true,
            ..self
        }
    }

    /// The same for a driver that may ask for `offloads`, too.
    pub(crate) const fn with(self, offloads: Offloads) -> Self {
        Self {
            offloads: self.offloads.union(offloads),
            ..self
        }
    }

    /// Returns whether the engine is to complete partial checksums.
    pub(crate) const fn completes(self) -> bool {
        self.completes
    }
}

/// Contents that a backend may put into a receive header for this driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxRules {
    offloads: Offloads,
}

impl RxRules {
    /// Rules for a driver that takes `offloads` now (`GUEST_*` less what it switched off).
    pub const fn new(offloads: Offloads) -> Self {
        Self { offloads }
    }
}

impl NetHdr {
    /// Checks what a driver wrote in front of a frame of `frame_len` bytes (header not counted).
    ///
    /// Unknown flags, `DATA_VALID` and `num_buffers` are cleared, `hdr_len` is kept only as a hint
    /// of at most the frame's length. At least as strict as Linux's tap. A header of which only the
    /// base came has no offsets of a tunnel, and its frame is refused if it needs them.
    /// VirtIO 1.4 §5.1.9.2.1, §5.1.9.2.2 (NET-HDR-01..17, NET-TX-05, NET-TX-07).
    ///
    /// # Errors
    /// The frame is to be dropped and counted under the returned cause.
    #[inline(always)]
    pub fn check_tx(raw: &RawHdr, frame_len: u32, rules: TxRules) -> Result<Self, HdrError> {
        let raw = raw.fields();
        let plain = Self::plain(raw.flags() & flags::NEEDS_CSUM, 0);
        Self::check(raw, plain, frame_len, Direction::Transmit, rules.offloads)
    }

    /// Checks what a backend wrote in front of a frame of `frame_len` bytes (header not counted).
    ///
    /// A driver without `GUEST_CSUM` sees no flag at all: `DATA_VALID` is cleared, a frame that
    /// still needs its checksum is refused; [`RxEngine`](crate::RxEngine) completes that first.
    /// `num_buffers` is 1 until [`Self::set_num_buffers`]. Of tunnels the same holds as on
    /// transmit. VirtIO 1.4 §5.1.9.4.1 (NET-HDR-20..22, NET-HDR-24, NET-HDR-25, NET-HDR-28,
    /// NET-HDR-29, NET-RX-01).
    ///
    /// # Errors
    /// The driver must not see this frame: drop it and count it under the returned cause.
    #[inline(always)]
    pub fn check_rx(raw: &RawHdr, frame_len: u32, rules: RxRules) -> Result<Self, HdrError> {
        let seen = if rules.offloads.contains(Offloads::CSUM) {
            flags::CSUM
        } else {
            flags::NEEDS_CSUM
        };
        let raw = raw.fields();
        let plain = Self::plain(raw.flags() & seen, 1);
        Self::check(raw, plain, frame_len, Direction::Receive, rules.offloads)
    }

    /// Checks that a driver takes this GSO type for a frame of `ethertype`, the one behind all VLAN
    /// tags: one type stands for UDP over either family (NET-HDR-21).
    ///
    /// # Errors
    /// [`HdrError::GsoFamily`]: the driver must not see this frame.
    pub fn check_family(self, ethertype: Option<u16>, rules: RxRules) -> Result<(), HdrError> {
        let needed = match ethertype {
            _ if self.gso_type() != gso::UDP_L4 => return Ok(()),
            Some(ethertype::IPV4) => Offloads::USO4,
            Some(ethertype::IPV6) => Offloads::USO6,
            _ => return Err(HdrError::GsoFamily),
        };
        if rules.offloads.contains(needed) {
            Ok(())
        } else {
            Err(HdrError::GsoFamily)
        }
    }

    /// Both directions: `plain` is all that is left of the header when nothing is to be done to the
    /// frame.
    #[inline(always)]
    fn check(
        raw: Self,
        plain: Self,
        frame_len: u32,
        direction: Direction,
        on: Offloads,
    ) -> Result<Self, HdrError> {
        if frame_len < ETH_HDR_LEN {
            return Err(HdrError::ShortFrame);
        }
        if raw.flags() & UNDONE != 0 || raw.gso_type() != gso::NONE {
            return Self::check_offload(raw, plain, frame_len, direction, on);
        }
        Ok(plain)
    }

    /// The slow half: something is left to be done to the frame.
    #[inline(never)]
    fn check_offload(
        raw: Self,
        plain: Self,
        frame_len: u32,
        direction: Direction,
        on: Offloads,
    ) -> Result<Self, HdrError> {
        let tunnel = Tunnel::of(raw, direction, on)?;
        let inner_type = raw.gso_type() & !gso::UDP_TUNNEL;
        let segmented = Segmented::of(inner_type)?;
        if segmented.is_some_and(|gso| !gso.allowed(inner_type, on)) {
            return Err(HdrError::GsoNotNegotiated);
        }
        if plain.flags() & flags::NEEDS_CSUM == 0 {
            return match segmented {
                Some(_) => Err(HdrError::GsoWithoutCsum),
                None => Ok(plain),
            };
        }
        if !on.contains(Offloads::CSUM) {
            return Err(HdrError::CsumNotNegotiated);
        }
        let (csum_start, csum_offset) = (raw.csum_start(), raw.csum_offset());
        let end = u32::from(csum_start) + u32::from(csum_offset) + 2;
        if end > frame_len || !(MIN_CSUM_START..=MAX_L4_START).contains(&csum_start) {
            return Err(HdrError::CsumRange);
        }
        let partial = Self {
            low: plain.low | u64::from(csum_start) << 48,
            high: plain.high | u64::from(csum_offset),
        };
        let Some(segmented) = segmented else {
            return Ok(partial);
        };
        segmented.check(raw, frame_len)?;
        let partial = match tunnel {
            Some(tunnel) => tunnel.check(raw, partial)?,
            None => partial,
        };
        let hdr_len = u32::from(raw.hdr_len()).min(frame_len) as u16;
        Ok(partial.segmented(raw.gso_type(), hdr_len, raw.gso_size()))
    }
}
