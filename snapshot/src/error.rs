//! Errors of snapshots, and of the steps of a migration.

use std::io;

use crate::format::{HEADER_LEN, MAX_PAYLOAD_LEN};

/// Any error of a device, carried through the traits as a cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Reason why bytes are not a snapshot that this build can use, or why a state cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The input ends inside the header.
    #[error("header: cut short at {found} of {HEADER_LEN} bytes")]
    ShortHeader {
        /// Bytes that are there.
        found: usize,
    },
    /// The input is something else.
    #[error("magic: {found:#018x} is not a network device snapshot")]
    Magic {
        /// The first eight bytes, little-endian.
        found: u64,
    },
    /// The snapshot was taken on another kind of machine.
    #[error("architecture: snapshot of ELF machine {found}, this is {expected}")]
    Architecture {
        /// ELF machine number in the snapshot.
        found: u16,
        /// ELF machine number of this build.
        expected: u16,
    },
    /// The release is 0 or newer than this build.
    #[error("release: {found} is not within 1..={latest}")]
    Release {
        /// Release in the snapshot, or asked for.
        found: u16,
        /// Newest release that this build knows.
        latest: u16,
    },
    /// The payload is longer than any state can be.
    #[error("length: payload of {found} bytes exceeds {MAX_PAYLOAD_LEN}")]
    Oversize {
        /// Length of the payload in bytes.
        found: u64,
    },
    /// The payload is shorter than the header says.
    #[error("length: payload cut short at {found} of {expected} bytes")]
    Truncated {
        /// Bytes the header promises.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Bytes follow the snapshot.
    #[error("length: {count} bytes after the payload")]
    TrailingBytes {
        /// Number of them.
        count: usize,
    },
    /// Header or payload were damaged.
    #[error("checksum: {found:#010x} in the header, {computed:#010x} over the bytes")]
    Checksum {
        /// CRC32 in the header.
        found: u32,
        /// CRC32 of the bytes.
        computed: u32,
    },
    /// The payload does not parse.
    #[error("payload: malformed near byte {offset}: {reason}")]
    Malformed {
        /// Bytes consumed before the parser gave up.
        offset: usize,
        /// Message of the parser; its error type is not an [`std::error::Error`].
        reason: String,
    },
    /// The payload parses but goes on after the state.
    #[error("payload: {count} bytes are not part of the state")]
    Unconsumed {
        /// Number of them.
        count: usize,
    },
    /// A list in the state is longer than a device can have.
    #[error("{field}: {found} entries, at most {max}")]
    TooMany {
        /// Path of the field, as `queues.in_flight`.
        field: &'static str,
        /// Entries found.
        found: usize,
        /// Bound.
        max: usize,
    },
    /// The release that was asked for has no place for a field that is set.
    #[error("{field}: release {release} has no place for it")]
    Downgrade {
        /// Path of the field.
        field: &'static str,
        /// Release that was asked for.
        release: u16,
    },
    /// The state cannot be written for the release asked for.
    #[error("state cannot be encoded: {reason}")]
    Encode {
        /// Message of the encoder.
        reason: String,
    },
    /// The source of the snapshot failed.
    #[error("cannot read the snapshot")]
    Read(#[source] io::Error),
    /// The destination of the snapshot failed.
    #[error("cannot write the snapshot")]
    Write(#[source] io::Error),
}

/// Which step of a migration failed; the cause is the device's own error.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The device did not stop.
    #[error("cannot pause the device")]
    Pause(#[source] BoxError),
    /// The device did not continue.
    #[error("cannot resume the device")]
    Resume(#[source] BoxError),
    /// The state could not be taken.
    #[error("cannot take a snapshot of the device")]
    Snapshot(#[source] BoxError),
    /// The state was refused.
    #[error("cannot restore the device")]
    Restore(#[source] BoxError),
    /// The state did not leave.
    #[error("cannot send the snapshot")]
    Send(#[source] SnapshotError),
    /// No state arrived.
    #[error("cannot receive a snapshot")]
    Receive(#[source] SnapshotError),
    /// Dirty pages cannot be logged.
    #[error("cannot log dirty memory")]
    DirtyLog(#[source] BoxError),
    /// The device did not follow the course of the migration.
    #[error("cannot change the phase of the migration")]
    Phase(#[source] BoxError),
}
