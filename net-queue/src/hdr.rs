//! The virtio network header: raw bytes in, one check, a typed value out.
//!
//! [`RawHdr`] is what the other side wrote; nothing may be decided from it. [`NetHdr`] exists only
//! as the result of [`NetHdr::check_tx`] or [`NetHdr::check_rx`], holds a private copy that was
//! sanitised, and is what a backend or a driver gets to see. So a header cannot change between
//! check and use, and a field that passes here needs no second look (VirtIO 1.4 §5.1.9,
//! checklist group E).
//!
//! A checked header satisfies: no flag but the ones negotiated; checksum fields zero unless
//! `NEEDS_CSUM` is set and inside the frame if it is; a GSO type only if its offload is on, and
//! then with `NEEDS_CSUM`, a usable segment size, whole headers and a bounded number of segments.
//! Which combinations pass, and why others do not, is the table in `hdr/rules.rs`.

pub(crate) mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::offload::Offloads;
use rules::Segmented;
use thiserror::Error;

/// Bytes of the header that every modern driver and device share (VirtIO 1.4 §5.1.9, L1).
pub const HDR_LEN: usize = 12;
/// Bytes of the longest header [`RawHdr`] can hold.
pub const HDR_MAX: usize = 24;
/// Stream offset of `num_buffers` (VirtIO 1.4 §5.1.9, L1).
pub const NUM_BUFFERS_OFFSET: usize = 10;
/// Bytes of an Ethernet header: a shorter frame goes nowhere.
pub const ETH_HDR_LEN: u32 = 14;
/// Most segments that one frame may ask for (NET-HDR-11).
///
/// The smallest segment Linux TCP sends carries 36 bytes (MSS 48 less timestamps), which needs
/// 1820 segments for 64 KiB; a driver that asks for more only wants work done for nothing.
pub const MAX_GSO_SEGMENTS: u32 = 2048;
/// Most datagrams that one frame may become: Linux takes no more (NET-HDR-11).
pub const MAX_UDP_SEGMENTS: u32 = 128;

/// Values of `flags` (VirtIO 1.4 §5.1.9).
pub mod flags {
    /// The checksum from `csum_start` on is to be completed.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum was verified (receive only).
    pub const DATA_VALID: u8 = 2;
}

/// Values of `gso_type` (VirtIO 1.4 §5.1.9).
pub mod gso {
    /// Not to be segmented.
    pub const NONE: u8 = 0;
    /// TCP over IPv4.
    pub const TCPV4: u8 = 1;
    /// UDP, to be fragmented at the IP level.
    pub const UDP: u8 = 3;
    /// TCP over IPv6.
    pub const TCPV6: u8 = 4;
    /// UDP, to be cut into datagrams.
    pub const UDP_L4: u8 = 5;
    /// Bit: the TCP frame carries congestion marks.
    pub const ECN: u8 = 0x80;
}

/// Values of an Ethernet header's type.
pub(crate) mod ethertype {
    /// IPv4.
    pub(crate) const IPV4: u16 = 0x0800;
    /// IPv6.
    pub(crate) const IPV6: u16 = 0x86dd;
    /// A VLAN tag.
    pub(crate) const VLAN: u16 = 0x8100;
    /// The outer one of several VLAN tags.
    pub(crate) const SERVICE_VLAN: u16 = 0x88a8;
}

/// Linux takes no checksum that starts within the first bytes of a frame, as many as the shortest IPv4 header has.
const MIN_CSUM_START: u16 = 20;
/// Linux keeps headroom and `csum_start` in one 16-bit sum; above this it refuses the frame.
const MAX_L4_START: u16 = 0xffff - 1024;

/// How long the header in front of each frame is; follows from the negotiated features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum HdrSize {
    /// 12 bytes.
    #[default]
    Base = 12,
    /// 20 bytes: `HASH_REPORT` adds hash value and type.
    HashReport = 20,
    /// 24 bytes: UDP tunnel GSO adds two offsets behind the hash.
    Tunnel = 24,
}

impl HdrSize {
    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        self as usize
    }
}

/// A header as it came: private bytes, unchecked.
#[derive(Clone, Copy, Debug)]
pub struct RawHdr {
    bytes: [u8; HDR_MAX],
    size: HdrSize,
}

impl RawHdr {
    /// An all-zero header of `size`.
    #[inline]
    pub const fn new(size: HdrSize) -> Self {
        Self {
            bytes: [0; HDR_MAX],
            size,
        }
    }

    /// The bytes that count, as many as the size says.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.size.bytes()]
    }

    /// The same bytes, to be filled.
    #[inline]
    pub fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.size.bytes()]
    }

    /// The base header, unchecked, as it travels within this module.
    #[inline]
    const fn base(&self) -> NetHdr {
        let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, ..] = self.bytes;
        NetHdr {
            low: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            high: u32::from_le_bytes([b8, b9, b10, b11]),
        }
    }
}

impl RawHdr {
    /// The same with a partial checksum in a frame whose headers have `hdr_len` bytes.
    pub(crate) fn with_partial_csum(
        mut self,
        hdr_len: u16,
        csum_start: u16,
        csum_offset: u16,
    ) -> Self {
        self.bytes[0] = self.bytes[0] & !flags::DATA_VALID | flags::NEEDS_CSUM;
        for (at, value) in [(2, hdr_len), (6, csum_start), (8, csum_offset)] {
            self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        self
    }

    /// The unchecked `gso_type`.
    pub(crate) const fn gso_type(&self) -> u8 {
        self.bytes[1]
    }
}

impl From<[u8; HDR_LEN]> for RawHdr {
    fn from(base: [u8; HDR_LEN]) -> Self {
        let mut raw = Self::new(HdrSize::Base);
        raw.bytes[..HDR_LEN].copy_from_slice(&base);
        raw
    }
}

/// What a driver may put into a transmit header.
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

    /// The same over a backend that takes no partial checksum: the engine completes that of each frame which is
    /// not to be segmented (NET-HDR-03).
    #[must_use]
    pub const fn completing(self) -> Self {
        Self {
            completes: true,
            ..self
        }
    }

    /// Whether the engine is to complete partial checksums.
    pub(crate) const fn completes(self) -> bool {
        self.completes
    }
}

/// What a backend may put into a receive header for this driver.
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

/// Why a header, and with it its frame, was refused. Every variant is a drop cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[repr(u8)]
pub enum HdrError {
    /// The frame is shorter than an Ethernet header (NET-TX-07).
    #[error("frame shorter than an Ethernet header")]
    ShortFrame,
    /// `NEEDS_CSUM` without the feature (NET-HDR-06, NET-HDR-20).
    #[error("partial checksum without the feature")]
    CsumNotNegotiated,
    /// Checksum fields point outside the frame or into its network header (NET-HDR-05).
    #[error("checksum fields outside the frame")]
    CsumRange,
    /// Undefined `gso_type` (NET-HDR-10).
    #[error("undefined gso type")]
    GsoUnknown,
    /// GSO type or ECN bit without its feature (NET-HDR-10, -11, -21, -25).
    #[error("gso type without its feature")]
    GsoNotNegotiated,
    /// GSO without `NEEDS_CSUM` (NET-HDR-11, NET-HDR-22). The engines set it where the frame's headers say where
    /// its checksum is, and drop it under this cause where they do not.
    #[error("gso without a partial checksum")]
    GsoWithoutCsum,
    /// `gso_size` is zero or reserved (NET-HDR-11, NET-HDR-22).
    #[error("unusable gso size")]
    GsoSize,
    /// `gso_size` so small that the frame would become too many segments (NET-HDR-11).
    #[error("gso size too small for the frame")]
    GsoSegments,
    /// Checksum fields that do not fit the transport protocol of the GSO type, or a frame too
    /// short for its headers (NET-HDR-12).
    #[error("gso headers do not fit the frame")]
    GsoHeaders,
    /// A GSO type that covers two families, with a frame of the one that is off (NET-HDR-21).
    #[error("gso type of a family without its feature")]
    GsoFamily,
}

impl HdrError {
    /// All causes, in counter order: `ALL[cause as usize] == cause`.
    pub const ALL: [Self; 10] = [
        Self::ShortFrame,
        Self::CsumNotNegotiated,
        Self::CsumRange,
        Self::GsoUnknown,
        Self::GsoNotNegotiated,
        Self::GsoWithoutCsum,
        Self::GsoSize,
        Self::GsoSegments,
        Self::GsoHeaders,
        Self::GsoFamily,
    ];

    /// The name a counter has after its direction.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShortFrame => "short_frame",
            Self::CsumNotNegotiated => "csum_not_negotiated",
            Self::CsumRange => "csum_range",
            Self::GsoUnknown => "gso_unknown",
            Self::GsoNotNegotiated => "gso_not_negotiated",
            Self::GsoWithoutCsum => "gso_without_csum",
            Self::GsoSize => "gso_size",
            Self::GsoSegments => "gso_segments",
            Self::GsoHeaders => "gso_headers",
            Self::GsoFamily => "gso_family",
        }
    }
}

/// A checked header, every field of it sanitised.
///
/// It is kept as the words that it has on the wire: fields stored one by one and read back as a whole would make the
/// CPU wait, for each frame.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct NetHdr {
    /// From the lowest byte on: `flags`, `gso_type`, `hdr_len`, `gso_size`, `csum_start`.
    low: u64,
    /// `csum_offset`, `num_buffers`.
    high: u32,
}

impl fmt::Debug for NetHdr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetHdr")
            .field("flags", &self.flags())
            .field("gso_type", &self.gso_type())
            .field("hdr_len", &self.hdr_len())
            .field("gso_size", &self.gso_size())
            .field("csum_start", &self.csum_start())
            .field("csum_offset", &self.csum_offset())
            .field("num_buffers", &self.num_buffers())
            .finish()
    }
}

impl NetHdr {
    /// The header of a complete frame: nothing is left to be done.
    pub const PLAIN: Self = Self { low: 0, high: 0 };

    /// With these flags and number of buffers, nothing else.
    #[inline]
    const fn plain(flags: u8, num_buffers: u16) -> Self {
        Self {
            low: flags as u64,
            high: (num_buffers as u32) << 16,
        }
    }

    /// Checks what a driver wrote in front of a frame of `frame_len` bytes (header not counted).
    ///
    /// Unknown flags, `DATA_VALID` and `num_buffers` are cleared, `hdr_len` is kept only as a hint
    /// of at most the frame's length. At least as strict as Linux's tap.
    /// VirtIO 1.4 §5.1.9.2.1, §5.1.9.2.2 (NET-HDR-01..12, NET-TX-05, NET-TX-07).
    ///
    /// # Errors
    /// The frame is to be dropped and counted under the returned cause.
    #[inline(always)]
    pub fn check_tx(raw: &RawHdr, frame_len: u32, rules: TxRules) -> Result<Self, HdrError> {
        let raw = raw.base();
        let plain = Self::plain(raw.flags() & flags::NEEDS_CSUM, 0);
        Self::check(raw, plain, frame_len, rules.offloads)
    }

    /// Checks what a backend wrote in front of a frame of `frame_len` bytes (header not counted).
    ///
    /// A driver without `GUEST_CSUM` sees no flag at all: `DATA_VALID` is cleared, a frame that
    /// still needs its checksum is refused; [`RxEngine`](crate::RxEngine) completes that first. `num_buffers` is 1 until [`Self::set_num_buffers`].
    /// VirtIO 1.4 §5.1.9.4.1 (NET-HDR-20..22, NET-HDR-25, NET-RX-01).
    ///
    /// # Errors
    /// The driver must not see this frame: drop it and count it under the returned cause.
    #[inline(always)]
    pub fn check_rx(raw: &RawHdr, frame_len: u32, rules: RxRules) -> Result<Self, HdrError> {
        let seen = if rules.offloads.contains(Offloads::CSUM) {
            flags::NEEDS_CSUM | flags::DATA_VALID
        } else {
            flags::NEEDS_CSUM
        };
        let raw = raw.base();
        let plain = Self::plain(raw.flags() & seen, 1);
        Self::check(raw, plain, frame_len, rules.offloads)
    }

    /// Checks that a driver takes this GSO type for a frame of `ethertype`, the one behind all VLAN tags: one type
    /// stands for UDP over either family (NET-HDR-21).
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

    /// Number of receive buffers the frame takes (NET-RX-01, NET-RX-02).
    #[inline]
    pub fn set_num_buffers(&mut self, count: u16) {
        self.high = self.high & 0xffff | u32::from(count) << 16;
    }

    /// The base header on the wire.
    #[inline]
    pub const fn to_bytes(self) -> [u8; HDR_LEN] {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.low.to_le_bytes();
        let [b8, b9, b10, b11] = self.high.to_le_bytes();
        [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11]
    }

    /// The sanitised header at the length the driver expects.
    ///
    /// The longer forms report "no hash" and "no tunnel", which are all-zero fields.
    #[inline]
    pub fn to_raw(self, size: HdrSize) -> RawHdr {
        let mut raw = RawHdr::new(size);
        raw.bytes[..HDR_LEN].copy_from_slice(&self.to_bytes());
        raw
    }

    /// See [`flags`].
    #[inline]
    pub const fn flags(self) -> u8 {
        self.low as u8
    }

    /// See [`gso`].
    #[inline]
    pub const fn gso_type(self) -> u8 {
        (self.low >> 8) as u8
    }

    /// Bytes of all headers, a hint; 0 when not segmented.
    #[inline]
    pub const fn hdr_len(self) -> u16 {
        (self.low >> 16) as u16
    }

    /// Most payload bytes per segment; 0 when not segmented.
    #[inline]
    pub const fn gso_size(self) -> u16 {
        (self.low >> 32) as u16
    }

    /// Frame offset from which the checksum is taken; 0 without `NEEDS_CSUM`.
    #[inline]
    pub const fn csum_start(self) -> u16 {
        (self.low >> 48) as u16
    }

    /// Offset from `csum_start` at which the checksum is stored; 0 without `NEEDS_CSUM`.
    #[inline]
    pub const fn csum_offset(self) -> u16 {
        self.high as u16
    }

    /// Receive buffers taken; 0 on transmit.
    #[inline]
    pub const fn num_buffers(self) -> u16 {
        (self.high >> 16) as u16
    }

    /// Both directions: `plain` is all that is left of the header when nothing is to be done to the frame.
    #[inline(always)]
    fn check(raw: Self, plain: Self, frame_len: u32, on: Offloads) -> Result<Self, HdrError> {
        if frame_len < ETH_HDR_LEN {
            return Err(HdrError::ShortFrame);
        }
        if plain.flags() & flags::NEEDS_CSUM != 0 || raw.gso_type() != gso::NONE {
            return Self::check_offload(raw, plain, frame_len, on);
        }
        Ok(plain)
    }

    /// The slow half: something is left to be done to the frame.
    #[inline(never)]
    fn check_offload(
        raw: Self,
        plain: Self,
        frame_len: u32,
        on: Offloads,
    ) -> Result<Self, HdrError> {
        let segmented = Segmented::of(raw.gso_type())?;
        if segmented.is_some_and(|gso| !gso.allowed(raw.gso_type(), on)) {
            return Err(HdrError::GsoNotNegotiated);
        }
        if plain.flags() & flags::NEEDS_CSUM == 0 {
            return Err(HdrError::GsoWithoutCsum);
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
            high: plain.high | u32::from(csum_offset),
        };
        let Some(segmented) = segmented else {
            return Ok(partial);
        };
        segmented.check(raw, frame_len)?;
        let hdr_len = u32::from(raw.hdr_len()).min(frame_len) as u16;
        let (gso_type, gso_size) = (raw.gso_type(), raw.gso_size());
        Ok(Self {
            low: partial.low
                | u64::from(gso_type) << 8
                | u64::from(hdr_len) << 16
                | u64::from(gso_size) << 32,
            ..partial
        })
    }
}
