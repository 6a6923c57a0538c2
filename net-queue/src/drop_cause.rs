//! Faults of a guest, a peer or the host, by their reach: one frame, or one queue.

use crate::header::HdrError;
use crate::memory::guard::MemoryFault;

/// Cause for which one frame or one chain was not used. The chain went back to the driver, the
/// queue goes on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DropCause {
    /// A transmit chain with a writable buffer, a receive chain with a readable one, or readable
    /// after writable (VQ-SPL-12, NET-TX-08, NET-RX-10).
    #[error("buffer of the wrong direction")]
    Direction,
    /// A buffer that is not guest memory (NET-TX-10).
    #[error("buffer outside guest memory")]
    BadAddress,
    /// More segments of host memory than one system call takes: 1023 and the header. The cap of
    /// VQ-SPL-03.
    #[error("too many buffers in a chain")]
    Segments,
    /// An indirect table that was not negotiated, is nested, misshapen or leads out of itself
    /// (VQ-SPL-09).
    #[error("unusable indirect table")]
    IndirectTable,
    /// Longer than any frame can be (NET-TX-09).
    #[error("frame too long")]
    TooLong,
    /// Shorter than the virtio-net header (NET-TX-07, NET-RX-11).
    #[error("chain too short")]
    TooShort,
    /// The header asks for what was not negotiated or makes no sense.
    #[error(transparent)]
    Header(#[from] HdrError),
    /// The backend refused this frame (NET-TX-14).
    #[error("refused by the backend")]
    Refused,
    /// A received frame that does not fit what the driver posts (NET-RX-03, NET-RX-13).
    #[error("no receive buffer can hold the frame")]
    NoRoom,
    /// A received frame above the negotiated MTU (NET-CFG-08).
    #[error("frame above the MTU")]
    Mtu,
    /// A received frame that the driver's filters exclude (NET-CVQ-12, NET-CVQ-16).
    #[error("filtered")]
    Filtered,
    /// A received frame that was held back when its queue was stopped or taken from the pairs in
    /// use, or a frame of a transmit queue that the VMM disabled.
    #[error("queue stopped")]
    Stopped,
    /// A buffer in guest memory that cannot be accessed: not readable, not writable, or gone.
    #[error(transparent)]
    MemoryFault(#[from] MemoryFault),
    /// A frame of either direction while the link was set down.
    #[error("link down")]
    LinkDown,
    /// A received frame for another queue, which had no room for more that were passed to it
    /// (NET-MQ-08).
    #[error("no room at the queue that the frame is for")]
    SteeringFull,
}

impl DropCause {
    const PLAIN: [Self; 14] = [
        Self::Direction,
        Self::BadAddress,
        Self::Segments,
        Self::IndirectTable,
        Self::TooLong,
        Self::TooShort,
        Self::Refused,
        Self::NoRoom,
        Self::Mtu,
        Self::Filtered,
        Self::Stopped,
        Self::MemoryFault(MemoryFault),
        Self::LinkDown,
        Self::SteeringFull,
    ];

    /// Number of causes.
    pub const COUNT: usize = Self::PLAIN.len() + HdrError::ALL.len();

    /// Every cause, in the order of [`DropCause::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        Self::PLAIN
            .into_iter()
            .chain(HdrError::ALL.into_iter().map(Self::Header))
    }

    /// Position among all causes.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Header(error) => Self::PLAIN.len() + error as usize,
            plain => Self::PLAIN
                .iter()
                .position(|cause| *cause == plain)
                .unwrap_or(0),
        }
    }

    /// Returns whether the driver described a frame wrongly: its chain, its length or its header.
    #[must_use]
    pub const fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::Direction
                | Self::BadAddress
                | Self::Segments
                | Self::IndirectTable
                | Self::TooLong
                | Self::TooShort
                | Self::Header(_)
                | Self::MemoryFault(_)
        )
    }

    /// Name in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direction => "drop_direction",
            Self::BadAddress => "drop_bad_address",
            Self::Segments => "drop_segments",
            Self::IndirectTable => "drop_indirect_table",
            Self::TooLong => "drop_too_long",
            Self::TooShort => "drop_too_short",
            Self::Header(error) => error.name(),
            Self::Refused => "drop_refused",
            Self::NoRoom => "drop_no_room",
            Self::Mtu => "drop_mtu",
            Self::Filtered => "drop_filtered",
            Self::Stopped => "drop_stopped",
            Self::MemoryFault(_) => "drop_memory_fault",
            Self::LinkDown => "drop_link_down",
            Self::SteeringFull => "drop_steering_full",
        }
    }
}

/// The driver broke the ring itself: only a reset cures it (DEV-LIFE-04).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueFault {
    /// The available index jumped by more than the queue holds, or went back (VQ-SPL-11).
    #[error("available index jumped")]
    AvailIndex,
    /// A head or a next field names no descriptor (VQ-SPL-10).
    #[error("descriptor index out of range")]
    DescriptorIndex,
    /// A list that goes on in a descriptor which the driver did not make available (VQ-PKD-03,
    /// VQ-PKD-12).
    #[error("descriptor not available")]
    NotAvailable,
    /// A chain that never ends (VQ-SPL-10).
    #[error("descriptor chain in a loop")]
    DescriptorLoop,
    /// The ring's own memory cannot be accessed: not readable, not writable, or gone.
    #[error("ring memory cannot be accessed")]
    MemoryFault,
}

impl From<MemoryFault> for QueueFault {
    fn from(_: MemoryFault) -> Self {
        Self::MemoryFault
    }
}
