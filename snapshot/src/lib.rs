//! Saved state of a virtio-net device: versioned, checksummed, untrusted.
//!
//! ```text
//!  device ──> NetState ──seal──> [ header | payload ] ──send──> file or socket
//!  device <── NetState <──open── [ header | payload ] <─receive─┘
//! ```
//!
//! * [`state`] — what is saved, as plain structs. They hold numbers, never handles, and promise
//!   nothing: a live type is built from them by the device, which checks every field on the way.
//! * `versions` — one row per release: which version of each struct that release wrote.
//! * [`mod@format`] — magic, architecture, release, length and CRC, in front of every snapshot.
//! * [`container`] — [`Snapshot`]: seals a state into bytes and opens bytes into a state.
//! * [`traits`] — what a VMM calls: pause, snapshot, send, log dirty pages.
//! * [`error`] — every reason for which bytes are refused, each with its own name.
//!
//! # One direction of trust
//!
//! A snapshot may come from a disk or a peer that somebody else controls. So the order of checks is
//! fixed: magic, architecture, release, length, checksum, and only then the parser; afterwards the
//! payload must be consumed to its last byte. The parser stops at a list whose length is out of the
//! bound that its type has ([`state::bounds`]). The checksum finds accidents, not attacks, so
//! nothing behind it relies on it: hostile bytes with a valid checksum end in an error or in a
//! well-formed [`NetState`], never in a panic, and cost no more memory than a small multiple of
//! [`format::MAX_PAYLOAD_LEN`].
//!
//! # Releases
//!
//! State is read from every release so far, and can be written for any of them
//! ([`Snapshot::seal_for`]), so that a VMM can be rolled back. A state that an older release cannot
//! hold is refused by the name of what it would lose. A new field gets `#[version(start = n)]` and
//! a default, its struct's version goes up in a row of `versions`, and a file joins `golden/`; the
//! files of releases that were published never change.

#![forbid(unsafe_code)]

pub mod container;
pub mod error;
pub mod format;
mod header;
pub mod state;
pub mod traits;
mod versions;

pub use container::Snapshot;
pub use error::{BoxError, MigrateError, SnapshotError};
pub use format::MAX_LEN;
pub use state::NetState;
pub use traits::{MemoryRange, Migratable, Pausable, Snapshottable, Transportable};
pub use versions::LATEST;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
