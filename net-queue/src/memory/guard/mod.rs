//! Accesses to guest memory that may not be there.
//!
//! A page that the guest was promised can be gone when the device touches it: a balloon or
//! virtio-mem made it inaccessible, it is mapped read-only, or the file behind it was shortened by
//! another process. The kernel answers a system call on such a page with `EFAULT`; a load or a
//! store of this process gets SIGSEGV or SIGBUS instead, which ends the process and every other
//! device in it.
//!
//! So every access of this crate to guest memory is made by instructions that are listed in a table
//! (the ELF section `net_queue_fixups`), each with a place to go on from. A signal handler looks
//! the faulting instruction up and lets the thread continue there, and the access returns
//! [`MemoryFault`]. An access that succeeds pays for this with one predictable branch.
//!
//! The handler belongs to the process, so it is put in place only by [`install`], keeps the
//! handlers that were there, and passes on every signal that is not about a listed instruction. A
//! program that has handlers of its own and installs them later calls [`recover`] first in them.
//!
//! The instructions are written for x86-64. On other processors accesses are plain loads and
//! stores, which [`GUARDED`] tells: there, memory that can vanish must not be shared with a device.

mod fault;
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod portable;
mod signal;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86_64;

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use portable as accesses;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use x86_64 as accesses;

pub(crate) use accesses::{copy, fetch_or8, load_header, store_header, store_header_with, store64};
#[cfg(not(test))]
pub(crate) use accesses::{load16, load64x2, load64x2_acquire, store16, store32, store32x2};
pub use fault::{GUARDED, MemoryFault};
pub use signal::{faults, install, recover};
