//! Values about rings that several requests and answers have.

use std::os::fd::OwnedFd;

/// Place of the in-flight region in its file, and the rings that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InflightArea {
    /// Its length in bytes.
    pub size: u64,
    /// Offset in the file.
    pub offset: u64,
    /// Number of rings.
    pub queues: u16,
    /// Descriptors of each ring at most.
    pub queue_size: u16,
}

/// A number for one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingValue {
    /// Index of the ring.
    pub ring: u32,
    /// The number.
    pub value: u32,
}

/// A descriptor for one ring.
#[derive(Debug)]
pub struct RingFd {
    /// Index of the ring.
    pub ring: u32,
    /// The descriptor, if one came.
    pub fd: Option<OwnedFd>,
}
