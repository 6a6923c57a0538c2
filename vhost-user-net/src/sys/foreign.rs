//! Descriptors that a front-end passed: what they are, found out by calls that ask nobody, and what they are used for.
//!
//! A file may be anybody's. Of a file in a FUSE mount, `fstat`, `fstatfs`, `poll`, `read` and the first access to a
//! mapping are requests to the process that serves the mount, and whoever waits for its answer cannot be killed. So
//! two questions come before any use, and the kernel answers both of them by itself:
//!
//! * `F_GET_SEALS` knows only files in tmpfs and hugetlbfs, and fails with all others.
//! * The name under `/proc/self/fd` of an event counter and of a pipe is none that a file can have: that of a file
//!   begins with `/`.
//!
//! Flags such as `O_NONBLOCK` belong to the open file, which the front-end has as well and may change. So what is sent
//! over a socket of its own says with each call that it must not wait.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::Arc;

use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionCollectionError, GuestRegionMmap,
    MmapRegion,
};

/// Whether `fd` is a file in tmpfs or hugetlbfs, anonymous ones (`memfd_create`) included.
pub(crate) fn is_memory_file(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: F_GET_SEALS takes no argument and touches no memory.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) >= 0 }
}

/// Whether `fd` is an event counter or a pipe without a name.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_event(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let name = name(fd)?;
    Ok(name == b"anon_inode:[eventfd]" || name.starts_with(b"pipe:["))
}

/// Whether `fd` is a socket.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn is_socket(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(name(fd)?.starts_with(b"socket:["))
}

fn name(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    Ok(name.into_os_string().into_encoded_bytes())
}

/// Sends all of `bytes` over the stream socket `fd`, or as much as it takes without a wait; returns how much.
///
/// # Errors
/// `WouldBlock` when it takes nothing, or what the kernel says.
pub(crate) fn send_at_once(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `bytes` is alive for the call, and its length is what the call is told.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Bytes of a file, mapped shared, readable and writable. They stay mapped without any descriptor.
#[derive(Debug)]
pub(crate) struct FileMapping {
    addr: NonNull<u8>,
    len: usize,
    /// Size of the file's blocks: that of its pages, if they are huge.
    block: u64,
}

// SAFETY: the address is a number here; who accesses what it points at does so as with any guest memory.
unsafe impl Send for FileMapping {}
// SAFETY: as for Send.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// Maps `len` bytes of `file` from `offset`, and keeps them out of core dumps: they are the guest's.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let block = file.metadata()?.blksize();
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: a new mapping at an address of the kernel's choice replaces none.
        let addr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset,
            )
        };
        let addr = NonNull::new(addr.cast())
            .filter(|_| addr != libc::MAP_FAILED)
            .ok_or_else(io::Error::last_os_error)?;
        let mapping = Self { addr, len, block };
        // SAFETY: the range is the mapping that was just made; the advice changes no byte of it.
        if unsafe { libc::madvise(addr.as_ptr().cast(), len, libc::MADV_DONTDUMP) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(mapping)
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        let addr = self.addr.as_ptr().cast();
        // SAFETY: this is the mapping's owner; whoever uses it holds a reference to this. The kernel refuses a length
        // within a huge page: the mapping then reaches to the end of that page.
        unsafe {
            if libc::munmap(addr, self.len) < 0 {
                let whole = (self.len as u64).next_multiple_of(self.block.max(1));
                libc::munmap(addr, whole as usize);
            }
        }
    }
}

/// Guest memory made of mapped files, which stay mapped as long as this exists.
#[derive(Debug)]
pub struct MappedMemory {
    regions: GuestMemoryMmap,
    _mappings: Vec<Arc<FileMapping>>,
}

/// Why mapped files do not make up a guest's memory.
#[derive(Debug)]
pub(crate) enum Misfit {
    /// The end of the region at this guest-physical address is no address.
    Wraps(u64),
    /// Regions share addresses.
    Overlap(GuestRegionCollectionError),
}

impl MappedMemory {
    /// Memory of mappings at guest-physical addresses, sorted by these.
    pub(crate) fn new(
        mappings: impl IntoIterator<Item = (u64, Arc<FileMapping>)>,
    ) -> Result<Self, Misfit> {
        let mut regions = Vec::new();
        let mut held = Vec::new();
        for (gpa, mapping) in mappings {
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            // SAFETY: the range is a mapping that `mapping` keeps, and the result holds `mapping` besides the region,
            // of which it hands out references only.
            let region =
                unsafe { MmapRegion::build_raw(mapping.addr.as_ptr(), mapping.len, prot, flags) };
            let region = region
                .ok()
                .and_then(|region| GuestRegionMmap::new(region, GuestAddress(gpa)));
            regions.push(region.ok_or(Misfit::Wraps(gpa))?);
            held.push(mapping);
        }
        Ok(Self {
            regions: GuestMemoryMmap::from_regions(regions).map_err(Misfit::Overlap)?,
            _mappings: held,
        })
    }
}

impl GuestMemoryBackend for MappedMemory {
    type R = GuestRegionMmap;

    fn iter(&self) -> impl Iterator<Item = &Self::R> {
        self.regions.iter()
    }
}
