//! Failed accesses to guest memory.

/// True if accesses to guest memory can fail on this processor instead of ending the process.
pub const GUARDED: bool = cfg!(all(target_arch = "x86_64", not(miri)));

/// Guest memory that cannot be accessed: not readable, not writable, or not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("guest memory cannot be accessed")]
pub struct MemoryFault;
