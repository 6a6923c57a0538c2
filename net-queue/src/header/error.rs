//! Causes for which a header is refused.

use thiserror::Error;

/// Cause for which a header, and with it its frame, was refused. Every variant is a drop cause.
#[non_exhaustive]
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
    /// GSO without `NEEDS_CSUM` (NET-HDR-11, NET-HDR-22). The engines set it where the frame's
    /// headers say where its checksum is, and drop it under this cause where they do not.
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
    /// Tunnel bits, flags or offsets that do not fit each other or the frame
    /// (NET-HDR-13..15, NET-HDR-17).
    #[error("tunnel fields do not fit the frame")]
    GsoTunnel,
}

impl HdrError {
    /// All causes, in counter order: `ALL[cause as usize] == cause`.
    pub const ALL: [Self; 11] = [
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
        Self::GsoTunnel,
    ];

    /// Name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShortFrame => "drop_short_frame",
            Self::CsumNotNegotiated => "drop_csum_not_negotiated",
            Self::CsumRange => "drop_csum_range",
            Self::GsoUnknown => "drop_gso_unknown",
            Self::GsoNotNegotiated => "drop_gso_not_negotiated",
            Self::GsoWithoutCsum => "drop_gso_without_csum",
            Self::GsoSize => "drop_gso_size",
            Self::GsoSegments => "drop_gso_segments",
            Self::GsoHeaders => "drop_gso_headers",
            Self::GsoFamily => "drop_gso_family",
            Self::GsoTunnel => "drop_gso_tunnel",
        }
    }
}
