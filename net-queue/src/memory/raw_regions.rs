//! Guest memory given as bare host ranges.
#![allow(unsafe_code)]

use std::any::Any;
use std::sync::Arc;

use super::guest_ram::{GuestRam, RamError, Region};
use super::iovec::HostSlice;

/// A range of guest memory and where the host has it.
#[derive(Clone, Copy, Debug)]
pub struct RawRegion {
    /// First guest-physical address.
    pub gpa: u64,
    /// Host address of the first byte.
    pub host: *mut u8,
    /// Length in bytes.
    pub len: usize,
}

impl GuestRam {
    /// Makes guest memory of host ranges, for a VMM that has its mappings from elsewhere than this
    /// crate's version of vm-memory. Nobody is told of writes unless [`GuestRam::with_dirty_log`]
    /// says so.
    ///
    /// This is the crate's one entry that has to trust its caller with addresses; [`GuestRam::new`]
    /// needs no `unsafe`.
    ///
    /// # Errors
    /// As for [`GuestRam::new`].
    ///
    /// # Safety
    /// Each range is mapped until `owner` is dropped, and no Rust reference to any of its bytes
    /// exists until then. The guest and other threads may access them; single pages may become
    /// inaccessible where accesses are [`GUARDED`](crate::guard::GUARDED).
    pub unsafe fn from_raw_regions(
        regions: &[RawRegion],
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self, RamError> {
        let found = regions.iter().map(|region| {
            // SAFETY: the range is mapped as long as `owner`, which the result keeps (the caller's
            // promise).
            let host = unsafe { HostSlice::from_raw(region.host, region.len) };
            let host = host.ok_or(RamError::NotMapped(region.gpa))?;
            Ok(Region::new(region.gpa, host))
        });
        Self::of_regions(found.collect::<Result<_, _>>()?, None, owner)
    }
}
