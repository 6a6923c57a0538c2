//! Layout and bounds of a snapshot in bytes.
//!
//! ```text
//!  0        8       10       12       16       20
//!  ├─ magic ┼─ arch ┼ release┼ length ┼─ crc ──┼─ payload ─ ─ ─
//!  └────────── covered by crc ────────┘        └─ covered by crc
//! ```
//!
//! All numbers are little-endian on every host. The CRC covers the header too, so that a flipped
//! bit can turn one valid header into no other.

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 20;

/// Longest payload in bytes. The largest device, 256 pairs with every table full, needs less than
/// half of it. Chains in flight, of which each queue may have as many as its ring, have this as
/// their common bound.
pub const MAX_PAYLOAD_LEN: usize = 256 << 10;

/// Longest snapshot in bytes.
pub const MAX_LEN: usize = HEADER_LEN + MAX_PAYLOAD_LEN;
