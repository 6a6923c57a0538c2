//! Programs and maps of the kernel's eBPF machine: `bpf(2)`.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use libc::{c_int, c_long, c_uint, c_void};
use rustix::thread::CapabilitySet;

use super::{Refused, check};
use crate::ebpf::Insn;

// linux/bpf.h, which libc does not cover.
const BPF_MAP_CREATE: c_int = 0;
const BPF_PROG_LOAD: c_int = 5;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// The first fields of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`; addresses are 64 bits long everywhere.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// Attributes of a command.
///
/// # Safety
///
/// A prefix of `union bpf_attr` whose pointers are those to memory that the kernel only reads, for
/// as long as the call takes.
unsafe trait Attributes {
    const COMMAND: c_int;
    const NAME: &'static str;
}

// SAFETY: integers alone.
unsafe impl Attributes for MapCreate {
    const COMMAND: c_int = BPF_MAP_CREATE;
    const NAME: &'static str = "bpf(BPF_MAP_CREATE)";
}

// SAFETY: `load` alone makes one, with slices that outlive the call, and no log to be written.
unsafe impl Attributes for ProgLoad {
    const COMMAND: c_int = BPF_PROG_LOAD;
    const NAME: &'static str = "bpf(BPF_PROG_LOAD)";
}

/// A command that makes a descriptor.
fn bpf<A: Attributes>(attributes: &A) -> Result<OwnedFd, Refused> {
    let size = mem::size_of::<A>() as c_uint;
    // SAFETY: `attributes` is as long as is said, and the kernel takes what is missing for zeros.
    // It reads it, and what that points to, and keeps no pointer (see `Attributes`).
    let fd: c_long =
        unsafe { libc::syscall(libc::SYS_bpf, A::COMMAND, ptr::from_ref(attributes), size) };
    let fd = check(fd as c_int, A::NAME)?;
    // SAFETY: the kernel has just made `fd` for us, close-on-exec, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program for frames. It may name maps by their descriptors.
pub(crate) fn load(program: &[Insn]) -> Result<OwnedFd, Refused> {
    const LICENSE: &[u8] = b"Apache-2.0 OR BSD-3-Clause\0";
    bpf(&ProgLoad {
        prog_type: BPF_PROG_TYPE_SOCKET_FILTER,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    })
}

/// Checks that the kernel takes a program of many computed addresses from this thread. Without this
/// capability it looks at where each might lead a processor that runs ahead: at such a program for
/// a quarter of a minute, and refuses it then.
pub(crate) fn may_be_complex() -> Result<(), Refused> {
    let refused = |errno: rustix::io::Errno| Refused {
        request: "bpf(BPF_PROG_LOAD)",
        source: errno.into(),
    };
    let own = rustix::thread::capabilities(None).map_err(refused)?;
    // Kernels before 5.8 know but the latter.
    let any = CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN;
    if own.effective.intersects(any) {
        Ok(())
    } else {
        Err(refused(rustix::io::Errno::PERM))
    }
}

/// An array of one value, which is memory of this process as well.
#[derive(Debug)]
pub(crate) struct SharedArray {
    fd: OwnedFd,
    words: NonNull<AtomicU32>,
    len: usize,
}

// SAFETY: the mapping is its own until it is dropped, and atomic words may be used by any thread.
unsafe impl Send for SharedArray {}
// SAFETY: as above.
unsafe impl Sync for SharedArray {}

impl SharedArray {
    /// An array whose value has so many words, all zero.
    pub(crate) fn new(len: usize) -> Result<Self, Refused> {
        let bytes = len * mem::size_of::<u32>();
        let fd = bpf(&MapCreate {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_size: mem::size_of::<u32>() as u32,
            value_size: bytes as u32,
            max_entries: 1,
            map_flags: BPF_F_MMAPABLE,
        })?;
        Self::map(fd, len)
    }

    /// The array behind a descriptor that another process made, if its value has so many words.
    pub(crate) fn take(fd: OwnedFd, len: usize) -> Result<Self, Refused> {
        let refused = |source| Refused {
            request: "look at a map",
            source,
        };
        // To ask by `bpf` would take a privilege in some kernels.
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        let info = info.map_err(refused)?;
        let is = |(name, value): (&str, u64)| {
            let values = info
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values
                .map(str::trim)
                .any(|found| found.parse() == Ok(value))
        };
        let expected = [
            ("map_type", BPF_MAP_TYPE_ARRAY.into()),
            ("value_size", (len * mem::size_of::<u32>()) as u64),
            ("max_entries", 1),
        ];
        if !expected.into_iter().all(is) {
            let other = "not an array with the rules of this program";
            let source = io::Error::new(io::ErrorKind::InvalidInput, other);
            return Err(refused(source));
        }
        Self::map(fd, len)
    }

    /// The array behind `fd`, in memory. The kernel refuses what is not as long.
    fn map(fd: OwnedFd, len: usize) -> Result<Self, Refused> {
        let bytes = len * mem::size_of::<u32>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        let words = match NonNull::new(address.cast()) {
            Some(words) if address != libc::MAP_FAILED => words,
            _ => return Err(Refused::last("mmap of a map")),
        };
        // Children are not to reach it; without this, which old kernels may refuse, they could.
        // SAFETY: the range is the mapping just made.
        unsafe { libc::madvise(address, bytes, libc::MADV_DONTFORK) };
        Ok(Self { fd, words, len })
    }

    /// The 64 bits from word `at` on, which programs add to at any time. Nobody else is to use
    /// these words.
    ///
    /// # Panics
    ///
    /// They are not in the value, or not aligned.
    pub(crate) fn long(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(2) && at + 1 < self.len);
        // SAFETY: both words are in the mapping, which starts at a page and lives as long as
        // `self`. Programs add to all 64 bits at once, as accesses here are.
        unsafe { AtomicU64::from_ptr(self.words.as_ptr().add(at).cast()) }
    }

    /// The words of the value, which programs read at any time.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        // SAFETY: the mapping has `len` words, aligned to a page, for as long as `self` lives. They
        // are shared memory that is accessed by atomic operations alone, here and in programs.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }
}

impl AsFd for SharedArray {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        let bytes = self.len * mem::size_of::<u32>();
        // SAFETY: the mapping of `new`, to which no reference is left.
        unsafe { libc::munmap(self.words.as_ptr().cast::<c_void>(), bytes) };
    }
}
