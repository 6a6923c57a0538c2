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
//! Which combinations pass, and why others do not, is the table in `header/gso.rs`, and for tunnels
//! that in `header/tunnel.rs`.

mod check;
pub(crate) mod checksum;
mod error;
pub(crate) mod ethertype;
pub(crate) mod group;
pub mod gso;
mod net_hdr;
pub(crate) mod packet;
#[cfg(test)]
mod tests;
mod tunnel;

pub use check::{RxRules, TxRules};
pub use error::HdrError;
pub use gso::{MAX_GSO_SEGMENTS, MAX_UDP_SEGMENTS};
pub use net_hdr::{
    ETH_HDR_LEN, HDR_LEN, HDR_MAX, HdrSize, LEGACY_HDR_LEN, NUM_BUFFERS_OFFSET, NetHdr, RawHdr,
    flags,
};
pub use packet::MAX_FRAME;
