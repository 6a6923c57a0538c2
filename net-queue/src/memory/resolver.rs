//! Addresses that a driver gives, turned into host memory.

use super::guest_ram::{Access, BadAddress, GuestRam, Region};
use super::segment::HostSlice;

/// Finds the host memory of buffers.
///
/// The region that one was found in is kept by value: buffers tend to be neighbours, and what is at
/// hand here need not be fetched from where all regions are.
#[derive(Debug)]
pub(crate) struct Resolver {
    ram: GuestRam,
    /// The region of the buffer that was looked up last; without a byte as long as there is none,
    /// and for good behind an access platform.
    last: Region,
}

impl Resolver {
    /// A resolver of addresses in `ram`.
    pub(crate) fn new(ram: GuestRam) -> Self {
        Self {
            ram,
            last: Region::EMPTY,
        }
    }

    /// Memory that the addresses lie in.
    #[inline]
    pub(crate) fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Calls `segment` for each host-contiguous part of the `len` bytes at the driver's address
    /// `addr`.
    ///
    /// # Errors
    /// The range is not guest memory, or what `segment` returned.
    #[inline(always)]
    pub(crate) fn resolve<E: From<BadAddress>>(
        &mut self,
        addr: u64,
        len: u32,
        access: Access,
        mut segment: impl FnMut(HostSlice) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.last.part(addr, len as usize) {
            Some(host) => segment(host),
            None => self.look_up(addr, len, access, &mut segment),
        }
    }

    #[cold]
    fn look_up<E: From<BadAddress>>(
        &mut self,
        addr: u64,
        len: u32,
        access: Access,
        segment: &mut dyn FnMut(HostSlice) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(region) = self.ram.region_of(addr) {
            self.last = region;
        }
        self.ram
            .resolve(addr, len, access, &mut |host, _| segment(host))
    }

    /// The `len` bytes at the driver's address `addr`, which must be contiguous and are only read.
    ///
    /// # Errors
    /// They are not guest memory, or lie in several places of the host's.
    pub(crate) fn contiguous(&self, addr: u64, len: usize) -> Result<HostSlice, BadAddress> {
        match self.last.part(addr, len) {
            Some(host) => Ok(host),
            None => Ok(self.ram.contiguous(addr, len, Access::Read)?.host),
        }
    }
}
