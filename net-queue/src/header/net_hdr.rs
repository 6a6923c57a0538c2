//! The virtio network header as bytes and as values.

use std::fmt;

/// Bytes of the header that every modern driver and device share (VirtIO 1.4 §5.1.9, L1).
pub const HDR_LEN: usize = 12;
/// Bytes of the same without `num_buffers`: that of a legacy driver without `MRG_RXBUF` (VirtIO 1.4
/// §5.1.9.1).
pub const LEGACY_HDR_LEN: usize = NUM_BUFFERS_OFFSET;
/// Bytes of the longest header [`RawHdr`] can hold.
pub const HDR_MAX: usize = 24;
/// Stream offset of `num_buffers` (VirtIO 1.4 §5.1.9, L1).
pub const NUM_BUFFERS_OFFSET: usize = 10;
/// Stream offset of the offsets of a tunnel's headers (VirtIO 1.4 §5.1.9, L1).
const TUNNEL_OFFSET: usize = 20;
/// Bytes of an Ethernet header: a shorter frame goes nowhere.
pub const ETH_HDR_LEN: u32 = 14;
/// Values of `flags` (VirtIO 1.4 §5.1.9).
pub mod flags {
    /// The checksum from `csum_start` on is to be completed.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum was verified (receive only).
    pub const DATA_VALID: u8 = 2;
    /// The checksum of a tunnel's UDP header is to be completed in each segment.
    pub const UDP_TUNNEL_CSUM: u8 = 8;
    /// Bits: `NEEDS_CSUM` and `DATA_VALID`.
    pub(crate) const CSUM: u8 = 3;
}

/// Directions of frames, as the device sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the driver to the backend.
    Transmit,
    /// From the backend to the driver.
    Receive,
}

/// Length of the header in front of each frame; follows from the negotiated features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum HdrSize {
    /// 10 bytes: a legacy driver knows `num_buffers` with `MRG_RXBUF` only.
    Legacy = LEGACY_HDR_LEN as u8,
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

    /// Bytes of the part that has a value on every frame.
    pub(crate) const fn base_bytes(self) -> usize {
        match self {
            Self::Legacy => LEGACY_HDR_LEN,
            Self::Base | Self::HashReport | Self::Tunnel => HDR_LEN,
        }
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

    /// The header but its hash, unchecked, as it travels within this module.
    #[inline]
    pub(super) const fn fields(&self) -> NetHdr {
        let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, ..] = self.bytes;
        // Of a shorter header these are zeros.
        let [.., t0, t1, t2, t3] = self.bytes;
        NetHdr {
            low: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            high: u64::from_le_bytes([b8, b9, b10, b11, t0, t1, t2, t3]),
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

/// A checked header, every field of it sanitised.
///
/// It is kept as the words that it has on the wire: fields stored one by one and read back as a
/// whole would make the CPU wait, for each frame.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct NetHdr {
    /// From the lowest byte on: `flags`, `gso_type`, `hdr_len`, `gso_size`, `csum_start`.
    pub(super) low: u64,
    /// `csum_offset`, `num_buffers`, and from behind the hash `outer_th_offset`, `inner_nh_offset`.
    pub(super) high: u64,
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
            .field("outer_th_offset", &self.outer_th_offset())
            .field("inner_nh_offset", &self.inner_nh_offset())
            .finish()
    }
}

impl NetHdr {
    /// The header of a complete frame: nothing is left to be done.
    pub const PLAIN: Self = Self { low: 0, high: 0 };

    /// With these flags and number of buffers, nothing else.
    #[inline]
    pub(super) const fn plain(flags: u8, num_buffers: u16) -> Self {
        Self {
            low: flags as u64,
            high: (num_buffers as u64) << 16,
        }
    }

    /// The header of a frame with one partial checksum.
    pub(super) const fn partial(csum_start: u16, csum_offset: u16) -> Self {
        Self {
            low: flags::NEEDS_CSUM as u64 | (csum_start as u64) << 48,
            high: csum_offset as u64,
        }
    }

    /// The same frame, to be cut into segments of `gso_size` behind `hdr_len` bytes of headers.
    #[inline]
    pub(super) const fn segmented(self, gso_type: u8, hdr_len: u16, gso_size: u16) -> Self {
        let gso = (gso_type as u64) << 8 | (hdr_len as u64) << 16 | (gso_size as u64) << 32;
        Self {
            low: self.low | gso,
            ..self
        }
    }

    /// Number of receive buffers the frame takes (NET-RX-01, NET-RX-02).
    #[inline]
    pub fn set_num_buffers(&mut self, count: u16) {
        self.high = self.high & !0xffff_0000 | u64::from(count) << 16;
    }

    /// The same for a part of the frame that was cut off: not to be segmented, its checksum as
    /// partial as the frame's.
    pub(crate) const fn without_gso(self) -> Self {
        Self {
            low: self.low & (0xffff << 48 | flags::NEEDS_CSUM as u64),
            high: self.high & 0xffff_ffff,
        }
    }

    /// The same once nothing is left to be done.
    pub(crate) const fn without_offloads(self) -> Self {
        Self::plain(0, self.num_buffers())
    }

    /// The base header on the wire.
    #[inline]
    pub const fn to_bytes(self) -> [u8; HDR_LEN] {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.low.to_le_bytes();
        let [b8, b9, b10, b11, ..] = self.high.to_le_bytes();
        [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11]
    }

    /// The same as a legacy driver without `MRG_RXBUF` knows it.
    #[inline]
    pub(crate) const fn to_legacy_bytes(self) -> [u8; LEGACY_HDR_LEN] {
        let [base @ .., _, _] = self.to_bytes();
        base
    }

    /// The sanitised header at the length the driver expects.
    ///
    /// The longer forms report "no hash", which are all-zero fields.
    #[inline]
    pub fn to_raw(self, size: HdrSize) -> RawHdr {
        let mut raw = RawHdr::new(size);
        self.write_to(raw.as_mut_bytes());
        raw
    }

    /// The same in `front`, which is all of the header.
    #[inline(always)]
    pub(crate) fn write_to(self, front: &mut [u8]) {
        match <&mut [u8; HDR_LEN]>::try_from(&mut *front) {
            Ok(base) => *base = self.to_bytes(),
            Err(_) => self.write_to_odd(front),
        }
    }

    /// The same for a header that is longer or shorter than the base.
    #[inline(never)]
    fn write_to_odd(self, front: &mut [u8]) {
        let (base, rest) = front.split_at_mut(front.len().min(HDR_LEN));
        base.copy_from_slice(&self.to_bytes()[..base.len()]);
        rest.fill(0);
        if let Some(tunnel) = rest.get_mut(TUNNEL_OFFSET - HDR_LEN..) {
            tunnel.copy_from_slice(&self.high.to_le_bytes()[4..][..tunnel.len()]);
        }
    }

    /// Flags, of [`flags`].
    #[inline]
    pub const fn flags(self) -> u8 {
        self.low as u8
    }

    /// GSO type, of [`gso`](super::gso).
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

    /// Frame offset of a tunnel's UDP header; 0 without a tunnel.
    pub const fn outer_th_offset(self) -> u16 {
        (self.high >> 32) as u16
    }

    /// Frame offset of the IP header within the tunnel; 0 without one.
    pub const fn inner_nh_offset(self) -> u16 {
        (self.high >> 48) as u16
    }
}
