//! Guest memory: found once, reached by guarded accesses, handed on as segments.
//!
//! ```text
//!   guest_ram      regions, addresses, writes that are marked
//!   segment        host ranges, scatter lists, copies; Gather and Scatter, which backends see
//!   shared_bytes   bytes shared with another process, such as a front-end's dirty log
//!   bounce_buffer  memory of this process that short frames pass through
//!   guard          loads, stores and copies that fail where memory is not there
//! ```

pub(crate) mod bounce_buffer;
pub mod guard;
pub(crate) mod guest_ram;
pub(crate) mod segment;
mod shared_bytes;

pub use shared_bytes::SharedBytes;
