//! Guest memory: found once, reached by guarded accesses, handed on as segments.
//!
//! ```text
//!   raw_regions    guest memory from bare host ranges, the one entry that is unsafe to call
//!   guest_ram      regions, addresses, writes that are marked
//!   resolver       host memory of the buffers that a driver names
//!   dirty_log      the log that is told of writes, and its switch
//!   iovec          host ranges, scatter lists, copies; Gather and Scatter, which backends see
//!   shared_bytes   bytes shared with another process, such as a front-end's dirty log
//!   bounce_buffer  memory of this process that short frames pass through
//!   kill_switch    stores that do not take place, for tests
//!   guard          loads, stores and copies that fail where memory is not there
//! ```

pub(crate) mod bounce_buffer;
pub(crate) mod dirty_log;
pub mod guard;
pub(crate) mod guest_ram;
pub(crate) mod iovec;
pub(crate) mod kill_switch;
mod raw_regions;
pub(crate) mod resolver;
mod shared_bytes;

pub use raw_regions::RawRegion;
pub use shared_bytes::SharedBytes;
