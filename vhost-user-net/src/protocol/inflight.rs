//! The in-flight region: memory that a front-end keeps for the back-end that comes after this one.
//!
//! The back-end makes it (GET_INFLIGHT_FD), and any later one gets it back (SET_INFLIGHT_FD). It
//! has a part of the same length for each ring, which is that ring's [`UsedJournal`].

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use net_device::net_queue::SharedBytes;
use net_device::{Layout, UsedJournal};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::protocol::memory_table::{MapError, map_file};
use crate::protocol::wire::InflightArea;

#[cfg(test)]
mod tests;

/// Multiple of which the part of each ring is long, as in other back-ends.
const ALIGNMENT: usize = 64;

/// Most bytes of a region: parts of 256 rings of 32768 descriptors take half of it.
const MAX_REGION: u64 = 1 << 29;

/// Bytes of the part of each ring of at most `queue_size` descriptors.
fn part_len(layout: Layout, queue_size: u16) -> usize {
    UsedJournal::len(layout, queue_size).next_multiple_of(ALIGNMENT)
}

/// A region, mapped.
#[derive(Debug)]
pub struct InflightRegion {
    bytes: SharedBytes,
    queues: u16,
    queue_size: u16,
}

impl InflightRegion {
    /// Makes a region for so many rings with so many descriptors, in a file of its own.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn create(
        layout: Layout,
        queues: u16,
        queue_size: u16,
    ) -> Result<(InflightArea, OwnedFd), MapError> {
        let area = InflightArea {
            size: part_len(layout, queue_size) as u64 * u64::from(queues),
            offset: 0,
            queues,
            queue_size,
        };
        let fd = sealed_file(area.size).map_err(MapError::Map)?;
        Ok((area, fd))
    }

    /// Maps a region that this back-end or another one made.
    ///
    /// # Errors
    /// It is not wholly inside a file in memory, or the kernel refuses.
    pub fn map(area: &InflightArea, fd: OwnedFd) -> Result<Self, MapError> {
        let map = map_file(fd, area.offset, area.size, MAX_REGION)?;
        Ok(Self {
            bytes: SharedBytes::new(Arc::new(map)),
            queues: area.queues,
            queue_size: area.queue_size,
        })
    }

    /// The journal of a ring of `size` descriptors, if the region has one for it.
    #[must_use]
    pub fn journal(&self, index: usize, layout: Layout, size: u16) -> Option<UsedJournal> {
        if index >= usize::from(self.queues) || size > self.queue_size {
            return None;
        }
        let len = part_len(layout, self.queue_size);
        let part = self.bytes.part(index.checked_mul(len)?, len)?;
        Some(UsedJournal::new(part))
    }
}

/// A file in memory that keeps its length.
fn sealed_file(len: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("in-flight", flags)?);
    file.set_len(len)?;
    let length = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, length)?;
    Ok(file.into())
}
