//! Addresses that a driver gives, turned into host memory.

use super::guest_ram::{Access, BadAddress, GuestRam, Region};
use super::iovec::HostSlice;

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
    /// Address whose translation is on its way, for which the last look-up failed.
    awaited: Option<u64>,
    /// The one before, and how many others there were for the same chain.
    before: Option<u64>,
    others: u16,
}

/// Most translations that one chain may wait for, one after the other: more than one of a frame's
/// length ever needs. A chain of more pages than the platform remembers would wait for ever.
const MOST_AWAITED: u16 = 4096;

/// Error of a look-up, and the address whose translation is on its way if that is the reason.
struct Unresolved<E>(E, Option<u64>);

impl<E: From<BadAddress>> From<BadAddress> for Unresolved<E> {
    fn from(bad: BadAddress) -> Self {
        Self(bad.into(), bad.awaited)
    }
}

impl Resolver {
    /// A resolver of addresses in `ram`.
    pub(crate) fn new(ram: GuestRam) -> Self {
        Self {
            ram,
            last: Region::EMPTY,
            awaited: None,
            before: None,
            others: 0,
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
    #[inline(never)]
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
        let found = self.ram.resolve(addr, len, access, &mut |host, _| {
            segment(host).map_err(|error| Unresolved(error, None))
        });
        found.map_err(|Unresolved(error, awaited)| {
            self.awaited = awaited;
            error
        })
    }

    /// Returns whether the last look-up failed for want of a translation that is on its way, and is
    /// to be made again.
    #[cold]
    pub(crate) fn take_awaited(&mut self) -> bool {
        let Some(address) = self.awaited.take() else {
            return false;
        };
        if self.before.replace(address) != Some(address) {
            self.others = self.others.saturating_add(1);
        }
        self.others <= MOST_AWAITED
    }

    /// Another chain than before waits.
    pub(crate) fn begin_waiting(&mut self) {
        self.others = 1;
    }

    /// The `len` bytes at the driver's address `addr`, which must be contiguous and are only read.
    ///
    /// # Errors
    /// They are not guest memory, or lie in several places of the host's.
    pub(crate) fn contiguous(&mut self, addr: u64, len: usize) -> Result<HostSlice, BadAddress> {
        if let Some(host) = self.last.part(addr, len) {
            return Ok(host);
        }
        let found = self.ram.contiguous(addr, len, Access::Read);
        Ok(found.inspect_err(|bad| self.awaited = bad.awaited)?.host)
    }
}

#[cfg(test)]
mod tests;
